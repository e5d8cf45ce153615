"""Tests of varfm.readers.tf_bundle and crc32c: checkpoints written by TensorFlow itself, and damaged ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from writers import write_tf_bundle

from varfm.errors import ModelError
from varfm.readers import read_tensors, tf_bundle
from varfm.readers.crc32c import crc32c, masked

DATA = Path(__file__).parent / "reader_data"
KERNEL = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Copy the checkpoint that TensorFlow wrote from an object graph."""
    for path in DATA.glob("objects.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "objects.index"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),  # the check value of the catalogue of CRCs
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4, with the next two
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_checksum_has_the_published_values(content: bytes, expected: int) -> None:
    assert crc32c(content) == expected


def test_checksum_of_any_length_is_that_of_the_definition() -> None:
    content = np.random.RandomState(1).bytes(600_001)
    register, by_length = 0xFFFFFFFF, [0]
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    for byte in content:
        register = (register >> 8) ^ table[(register ^ byte) & 0xFF]
        by_length.append(register ^ 0xFFFFFFFF)
    for length in (*range(64, 140), 1000, 4096, 262_143, 262_144, 262_145, 262_147, 262_148, 524_289, 600_001):
        assert crc32c(content[:length]) == by_length[length], length


def test_masked_checksum_is_rotated_and_shifted() -> None:
    assert masked(0) == 0xA282EAD8
    assert masked(0x00008000) == 0xA282EAD9


def test_object_graph_of_tensorflow_gives_its_numbers_alone(bundle: Path) -> None:
    tensors = read_tensors(bundle)
    assert {key: (array.dtype.name, array.tolist()) for key, array in tensors.items()} == {
        f"module/average{VALUE}": ("float64", [1.5, -2.0]),
        f"module/counter{VALUE}": ("int64", 7),
        f"module/half{VALUE}": ("float32", [0.5, 2.0]),
        f"module/w{VALUE}": ("float32", KERNEL.tolist()),
    }


@pytest.mark.parametrize("name", ["variables.index", "variables", "variables.data-00001-of-00002"])
def test_index_prefix_and_data_file_stand_for_the_same_checkpoint(name: str) -> None:
    tensors = read_tensors(DATA / name)
    assert {key: array.tolist() for key, array in tensors.items()} == {
        "cnn0/conv1d/kernel": KERNEL.tolist(),
        "final/dense/bias": [0.5, 1.5],
    }


@pytest.mark.parametrize("inside", ["", "variables"])
def test_folder_with_one_checkpoint_stands_for_it(bundle: Path, inside: str) -> None:
    folder = bundle.parent / "model" / inside
    folder.mkdir(parents=True)
    for path in bundle.parent.glob("objects.*"):
        shutil.copy(path, folder / path.name.replace("objects", "variables"))
    assert len(read_tensors(bundle.parent / "model")) == 4


def test_folder_with_two_checkpoints_is_refused(bundle: Path) -> None:
    shutil.copy(bundle, bundle.with_name("other.index"))
    with pytest.raises(ModelError, match="the folder holds two or more TensorFlow checkpoints"):
        read_tensors(bundle.parent)


def test_tensors_may_be_written_to_and_the_file_stays(bundle: Path) -> None:
    before = bundle.with_suffix(".data-00000-of-00001").read_bytes()
    for array in read_tensors(bundle).values():
        assert array.flags.aligned
        array[...] = 9
    assert bundle.with_suffix(".data-00000-of-00001").read_bytes() == before


def test_variable_in_slices_is_refused() -> None:
    with pytest.raises(ModelError, match="a tensor is cut into slices, which is not supported"):
        read_tensors(DATA / "sliced.index")


def test_checkpoint_of_many_blocks_and_every_type_comes_back(tmp_path: Path) -> None:
    draw = np.random.RandomState(2)
    arrays = {f"cnn{i}/kernel": draw.normal(size=(i % 3, 4, i)).astype(np.float32) for i in range(100)}
    arrays |= {dtype: np.array([1, 2], dtype) for dtype in ("f2", "f8", "i4", "i8", "u1")}
    arrays |= {
        "scalar": np.array(5, np.int64),
        "odd": np.ones(3, np.uint8),
        "pi": np.array(3.25),
        "transposed": KERNEL.T,
    }
    write_tf_bundle(tmp_path / "m", arrays)
    tensors = read_tensors(tmp_path / "m.index")
    assert tensors.keys() == arrays.keys()
    for key, array in arrays.items():
        assert tensors[key].dtype == array.dtype and tensors[key].flags.aligned
        np.testing.assert_array_equal(tensors[key], array)


def test_missing_data_file_is_named(bundle: Path) -> None:
    bundle.with_suffix(".data-00000-of-00001").unlink()
    with pytest.raises(ModelError, match=r"objects\.data-00000-of-00001: cannot be read .*the same folder"):
        read_tensors(bundle)


def test_every_flipped_bit_of_a_tensor_is_caught(bundle: Path) -> None:
    data = bundle.with_suffix(".data-00000-of-00001")
    content = data.read_bytes()
    start = content.index(KERNEL.tobytes())
    for place in range(start, start + KERNEL.nbytes):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        data.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"the checksum of tensor 'module/w.*' is wrong"):
            read_tensors(bundle)


def test_every_flipped_bit_of_an_entry_of_the_index_is_caught(bundle: Path) -> None:
    content = bundle.read_bytes()
    start = content.index(b"module/average")
    for place in range(start, content.index(b"w/.ATTR")):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        bundle.write_bytes(damaged)
        with pytest.raises(ModelError, match="the checksum of the block at byte 0 is wrong"):
            read_tensors(bundle)


def test_data_file_cut_at_any_place_is_refused(bundle: Path) -> None:
    data = bundle.with_suffix(".data-00000-of-00001")
    content = data.read_bytes()
    end = content.index(KERNEL.tobytes()) + KERNEL.nbytes
    for length in range(0, end, 7):
        data.write_bytes(content[:length])
        with pytest.raises(ModelError, match="cut: it has"):
            read_tensors(bundle)


N_BLOCK = 37
"""Bytes of the first block of the index of one tensor: two entries, 8 bytes of restarts, the type of compression."""


def replace_in_first_block(path: Path, old: bytes, new: bytes) -> None:
    """Put other bytes in, and make the checksum right again."""
    content = path.read_bytes()
    block, rest = content[:N_BLOCK], content[N_BLOCK + 4 :]
    assert block.count(old) == 1 and len(old) == len(new)
    block = block.replace(old, new)
    path.write_bytes(block + masked(crc32c(block)).to_bytes(4, "little") + rest)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"\x08\x01\x12\x04", b"\x08\x02\x12\x04", r"tensor 'a' of shape \(2,\) takes 8 bytes"),
        (b"\x08\x01\x12\x04", b"\x08\x08\x12\x04", "tensor 'a' is of TensorFlow's type number 8, which is not supp"),
        (b"\x12\x02\x08\x02", b"\x12\x02\x08\x03", r"tensor 'a' of shape \(3,\) takes 8 bytes"),
        (b"\x12\x02\x08\x02", b"\x12\x02\x10\x02", r"tensor 'a' of shape \(0,\) takes 8 bytes"),
        (b"\x28\x08\x35", b"\x18\x08\x35", r"takes 0 bytes"),
        (b"\x28\x08\x35", b"\x2b\x08\x35", "a field has the unknown type 3"),
        (b"\x28\x08\x35", b"\x28\xff\xff", "damaged or cut index"),
        (b"\x12\x04\x12", b"\x12\x7f\x12", "a field is longer than its message"),
        (b"\x08\x01\x1a\x02", b"\x08\x00\x1a\x02", "it counts 0 data files"),
        (b"\x08\x01\x1a\x02", b"\x10\x01\x1a\x02", "it counts 0 data files"),
        (b"\x08\x01\x1a\x02", b"\x08\x7f\x1a\x02", r"w\.data-00000-of-00127: cannot be read"),
        (b"\x00\x01\x0fa", b"\x09\x01\x0fa", "an entry is longer than its block"),
        (b"\x00\x01\x0fa", b"\x00\x7f\x0fa", "an entry is longer than its block"),
        (b"\x00\x01\x0fa", b"\x00\x01\x0f\xff", "damaged or cut index"),
        (b"\x00\x01\x0fa", b"\x00\x01\x0f\x00", "a tensor is cut into slices"),
        (b"\x01\0\0\0\0", b"\xff\xff\xff\xff\0", "it counts 0 data files"),
        (b"\x01\0\0\0\0", b"\x01\0\0\0\x01", r"its index is compressed \(type 1\)"),
    ],
    ids=[*"abcdefghijklmnopq"],
)
def test_index_with_right_checksums_and_wrong_values_is_refused(
    tmp_path: Path, old: bytes, new: bytes, said: str
) -> None:
    write_tf_bundle(tmp_path / "w", {"a": np.array([1.0, 2.0], np.float32)})
    replace_in_first_block(tmp_path / "w.index", old, new)
    with pytest.raises(ModelError, match=said):
        tf_bundle.read(tmp_path / "w.index")


def test_index_of_text_alone_is_refused(tmp_path: Path) -> None:
    write_tf_bundle(tmp_path / "w", {})
    with pytest.raises(ModelError, match="a TensorFlow checkpoint without tensors of numbers"):
        read_tensors(tmp_path / "w.index")
