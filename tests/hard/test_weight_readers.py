"""Weight files of every format, damaged or made to do harm: one clear line, never a traceback, and nothing is run."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import Varfm
from mutation import mutated
from vcf_bytes import GOOD
from writers import Function, Module, sequential, write_tf_bundle, write_torch7, write_xgboost_linear

from varfm.errors import ModelError
from varfm.readers import read_tensors, tf_bundle
from varfm.readers.safetensors import write_safetensors

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
BIAS = np.array([0.5, 1.5, 2.5])


def _torch7(path: Path) -> None:
    linear = Module("nn.Linear", {"weight": WEIGHT, "bias": BIAS, "gradBias": BIAS, "kW": 3})
    network = sequential(linear, Module("nn.Threshold", {"val": 1e-6}))
    write_torch7(path, {"model": network, "optim_state": {"m": WEIGHT}, "f": Function(b"code", {"a": 1})})


def _torch(path: Path, is_zip: bool) -> None:
    state = {"a.weight": torch.from_numpy(WEIGHT), "n": torch.tensor(5), "h": torch.ones(3, dtype=torch.bfloat16)}
    torch.save(state, path, _use_new_zipfile_serialization=is_zip)


def _keras(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["model_weights/dense_1/dense_1/kernel:0"] = WEIGHT


def _shards(path: Path) -> None:
    write_safetensors(path.with_name("1.safetensors"), {"a": WEIGHT})
    path.write_text('{"weight_map": {"a": "1.safetensors"}}')


WRITERS: dict[str, Callable[[Path], None]] = {
    "weights.t7": _torch7,
    "zip.pth": lambda path: _torch(path, True),
    "legacy.pth": lambda path: _torch(path, False),
    "tissue.save": lambda path: write_xgboost_linear(path, np.arange(50.0), 0.5, 2.0),
    "model.safetensors": lambda path: write_safetensors(path, {"a": WEIGHT, "b": BIAS}, {"model": "mini"}),
    "model.ckpt.index": lambda path: write_tf_bundle(path.with_suffix(""), {"a": WEIGHT, "b": BIAS}),
    "model.ckpt.data-00000-of-00001": lambda path: write_tf_bundle(path.with_suffix(""), {"a": WEIGHT, "b": BIAS}),
    "model.h5": _keras,
    "model.safetensors.index.json": _shards,
}
ALL = pytest.mark.parametrize("name", WRITERS)


def outcome(path: Path) -> str:
    """Read: `read`, or `refused` by one printable line of moderate length. Anything else fails the test."""
    try:
        read_tensors(path)
    except ModelError as error:
        text = str(error)
        assert text.isprintable() and len(text) < 900, text
        return "refused"
    return "read"


def write(folder: Path, name: str) -> Path:
    WRITERS[name](folder / name)
    assert outcome(folder / name) == "read"
    return folder / name


@ALL
def test_damaged_file_is_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name)
    content = path.read_bytes()
    draw = random.Random(name)
    outcomes: Counter[str] = Counter()
    for _ in range(1000):
        path.unlink()
        path.write_bytes(mutated(content, draw))
        outcomes[outcome(path)] += 1
    assert outcomes["refused"] > 500


@ALL
def test_cut_file_is_refused_at_every_length(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name)
    content = path.read_bytes()
    for length in range(0, len(content) - 1, max(1, len(content) // 100)):
        path.unlink()
        path.write_bytes(content[:length])
        assert outcome(path) == "refused", length


@pytest.mark.parametrize("name", ["model.ckpt.index", "model.ckpt.data-00000-of-00001"])
def test_flipped_bit_never_changes_a_tensor_where_there_is_a_checksum(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name)
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        if outcome(path) == "read":
            tensors = read_tensors(path)
            assert tensors["a"].tolist() == WEIGHT.tolist() and tensors["b"].tolist() == BIAS.tolist()


def test_index_whose_checksums_are_right_may_say_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever forges a file can compute a checksum too."""
    path = write(tmp_path, "model.ckpt.index")
    content = path.read_bytes()
    monkeypatch.setattr(tf_bundle, "masked", lambda _: _Anything())
    draw = random.Random(5)
    outcomes: Counter[str] = Counter()
    for _ in range(1500):
        path.unlink()
        path.write_bytes(mutated(content, draw))
        outcomes[outcome(path)] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 50


class _Anything:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def test_pickle_whose_checksum_is_right_may_say_anything(tmp_path: Path) -> None:
    path = write(tmp_path, "zip.pth")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    draw = random.Random(6)
    outcomes: Counter[str] = Counter()
    for _ in range(1000):
        path.unlink()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, mutated(content, draw) if name.endswith("data.pkl") else content)
        outcomes[outcome(path)] += 1
    assert outcomes["refused"] > 500


class _Explodes:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


def _bombs(folder: Path) -> list[Path]:
    """Write files that would make a folder `executed`, were any of them run."""
    bare = pickle.dumps(_Explodes())
    (folder / "bare.pkl").write_bytes(bare)
    (folder / "protocol0.pth").write_bytes(pickle.dumps(_Explodes(), 0))
    torch.save({"a": _Explodes()}, folder / "zip.pth")
    torch.save({"a": _Explodes()}, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    np.save(folder / "array.npy", np.array([_Explodes()], object))
    write_torch7(folder / "lua.t7", {"a": Function(b"os.execute('mkdir executed')"), "b": bare.decode("latin-1")})
    hub = folder / "hub"
    hub.mkdir()
    torch.save({"a": _Explodes()}, hub / "pytorch_model.bin")
    (hub / "modeling.py").write_text("import os; os.mkdir('executed')")
    return [*sorted(path for path in folder.iterdir() if path.is_file()), hub]


def test_no_bomb_goes_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bombs"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    bombs = _bombs(folder)
    assert len(bombs) == 7
    for path in bombs:
        assert outcome(path) == "refused"
    assert not (tmp_path / "executed").exists()
    pickle.loads((folder / "bare.pkl").read_bytes())
    assert (tmp_path / "executed").exists(), "the bombs must be real"


HTML = b"<!DOCTYPE html><html><body>Please sign in</body></html>"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HTML, "a web page, not a weight file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a Git LFS pointer"),
        (b"", "the file is empty"),
        (bytes(9000), "nothing but zeros"),
        (pickle.dumps(_Explodes()), "a Python pickle, which varfm never runs"),
        (b"4\n1\n3\nV 1\n13\nnn.Sequential\n", "a Torch7 file written as text"),
    ],
    ids=[*"abcdef"],
)
@pytest.mark.parametrize("name", [*WRITERS, "prefix"])
def test_what_a_failed_download_leaves_is_named(name: str, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_tensors(tmp_path / name)
    assert str(caught.value).isprintable()
    assert said in str(caught.value) or name == "model.safetensors.index.json"


@ALL
def test_weights_of_another_format_end_the_command_with_status_4(name: str, varfm: Varfm) -> None:
    rows, path = varfm.file("in.vcf", GOOD), varfm.folder / "weights" / name
    path.parent.mkdir()
    WRITERS[name](path)
    message = varfm.refused(4, rows, "-m", "mpra-dragonn", "--weights", path)
    assert "not the weights of this model" in message


def test_pickle_bomb_as_weights_ends_the_command_with_status_4(varfm: Varfm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(varfm.folder)
    rows = varfm.file("in.vcf", GOOD)
    torch.save({"a": _Explodes()}, varfm.folder / "w.pth")
    message = varfm.refused(4, rows, "-m", "mpra-dragonn", "--weights", varfm.folder / "w.pth")
    assert "holds the Python object" in message and not (varfm.folder / "executed").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="not a file but a device or a pipe"):
        read_tensors(tmp_path / "pipe")
