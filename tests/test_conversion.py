"""Tests of varfm.conversion: published files become safetensors in varfm's names, and load to the same network."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from basset_files import Layers, kipoi_shapes
from click.testing import CliRunner
from numpy.typing import NDArray
from torch import nn

from varfm import conversion, weights
from varfm.checkpoints import Checkpoint
from varfm.cli.models import models
from varfm.conversion import convert_cached, convert_file
from varfm.converted import converted_config, converted_path, model_of, sidecar_path
from varfm.download import RemoteFile
from varfm.errors import ModelError, OptionError
from varfm.models import ModelOptions, basenji2, basset, catalog
from varfm.models.loading import loaded, sizes
from varfm.weights import LocalWeights

BASSET = basset.BassetConfig(length=40, n_tracks=3, channels=(3, 2), widths=(5, 4), pools=(3, 3), n_hidden=(5,))
BASENJI2 = basenji2.Basenji2Config(
    length=32,
    n_tracks=3,
    stem_channels=3,
    stem_width=3,
    tower_channels=(4,),
    tower_width=3,
    residual_channels=2,
    dilations=(1, 2),
    crop_bins=1,
    head_channels=5,
)
TABLE = "a\tx\nb\tx\nc\tx\n"


def drawn(shape: tuple[int, ...], name: str) -> NDArray[np.float32]:
    values = np.random.RandomState(sum(name.encode())).normal(0, 0.3, shape)
    return (1 + np.abs(values) if "var" in name else values).astype(np.float32)


def basset_pth(folder: Path) -> Path:
    n_flat = BASSET.channels[-1] * BASSET.n_positions
    layers = Layers(((4, 3, 5, 3), (3, 2, 4, 3)), ((n_flat, 5), (5, 3)))
    state = {key: torch.from_numpy(drawn(shape, key)) for key, shape in kipoi_shapes(layers).items()}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "pretrained_model_reloaded_th.pth")
    return folder / "pretrained_model_reloaded_th.pth"


def basenji2_h5(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shapes: dict[str, tuple[int, ...]] = {}
    for number, size in enumerate(BASENJI2.convolutions):
        suffix = f"_{number}" if number else ""
        shapes[f"conv1d{suffix}/kernel"] = size
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"batch_normalization{suffix}/{name}"] = (size[2],)
    shapes |= {"dense/kernel": (BASENJI2.head_channels, 3), "dense/bias": (3,)}
    with h5py.File(folder / "model_human.h5", "w") as file:
        for key, shape in shapes.items():
            layer, name = key.split("/")
            file[f"model_weights/{layer}/{layer}/{name}:0"] = drawn(shape, key)
    return folder / "model_human.h5"


def network_from(checkpoint: Checkpoint, local: LocalWeights, options: ModelOptions | None = None) -> nn.Module:
    module = {"basset": basset, "basenji2": basenji2}[checkpoint.module]
    config = sizes(module.config_of(checkpoint), local, options or ModelOptions())
    return loaded(lambda: module.network_of(config), local, lambda tensors, path: module.convert(tensors, config, path))


def check_same(one: nn.Module, other: nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert len(first) > 10


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.mark.parametrize("name", ["basset", "basenji2"])
def test_converted_file_loads_to_the_same_network(name: str, tmp_path: Path) -> None:
    write, config = {"basset": (basset_pth, BASSET), "basenji2": (basenji2_h5, BASENJI2)}[name]
    source, checkpoint = write(tmp_path), catalog.get(name)
    sized = tmp_path / "config.json"
    sized.write_text(json.dumps(asdict(config)))
    target = tmp_path / "x.safetensors"
    made = convert_file(checkpoint, source, target, model_config=sized)
    assert made.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert made.sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    assert (model_of(target), made.published) == (name, False)
    published = LocalWeights(source, "", published=False, config=sized)
    converted = LocalWeights(target, "", published=False)  # its sizes are in itself
    check_same(network_from(checkpoint, published), network_from(checkpoint, converted))
    assert converted_config(target) == json.dumps(asdict(config), sort_keys=True)


def test_conversion_gives_equal_bytes_and_no_other_file(tmp_path: Path) -> None:
    basset_pth(tmp_path / "in")
    (tmp_path / "in" / "config.json").write_text(json.dumps(asdict(BASSET)))
    out = tmp_path / "out"
    out.mkdir()
    for name in ("a", "b"):
        convert_file(catalog.get("basset"), tmp_path / "in", out / f"{name}.safetensors")
    assert (out / "a.safetensors").read_bytes() == (out / "b.safetensors").read_bytes()
    assert sorted(path.name for path in out.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_file_of_another_network_leaves_nothing(tmp_path: Path) -> None:
    source = basset_pth(tmp_path)  # its sizes are not the published ones
    with pytest.raises(ModelError, match=r"pretrained_model_reloaded_th\.pth"):
        convert_file(catalog.get("basset"), source, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_model_that_is_read_as_published_has_nothing_to_convert(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(b"x")
    with pytest.raises(ModelError, match="mini is read as its authors published it"):
        convert_file(catalog.get("mini"), tmp_path / "x.h5", tmp_path / "x.safetensors")


def converted(tmp_path: Path) -> Path:
    source = basset_pth(tmp_path / "mine")
    (tmp_path / "mine" / "config.json").write_text(json.dumps(asdict(BASSET)))
    (tmp_path / "mine" / "targets.txt").write_text(TABLE)
    target = tmp_path / "mine" / "x.safetensors"
    convert_file(catalog.get("basset"), source.parent, target)
    source.unlink()
    return target


def test_converted_file_is_taken_but_never_as_the_published_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = converted(tmp_path)
    for override in (target, target.parent):
        found = weights.locate(catalog.get("basset"), override=override, offline=True)
        assert (found.path, found.published) == (target, False)
        assert found.sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    assert "a converted file cannot prove what it was made from" in caplog.text
    with pytest.raises(ModelError, match="require-published"):
        weights.locate(catalog.get("basset"), override=target, offline=True, require_published=True)


def test_file_converted_for_another_model_is_refused(tmp_path: Path) -> None:
    target = converted(tmp_path)
    (target.parent / "targets_human.txt").write_text("x")
    with pytest.raises(ModelError, match=r"was converted from the weights of basset, not of basenji2\."):
        weights.locate(catalog.get("basenji2"), override=target, offline=True)


def test_converted_file_is_not_converted_again(tmp_path: Path) -> None:
    target = converted(tmp_path)
    with pytest.raises(ModelError, match="is converted already"):
        convert_file(catalog.get("basset"), target, tmp_path / "y.safetensors")


def test_file_of_another_version_of_the_conversion_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "VERSION", 99)
    with pytest.raises(ModelError, match=r"another version of varfm.*varfm models convert basset"):
        weights.locate(catalog.get("basset"), override=converted(tmp_path), offline=True)


@pytest.fixture
def small(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """Give a Basset of small sizes that stands in the catalogue and lies in the cache."""
    source = basset_pth(cache / "basset")
    (cache / "basset" / "targets.txt").write_text(TABLE)
    monkeypatch.setattr(basset, "config_of", lambda checkpoint: BASSET)
    published = catalog.get("basset")
    main = replace(published.files[0], md5=hashlib.md5(source.read_bytes()).hexdigest())
    digest = hashlib.sha256(TABLE.encode()).hexdigest()
    table = RemoteFile("targets.txt", published.files[1].urls, digest, len(TABLE), role="table")
    entry = replace(published, files=(main, table), n_outputs=3)
    monkeypatch.setattr(catalog, "get", lambda name: entry)
    return entry


def test_conversion_in_the_cache_stands_for_the_published_file(small: Checkpoint) -> None:
    before = weights.locate(small)
    assert before.path.suffix == ".pth"
    assert convert_cached(small) is not None
    found = weights.locate(small, require_published=True)
    assert found.path == converted_path(small) == weights.path(small)
    assert (found.sha256, found.published, found.files) == (before.sha256, True, before.files)
    check_same(network_from(small, before), network_from(small, found))
    assert convert_cached(small) is None


def test_published_file_may_go_once_it_is_converted(small: Checkpoint) -> None:
    convert_cached(small)
    before = weights.locate(small)
    (converted_path(small).parent / small.files[0].name).unlink()
    assert weights.presence(small) == "yes"
    assert weights.locate(small, offline=True) == before
    assert [status.state for status in weights.verify(small)] == ["ok", "ok"]


@pytest.mark.parametrize("damage", ["file", "sidecar", "no sidecar", "other source", "other version"])
def test_conversion_that_is_not_as_it_was_made_is_passed_over_and_made_again(small: Checkpoint, damage: str) -> None:
    convert_cached(small)
    target, sidecar = converted_path(small), sidecar_path(small)
    content = json.loads(sidecar.read_text())
    if damage == "file":
        target.write_bytes(target.read_bytes()[:-4] + b"\0\0\0\1")
    elif damage == "sidecar":
        sidecar.write_text("{")
    elif damage == "no sidecar":
        sidecar.unlink()
    else:
        wrong = {"sources": {"other.pth": "0" * 64}} if damage == "other source" else {"version": 99}
        sidecar.write_text(json.dumps(content | wrong))
    assert weights.locate(small).path.suffix == ".pth"
    assert weights.verify(small)[-1].state == "wrong"
    assert convert_cached(small) is not None
    assert weights.locate(small).path == target
    assert json.loads(sidecar.read_text()) == content


def test_conversion_of_a_source_with_another_digest_is_not_used(small: Checkpoint) -> None:
    convert_cached(small)
    moved_on = replace(small, files=(replace(small.files[0], sha256="0" * 64, md5=None), small.files[1]))
    with pytest.raises(ModelError, match="are damaged"):
        weights.locate(moved_on)


def test_damaged_source_is_not_converted(small: Checkpoint) -> None:
    (converted_path(small).parent / small.files[0].name).write_bytes(b"other")
    with pytest.raises(ModelError, match=r"is not the published file\. Run: varfm models download basset"):
        convert_cached(small)
    assert not converted_path(small).exists()


def test_download_converts_and_says_so(small: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("varfm.weights.fetch", lambda *args, **kwargs: None)
    result = CliRunner().invoke(models, ["download", "basset"], catch_exceptions=False, standalone_mode=False)
    lines = result.stderr.splitlines()
    assert lines[1] == f"basset: 23 tensors converted to {converted_path(small)}"
    assert lines[-1].endswith(f"md5 and sha256 as published, in {converted_path(small)}")


def test_command_converts_and_keeps_what_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    source = basset_pth(tmp_path / "mine")
    (tmp_path / "mine" / "config.json").write_text(json.dumps(asdict(BASSET)))
    target = tmp_path / "x.safetensors"

    def call(*args: object) -> str:
        arguments = ["convert", *map(str, args)]
        result = CliRunner().invoke(models, arguments, catch_exceptions=False, standalone_mode=False)
        if result.exception:
            raise result.exception
        return result.stderr

    said = call("basset", source, target, "--model-config", source.with_name("config.json"))
    assert "not known as the published file" in said and str(target) in said
    before = target.read_bytes()
    with pytest.raises(OptionError, match=r"exists.*--force"):
        call("basset", source.parent, target)
    call("basset", source.parent, target, "--force")
    assert target.read_bytes() == before
    with pytest.raises(OptionError, match=r"must end with \.safetensors"):
        call("basset", source, tmp_path / "x.bin")
