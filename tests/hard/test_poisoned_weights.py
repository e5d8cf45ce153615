"""Weight files made or broken to do harm, given to the command: one line, status 4, and nothing of them is run."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import weight_files
from conftest import Varfm
from vcf_bytes import GOOD
from writers import Function, write_torch7

CANARY = "executed"


class Explodes:
    """Makes the canary when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (CANARY,)


def _bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Explodes()))


def _torch_zip(path: Path) -> None:
    torch.save({"a": Explodes()}, path)


def _torch_legacy(path: Path) -> None:
    torch.save({"a": Explodes()}, path, _use_new_zipfile_serialization=False)


def _numpy_objects(path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.array([Explodes()], object))


def _lua(path: Path) -> None:
    write_torch7(path, {"a": Function(f"os.execute('mkdir {CANARY}')".encode())})


def _hub_code(path: Path) -> None:
    path.mkdir()
    torch.save({"a": Explodes()}, path / "pytorch_model.bin")
    (path / "modeling.py").write_text(f"import os; os.mkdir('{CANARY}')")
    (path / "config.json").write_text('{"auto_map": {"AutoModel": "modeling.Model"}}')


def _cut(path: Path) -> None:
    weight_files.mpra_dragonn(path)
    os.truncate(path, path.stat().st_size * 2 // 3)


def _flipped(path: Path) -> None:
    torch.save({"a": torch.ones(1000)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<f", 1.0) * 100) + 50] ^= 1
    path.write_bytes(content)


def _web_page(path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html><html><body>Please sign in</body></html>")


def _lfs_pointer(path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(9000))


def _wrong_model(path: Path) -> None:
    weight_files.xpresso(path)


def _zip_slip(path: Path) -> None:
    torch.save({"a": torch.ones(3)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        for name in (f"../{CANARY}", f"../../{CANARY}", f"/{CANARY}"):
            archive.writestr(name, "x")
        archive.writestr(f"archive/../../../{CANARY}/data.pkl", pickle.dumps(Explodes()))


def _tar_link(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("pretrained.hdf5")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
        archive.addfile(tarfile.TarInfo(f"../{CANARY}"))


def _zip_bomb(path: Path) -> None:
    torch.save({"a": torch.ones(3)}, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/1", bytes(50 << 20))


def _gzip_bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes(50 << 20)))


def _hdf5_bomb(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("model_weights/a/kernel:0", (1 << 38,), np.float32, chunks=(1 << 10,), compression="gzip")


def _hdf5_link(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["model_weights"] = h5py.ExternalLink("/etc/passwd", "/")


def _hdf5_other_file(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("model_weights/a/kernel:0", (10,), np.uint8, external=[("/etc/passwd", 0, 10)])


def _renamed(path: Path) -> None:
    path.write_bytes(Path(sys.executable).resolve().read_bytes()[:5000])


def _safetensors_out_of_bounds(path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))


POISONED: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickle": (_bare_pickle, "a Python pickle, which varfm never runs"),
    "pickle in a PyTorch file": (_torch_zip, "holds the Python object"),
    "pickle in an old PyTorch file": (_torch_legacy, "holds the Python object"),
    "pickle in a NumPy file": (_numpy_objects, "no format that varfm knows"),
    "Lua function": (_lua, "a Torch7 file without weights"),
    "code of a model hub": (_hub_code, "holds the Python object"),
    "cut": (_cut, "damaged or cut"),
    "flipped": (_flipped, "the checksum of its member"),
    "web page": (_web_page, "a web page"),
    "LFS pointer": (_lfs_pointer, "a Git LFS pointer"),
    "zeros": (_zeros, "nothing but zeros"),
    "wrong model": (_wrong_model, "not the weights of this model"),
    "zip slip": (_zip_slip, ""),
    "tar with links": (_tar_link, "a tar archive"),
    "zip bomb": (_zip_bomb, "a packed zip archive"),
    "gzip bomb": (_gzip_bomb, "a gzip file"),
    "HDF5 bomb": (_hdf5_bomb, ""),
    "HDF5 with a link": (_hdf5_link, "is a link to another place"),
    "HDF5 with data elsewhere": (_hdf5_other_file, "keeps its data in another file"),
    "renamed program": (_renamed, "no format that varfm knows"),
    "tensor beyond the end": (_safetensors_out_of_bounds, ""),
}


@pytest.mark.parametrize("kind", POISONED)
def test_poisoned_weights_are_refused_in_one_line_and_nothing_is_run(
    varfm: Varfm, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    write, said = POISONED[kind]
    name = "pretrained.hdf5"  # as the published file; the content alone says what it is
    place = varfm.folder / "a" / "b"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    write(place / name)
    rows = varfm.file("in.vcf", GOOD)
    result = varfm.score(rows, "-o", varfm.out / "o.vcf", "-m", "mpra-dragonn", "--weights", place / name)
    assert result.status == 4, result.err
    errors = [line for line in result.err.splitlines() if not line.startswith("varfm: warning: ")]
    assert len(errors) == 1 and errors[0].startswith("varfm: error: ") and said in errors[0], result.err
    assert not list(varfm.folder.parent.rglob(CANARY)) and not Path("/", CANARY).exists()
    assert list(varfm.out.iterdir()) == []


@pytest.mark.parametrize("kind", ["pickle in a PyTorch file", "code of a model hub", "zip slip", "wrong model"])
def test_poisoned_weights_are_not_converted(varfm: Varfm, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(varfm.folder)
    POISONED[kind][0](varfm.folder / "w")
    result = varfm.run("models", "convert", "basset", varfm.folder / "w", varfm.out / "w.safetensors")
    assert result.status == 4
    assert not list(varfm.folder.parent.rglob(CANARY)) and list(varfm.out.iterdir()) == []


def test_the_canary_is_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Explodes()))
    assert (tmp_path / CANARY).is_dir()
