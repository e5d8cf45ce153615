"""Tests of varfm.readers: real Keras files, safetensors, and files that are damaged, foreign or hostile."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from writers import write_tf_bundle, write_torch7, write_xgboost_linear

from varfm.errors import ModelError
from varfm.readers import Tensors, read_tensors
from varfm.readers.safetensors import read_metadata, write_safetensors

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the folder ../shared/data is not here")


@pytest.fixture
def keras_file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs["backend"] = np.bytes_("tensorflow")
        group = file.create_group("model_weights/dense_1/dense_1")
        group["kernel:0"] = np.arange(6, dtype=np.float32).reshape(3, 2)
        group["bias:0"] = np.array([0.5, -0.5], np.float64)
        file["optimizer_weights/Variable:0"] = np.zeros(3)
    return path


@pytest.fixture
def safetensors_file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    save_file({"a": np.array([[1.0, 2.0]], np.float32), "n": np.array(7, np.int64)}, path)
    return path


@needs_shared
@pytest.mark.parametrize("name", ["xpresso_human_median.h5", "xpresso_mouse_median.h5"])
def test_published_xpresso_has_its_ten_tensors(name: str) -> None:
    tensors = read_tensors(SHARED / name)
    assert {key: array.shape for key, array in tensors.items()} == {
        "conv1d_1/conv1d_1/kernel:0": (6, 4, 128),
        "conv1d_1/conv1d_1/bias:0": (128,),
        "conv1d_2/conv1d_2/kernel:0": (9, 128, 32),
        "conv1d_2/conv1d_2/bias:0": (32,),
        "dense_1/dense_1/kernel:0": (1126, 64),
        "dense_1/dense_1/bias:0": (64,),
        "dense_2/dense_2/kernel:0": (64, 2),
        "dense_2/dense_2/bias:0": (2,),
        "dense_3/dense_3/kernel:0": (2, 1),
        "dense_3/dense_3/bias:0": (1,),
    }
    assert sum(array.size for array in tensors.values()) == 112_357


@needs_shared
def test_published_mpra_dragonn_has_weights_at_its_root() -> None:
    tensors = read_tensors(SHARED / "mpra_dragonn_conv.hdf5")
    assert len(tensors) == 20
    assert tensors["dense_1/dense_1/kernel:0"].shape == (15_960, 12)


def test_keras_file_gives_weights_without_the_optimizer(keras_file: Path) -> None:
    tensors = read_tensors(keras_file)
    assert sorted(tensors) == ["dense_1/dense_1/bias:0", "dense_1/dense_1/kernel:0"]
    assert tensors["dense_1/dense_1/kernel:0"].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_content_decides_and_not_the_suffix(safetensors_file: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "looks_like.h5"
    safetensors_file.rename(renamed)
    tensors = read_tensors(renamed)
    assert tensors["a"].tolist() == [[1.0, 2.0]]
    assert tensors["n"].item() == 7


def test_big_endian_and_packed_data_come_out_native(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("kernel", data=np.arange(100, dtype=">f4"), compression="gzip", shuffle=True)
    array = read_tensors(tmp_path / "w.h5")["kernel"]
    assert array.dtype == np.dtype(np.float32) and array.dtype.isnative
    assert array.tolist() == list(range(100))


def test_take_gives_float32_and_lets_the_file_decide_a_size(keras_file: Path) -> None:
    tensors = read_tensors(keras_file)
    bias = tensors.take("dense_1/dense_1/bias:0", (None,))
    assert bias.dtype == np.float32 and bias.tolist() == [0.5, -0.5]


def test_take_copies_only_where_type_or_order_differ(tmp_path: Path) -> None:
    arrays = {"fits": np.ones((2, 3), np.float32), "turned": np.ones((3, 2), np.float32).T, "wide": np.ones((2, 3))}
    tensors = Tensors(tmp_path, arrays)
    taken = {key: tensors.take(key, (2, 3)) for key in arrays}
    assert {key: np.shares_memory(taken[key], arrays[key]) for key in arrays} == {
        "fits": True,
        "turned": False,
        "wide": False,
    }
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in taken.values())


def test_take_gives_an_array_that_may_be_written_to(tmp_path: Path) -> None:
    fixed = np.ones(3, np.float32)
    fixed.flags.writeable = False
    Tensors(tmp_path, {"a": fixed}).take("a", (3,))[0] = 2
    assert fixed.tolist() == [1, 1, 1]


def test_take_names_file_key_and_both_shapes(keras_file: Path) -> None:
    with pytest.raises(
        ModelError, match=r"weights\.h5: tensor 'dense_1/dense_1/kernel:0' has shape \(3, 2\), exp.* \(3, 4\)"
    ):
        read_tensors(keras_file).take("dense_1/dense_1/kernel:0", (3, 4))


def test_take_refuses_a_key_that_is_not_there(keras_file: Path) -> None:
    with pytest.raises(ModelError, match=r"no tensor 'dense_9/kernel:0' of shape \(any, 4\)"):
        read_tensors(keras_file).take("dense_9/kernel:0", (None, 4))


def test_tensor_that_no_layer_took_is_reported(keras_file: Path) -> None:
    tensors = read_tensors(keras_file)
    tensors.take("dense_1/dense_1/bias:0", (2,))
    with pytest.raises(ModelError, match=r"some tensors belong to no part of the model \('dense_1/dense_1/kernel:0'\)"):
        tensors.check_all_taken()
    tensors.take("dense_1/dense_1/kernel:0", (3, 2))
    tensors.check_all_taken()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_or_infinity_in_a_file_is_refused(tmp_path: Path, bad: float) -> None:
    save_file({"a": np.array([1.0, bad], np.float32)}, tmp_path / "w")
    with pytest.raises(ModelError, match="tensor 'a' holds NaN or infinity"):
        read_tensors(tmp_path / "w")


@pytest.mark.parametrize("place", [0, 65_535, 65_536, 149_999])
@pytest.mark.parametrize("is_turned", [False, True], ids=["plain", "transposed"])
def test_nan_is_found_at_any_place_of_a_large_tensor(tmp_path: Path, place: int, is_turned: bool) -> None:
    array = np.zeros((300, 500), np.float32)
    array.reshape(-1)[place] = np.nan
    tensors = Tensors(tmp_path, {"whole": np.zeros(3, np.int64), "a": array.T if is_turned else array})
    with pytest.raises(ModelError, match="tensor 'a' holds NaN or infinity"):
        tensors.check_finite()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_mapped_file_is_in_memory_only_where_it_is_used(tmp_path: Path) -> None:
    arrays = {f"a{n}": np.ones(2_000_000, np.float32) for n in range(16)}
    save_file(arrays, tmp_path / "w")
    code = """
import pathlib, sys, torch
from varfm.readers import read_tensors
def peak(): return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
read_tensors(pathlib.Path(sys.argv[2]))
before = peak()
tensors = read_tensors(pathlib.Path(sys.argv[1]))
print(peak() - before, len(tensors))
"""
    save_file({"a": np.ones(1, np.float32)}, tmp_path / "small")
    command = [sys.executable, "-c", code, str(tmp_path / "w"), str(tmp_path / "small")]
    grown, n_tensors = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(n_tensors) == 16
    assert int(grown) < 128_000 / 4  # of the file's 128 MB, in kB


def test_looking_for_nan_takes_little_memory(tmp_path: Path) -> None:
    tensors = Tensors(tmp_path, {"a": np.zeros(4_000_000, np.float32), "b": np.zeros((2000, 2000), np.float32).T})
    tracemalloc.start()
    try:
        tensors.check_finite()
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_only_formats_of_torch_need_torch(tmp_path: Path, keras_file: Path) -> None:
    write_xgboost_linear(tmp_path / "tissue.save", np.zeros(3), 0.0, 2.0)
    write_torch7(tmp_path / "w.t7", {"a": np.ones(2)})
    write_tf_bundle(tmp_path / "w", {"a": np.ones(2)})
    names = [keras_file.name, "tissue.save", "w.t7", "w.index"]
    code = f"""
import sys
from pathlib import Path
from varfm.readers import read_tensors
for name in {names}:
    read_tensors(Path(name))
assert "torch" not in sys.modules
"""
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_safetensors_are_written_as_the_library_reads_them(tmp_path: Path) -> None:
    arrays = {
        "turned": np.arange(6.0).reshape(2, 3).T,
        "big-endian": np.arange(3, dtype=">f4"),
        "scalar": np.array(7),
        "empty": np.zeros((0, 2), np.float16),
        "bytes": np.arange(3, dtype=np.uint8),
        "sliced": np.arange(100_000, dtype=np.int32)[::7],
    }
    write_safetensors(tmp_path / "w.safetensors", arrays, {"model": "mini", "format": "pt"})
    found = load_file(tmp_path / "w.safetensors")
    assert found.keys() == arrays.keys()
    for key, array in arrays.items():
        assert found[key].dtype == array.dtype.newbyteorder("=") and found[key].shape == array.shape
        np.testing.assert_array_equal(found[key], array)
    assert read_metadata(tmp_path / "w.safetensors") == {"format": "pt", "model": "mini"}
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_equal_arrays_give_equal_bytes_in_any_order(tmp_path: Path) -> None:
    one, two = np.ones(3, np.float32), np.ones(2)
    write_safetensors(tmp_path / "1", {"a": one, "b": two}, {"x": "1", "y": "2"})
    write_safetensors(tmp_path / "2", {"b": two, "a": one}, {"y": "2", "x": "1"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_safetensors_without_texts_have_no_metadata(safetensors_file: Path) -> None:
    assert read_metadata(safetensors_file) == {}


def test_metadata_of_another_file_are_refused(keras_file: Path) -> None:
    with pytest.raises(ModelError, match="damaged or cut safetensors file"):
        read_metadata(keras_file)


@pytest.mark.parametrize("array", [np.ones(2, np.complex64), np.array([True]), np.array(["text"]), np.array([None])])
def test_array_that_is_no_number_is_not_written(tmp_path: Path, array: np.ndarray) -> None:
    (tmp_path / "w").write_bytes(b"old")
    with pytest.raises(ModelError, match=r"'a' holds .*, which safetensors files of varfm do not keep"):
        write_safetensors(tmp_path / "w", {"a": array})
    assert (tmp_path / "w").read_bytes() == b"old" and os.listdir(tmp_path) == ["w"]


def test_writing_safetensors_takes_little_memory(tmp_path: Path) -> None:
    arrays = {"a": np.zeros((2000, 2000), np.float32).T, "b": np.zeros(4_000_000, np.float32)}
    tracemalloc.start()
    try:
        write_safetensors(tmp_path / "w", arrays)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


class _Explodes:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\n <!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (bytes(5000), "nothing but zeros"),
        (b"PK\x03\x04data.pkl", "unusual zip archive"),
        (b"\x1f\x8b\x08\0", "a gzip file"),
        (pickle.dumps(_Explodes()), "a Python pickle, which varfm never runs"),
        (
            random.Random(1).randbytes(5000),
            "no format that varfm knows, or only a part of a file. Expected a weight file: Keras",
        ),
        (b"\x89HDF\r\n\x1a\n", "damaged or cut HDF5 file"),
        (b"\x89HDF\r\n\x1a\n" + random.Random(2).randbytes(5000), "damaged or cut HDF5 file"),
        (b"\x40\0\0\0\0\0\0\0{", "damaged or cut safetensors file"),
        (b"\x02\0\0\0\0\0\0\0{x" + bytes(100), "damaged or cut safetensors file"),
    ],
)
def test_foreign_file_is_named_in_one_line(
    tmp_path: Path, content: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.h5"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_tensors(tmp_path / "missing")


def test_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the folder holds neither model\.safetensors nor pytorch_model.bin"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("kind", ["keras_file", "safetensors_file"])
def test_cut_file_is_an_error_at_every_length(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    content = Path(request.getfixturevalue(kind)).read_bytes()
    for length in range(0, len(content) - 1, max(1, len(content) // 100)):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(ModelError):
            read_tensors(tmp_path / "cut")


@pytest.mark.parametrize("kind", ["keras_file", "safetensors_file"])
def test_flipped_bit_gives_tensors_or_a_model_error(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    content = Path(request.getfixturevalue(kind)).read_bytes()
    draw = random.Random(3)
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (tmp_path / "flipped").write_bytes(damaged)
        try:
            outcomes.add(type(read_tensors(tmp_path / "flipped")))
        except ModelError as error:
            assert "\n" not in str(error)
            outcomes.add(ModelError)
    assert outcomes == {Tensors, ModelError}


def hostile(path: Path, kind: str) -> None:
    secret = path.with_name("secret.h5")
    with h5py.File(secret, "w") as file:
        file["kernel"] = np.ones(4, np.float32)
    with h5py.File(path, "w") as file:
        file["own"] = np.ones(4, np.float32)
        if kind == "external link":
            file["kernel"] = h5py.ExternalLink(secret.name, "kernel")
        elif kind == "soft link":
            file["kernel"] = h5py.SoftLink("/own")
        elif kind == "linked root":
            file["model_weights"] = h5py.ExternalLink(secret.name, "/")
        elif kind == "external storage":
            file.create_dataset("kernel", (4,), "f4", external=[(str(secret), 0, 16)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "kernel", (4,))
            file.create_virtual_dataset("kernel", layout)
        elif kind == "cycle":
            file.create_group("group")
            file["group/again"] = file["/"]
        elif kind == "text":
            file["kernel"] = "text"
        elif kind == "compound":
            file["kernel"] = np.zeros(2, [("a", "f4"), ("b", "i4")])
        elif kind == "filter":
            file.create_dataset("kernel", data=np.ones(100, np.float32), compression="lzf")
        elif kind == "bomb":
            file.create_dataset("kernel", data=np.zeros(1_000_000, np.float32), compression="gzip", compression_opts=9)
        elif kind == "unwritten":
            file.create_dataset("kernel", (100,), "f4")
        elif kind == "huge":
            file.create_dataset("kernel", (10**12,), "f4", chunks=(1000,))[:4] = 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("external link", "is a link to another place"),
        ("soft link", "is a link to another place"),
        ("linked root", "is a link to another place"),
        ("external storage", "keeps its data in another file"),
        ("virtual", "keeps its data in another file"),
        ("cycle", "too many or too deeply nested groups"),
        ("text", "expected numbers"),
        ("compound", "expected numbers"),
        ("filter", "packed by an unusual filter"),
        ("bomb", "claim to hold 4000016 bytes"),
        ("unwritten", "was never written"),
        ("huge", "claim to hold 4000000000016 bytes"),
    ],
)
def test_hostile_hdf5_file_is_refused(tmp_path: Path, kind: str, said: str) -> None:
    hostile(tmp_path / "w.h5", kind)
    with pytest.raises(ModelError, match=said):
        read_tensors(tmp_path / "w.h5")


def test_hdf5_without_weights_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_group("model_weights/dropout_1")
    with pytest.raises(ModelError, match="an HDF5 file without weights"):
        read_tensors(tmp_path / "w.h5")


@pytest.mark.parametrize(
    ("dtype", "content", "values"), [("BF16", b"\x80\x3f\0\xc0", [1.0, -2.0]), ("BOOL", b"\0\1", [0, 1])]
)
def test_safetensors_type_that_numpy_lacks_becomes_one_that_it_has(
    tmp_path: Path, dtype: str, content: bytes, values: list[float]
) -> None:
    header = f'{{"a":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{len(content)}]}}}}'.encode()
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header + content)
    assert read_tensors(tmp_path / "w")["a"].tolist() == values


def test_safetensors_type_that_is_no_number_is_refused_by_name(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(ModelError, match="'a' holds F8_E4M3, expected one of F16, F32"):
        read_tensors(tmp_path / "w")
