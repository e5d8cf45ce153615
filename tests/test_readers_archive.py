"""Tests of varfm.readers.archive: one member of a tar or a gzip file, and archives that would do harm."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from varfm.errors import DiskError, ModelError
from varfm.readers import archive
from varfm.readers.archive import extract_member

CONTENT = random.Random(1).randbytes(3_000_000)


def tar(path: Path, members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz", layout: int = 1) -> Path:
    with tarfile.open(path, mode, format=layout) as file:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                entry.size = len(content)
            file.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_member_comes_out_of_a_tar_of_any_kind(tmp_path: Path, mode: str, layout: int) -> None:
    name = "DeepSEA-v0.94b/" + "long/" * 15 + "deepsea.cpu"
    packed = tar(tmp_path / "a", {"README": b"text", name: CONTENT, "z": b"after"}, mode, layout)
    extract_member(packed, name, tmp_path / "out", size=len(CONTENT))
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert sorted(os.listdir(tmp_path)) == ["a", "out"]


def test_leading_dot_of_a_member_does_not_matter(tmp_path: Path) -> None:
    extract_member(tar(tmp_path / "a", {"./model/sei.pth": b"x"}), "model/sei.pth", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"x"


def test_gzip_file_gives_its_content(tmp_path: Path) -> None:
    (tmp_path / "pretrained_model.th.gz").write_bytes(gzip.compress(CONTENT[:1_000_000]) + gzip.compress(b"second"))
    extract_member(tmp_path / "pretrained_model.th.gz", "pretrained_model.th", tmp_path / "out", size=1_000_006)
    assert (tmp_path / "out").read_bytes() == CONTENT[:1_000_000] + b"second"


def test_target_that_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    extract_member(tar(tmp_path / "a", {"m": b"new"}), "m", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"new"


def refused(folder: Path, packed: Path, member: str = "m", size: int | None = None) -> str:
    """Call, expect an error, and that the target is as it was."""
    (folder / "out").write_bytes(b"old")
    before = sorted(os.listdir(folder))
    with pytest.raises(ModelError) as caught:
        extract_member(packed, member, folder / "out", size=size)
    assert (folder / "out").read_bytes() == b"old" and sorted(os.listdir(folder)) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_member_that_is_no_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    packed = tar(tmp_path / "a", {"n": b"content", "m": special("m", kind, "n")})
    assert "a link, a folder or a device" in refused(tmp_path, packed)


@pytest.mark.parametrize("name", ["/etc/passwd", "../m", "a/../../m", "", "."])
def test_name_that_leads_out_of_an_archive_is_refused(tmp_path: Path, name: str) -> None:
    assert "not the name of a file inside an archive" in refused(tmp_path, tar(tmp_path / "a", {"m": b"x"}), name)


@pytest.mark.parametrize("name", ["/m", "../m", "m/../m"])
def test_entry_with_such_a_name_is_never_taken_for_the_member(tmp_path: Path, name: str) -> None:
    assert "has no member m" in refused(tmp_path, tar(tmp_path / "a", {name: b"evil"}))


def test_first_of_two_members_of_one_name_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a", "w") as file:
        for content in (b"first", b"second"):
            entry = tarfile.TarInfo("m")
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    extract_member(tmp_path / "a", "m", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"first"


@pytest.mark.parametrize(("size", "said"), [(2, "longer than 2 bytes"), (4, "has 3 bytes, expected 4")])
def test_member_of_another_size_is_refused(tmp_path: Path, size: int, said: str) -> None:
    assert said in refused(tmp_path, tar(tmp_path / "a", {"m": b"abc"}), size=size)


def test_bomb_stops_at_the_size_that_was_stated(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    assert "longer than 1000 bytes" in refused(tmp_path, tmp_path / "a.gz", size=1000)


def test_bomb_of_no_stated_size_stops_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MAX_BYTES", 1000)
    assert "longer than 1000 bytes" in refused(tmp_path, tar(tmp_path / "a", {"m": bytes(1001)}))


def test_name_of_a_member_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    entry = special("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    entry.size = 1 << 40
    (tmp_path / "a").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    assert "a header of the archive takes" in refused(tmp_path, tmp_path / "a")


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MAX_MEMBERS", 3)
    assert "has no member m" in refused(tmp_path, tar(tmp_path / "a", {"1": b"", "2": b"", "3": b"", "m": b""}))


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_archive_cut_at_any_place_is_refused(tmp_path: Path, mode: str) -> None:
    content = tar(tmp_path / "a", {"n": b"1" * 2000, "m": CONTENT[:3000]}, mode).read_bytes()
    end = len(content) if mode == "w:gz" else content.index(CONTENT[:3000]) + 3000
    for length in range(0, end, 97):
        (tmp_path / "a").write_bytes(content[:length])
        refused(tmp_path, tmp_path / "a")


def test_flipped_bit_of_a_packed_archive_is_caught_or_the_content_is_right(tmp_path: Path) -> None:
    content = tar(tmp_path / "a", {"m": CONTENT[:3000]}).read_bytes()
    draw = random.Random(2)
    n_refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (tmp_path / "a").write_bytes(damaged)
        try:
            extract_member(tmp_path / "a", "m", tmp_path / "out", size=3000)
        except ModelError:
            n_refused += 1
        else:
            assert (tmp_path / "out").read_bytes() == CONTENT[:3000]
    assert n_refused > 400


@pytest.mark.parametrize("content", [b"", b"<html>", bytes(2000), b"\x1f\x8b", b"PK\x03\x04"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    refused(tmp_path, tmp_path / "a")


def test_missing_archive_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path, tmp_path / "missing")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_no_fault_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tar(tmp_path / "a", {"m": CONTENT})
    full = open("/dev/full", "wb")
    monkeypatch.setattr("varfm.io.atomic.open", lambda *_: full, raising=False)
    with pytest.raises(DiskError, match="No space left"):
        extract_member(packed, "m", tmp_path / "out")
    assert not (tmp_path / "out").exists()
