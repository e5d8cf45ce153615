"""Tests of varfm.readers.xgboost_linear: the layout of ExPecto's models, every field of it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from writers import write_xgboost_linear

from varfm.errors import ModelError
from varfm.readers import read_tensors

N_HEAD = 318


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_xgboost_linear(tmp_path / "tissue.save", np.array([0.5, -1.25, 3.0]), -0.0625, 2.0)
    return tmp_path / "tissue.save"


def test_weights_bias_and_base_score_are_read(model: Path) -> None:
    tensors = read_tensors(model)
    assert {key: array.tolist() for key, array in tensors.items()} == {
        "weight": [0.5, -1.25, 3.0],
        "bias": -0.0625,
        "base_score": 2.0,
    }
    assert {array.dtype.name for array in tensors.values()} == {"float32"}
    assert tensors.take("bias", ()).shape == () and tensors.take("base_score", ()).shape == ()


def test_size_of_the_published_models_comes_out(tmp_path: Path) -> None:
    write_xgboost_linear(tmp_path / "w", np.zeros(20_030), 0.0, 2.0)
    assert (tmp_path / "w").stat().st_size == 80_442
    assert read_tensors(tmp_path / "w").take("weight", (20_030,)).shape == (20_030,)


def test_every_flipped_bit_of_the_head_is_refused_but_for_the_base_score(model: Path) -> None:
    content = model.read_bytes()
    for place in range(N_HEAD):
        if 4 <= place < 8:
            continue
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        model.write_bytes(damaged)
        with pytest.raises(ModelError) as caught:
            read_tensors(model)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [*range(0, N_HEAD, 13), 318, 322, 333, 335, 338])
def test_any_other_size_is_refused(model: Path, length: int) -> None:
    content = model.read_bytes()
    assert len(content) == 334
    model.write_bytes((content + bytes(10))[:length])
    with pytest.raises(ModelError):
        read_tensors(model)


@pytest.mark.parametrize(
    ("offset", "field", "said"),
    [
        (8, struct.pack("<I", 4), "4 features, then"),
        (12, struct.pack("<i", 3), r"3 features, then \[3, 10,"),
        (148, b"reg:logist", "reg:logist.*, expected .*reg:linear"),
        (166, b"gbtreexx", "gbtreexx.*, expected .*gblinear"),
        (178, struct.pack("<i", 2), r"expected \[0, 10, b'reg:linear', 8, b'gblinear', 3, 1, 4\]"),
        (139, b"\1", "values in reserved fields"),
        (182, b"\1", "values in reserved fields"),
        (4, struct.pack("<f", float("nan")), "tensor 'base_score' holds NaN"),
        (330, struct.pack("<f", float("inf")), "tensor 'bias' holds NaN or infinity"),
    ],
    ids=[*"abcdefghi"],
)
def test_field_of_another_model_is_named(model: Path, offset: int, field: bytes, said: str) -> None:
    content = bytearray(model.read_bytes())
    content[offset : offset + len(field)] = field
    model.write_bytes(content)
    with pytest.raises(ModelError, match=said):
        read_tensors(model)
