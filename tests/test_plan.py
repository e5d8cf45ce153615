"""The numeric plan: a function of models and options alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from toys import binned_model, point_model

from varfm.errors import DeviceError, OptionError
from varfm.plan import make_plan, resolve_device


def test_each_model_brings_its_own_rows_per_batch() -> None:
    models = [point_model(rows=7), binned_model(rows=5)]
    plan = make_plan(models, device="cpu", threads=3)
    assert (plan.rows_of("toy-point"), plan.rows_of("toy-binned")) == (7, 5)
    assert (plan.device, plan.precision, plan.threads, plan.torch) == ("cpu", "float32", 3, torch.__version__)


def test_a_batch_size_that_was_asked_for_holds_for_every_model() -> None:
    plan = make_plan([point_model(), binned_model()], device="cpu", batch_size=9)
    assert plan.batch_rows == (("toy-point", 9), ("toy-binned", 9))


def test_a_gpu_takes_the_second_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    plan = make_plan([replace(point_model(), batch_rows=(3, 30))], device="cuda:1")
    assert (plan.device, plan.rows_of("toy-point")) == ("cuda:1", 30)
    assert str(resolve_device("auto")) == str(resolve_device("cuda")) == "cuda:0"
    with pytest.raises(DeviceError, match="there are 2 CUDA devices"):
        resolve_device("cuda:2")


def test_equal_models_and_options_give_equal_plans_that_json_can_hold() -> None:
    plan = make_plan([point_model()], device="cpu")
    assert plan == make_plan([point_model()], device="cpu")
    assert plan.threads >= 1
    assert json.loads(json.dumps(plan.as_dict()))["batch_rows"] == {"toy-point": 4}


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_a_row_at_least(size: int) -> None:
    with pytest.raises(OptionError, match=f"--batch-size {size}"):
        make_plan([point_model()], batch_size=size)


def test_threads_have_a_bound() -> None:
    assert make_plan([point_model()], device="cpu", threads=1024).threads == 1024
    for threads in (-1, 1025):
        with pytest.raises(OptionError, match=f"--threads {threads}: give 1 to 1,024"):
            make_plan([point_model()], device="cpu", threads=threads)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0", "cuda:-1", "", "CPU"])
def test_a_device_that_does_not_exist_is_a_usage_error(name: str) -> None:
    with pytest.raises(OptionError, match="give auto, cpu, cuda, cuda:N or mps"):
        resolve_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(DeviceError, match="finds no CUDA device here"):
        resolve_device("cuda")
