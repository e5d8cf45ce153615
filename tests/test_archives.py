"""Tests of files that are members of a published archive: fetched once, checked one by one, and nothing else kept."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import Server, body, cut_to, serving, status

from varfm.download import RemoteFile, fetch, fetch_members
from varfm.errors import ModelError
from varfm.https import Transport

CONTENTS = {"model/w.pth": b"weights" * 1000, "model/names": b"a\nb\n", "model/secret": b"not asked for"}


def packed(contents: dict[str, bytes], link: str | None = None) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(entry)
    return raw.getvalue()


ARCHIVE = packed(CONTENTS)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.script = [body(ARCHIVE)]
        yield running


def member(server: Server, name: str = "w.pth", **changes: object) -> RemoteFile:
    content = CONTENTS.get(f"model/{name}", b"")
    file = RemoteFile(
        name,
        (server.url.replace("weights.h5", "model.tar.gz"),),
        hashlib.sha256(content).hexdigest(),
        len(content),
        member=f"model/{name}",
        archive_sha256=hashlib.sha256(ARCHIVE).hexdigest(),
    )
    return replace(file, **changes)  # type: ignore[arg-type]


def get(folder: Path, *files: RemoteFile) -> None:
    transport = Transport(loopback_http=True, pause_s=0.0, timeout_s=5.0)
    fetch_members(files, folder, owner="toy", transport=transport)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_members_of_one_archive_come_by_one_request_and_nothing_else_is_kept(server: Server, tmp_path: Path) -> None:
    get(tmp_path, member(server), member(server, "names"))
    assert names(tmp_path) == ["names", "w.pth"]
    assert (tmp_path / "w.pth").read_bytes() == CONTENTS["model/w.pth"]
    assert len(server.asked) == 1


def test_members_that_are_there_and_right_open_no_connection(server: Server, tmp_path: Path) -> None:
    get(tmp_path, member(server))
    get(tmp_path, member(server))
    assert len(server.asked) == 1
    (tmp_path / "w.pth").write_bytes(b"other")
    get(tmp_path, member(server))
    assert len(server.asked) == 2
    assert (tmp_path / "w.pth").read_bytes() == CONTENTS["model/w.pth"]


def test_gzip_file_is_an_archive_of_one_member(server: Server, tmp_path: Path) -> None:
    content = gzip.compress(CONTENTS["model/w.pth"])
    server.script = [body(content)]
    get(tmp_path, member(server, archive_sha256=hashlib.sha256(content).hexdigest(), member="w.pth"))
    assert (tmp_path / "w.pth").read_bytes() == CONTENTS["model/w.pth"]


def test_member_in_a_folder_of_the_cache_is_put_there(server: Server, tmp_path: Path) -> None:
    get(tmp_path, replace(member(server, "names"), name="resources/names"))
    assert (tmp_path / "resources" / "names").read_bytes() == CONTENTS["model/names"]


@pytest.mark.parametrize("archive_sha256", [None, hashlib.sha256(ARCHIVE[:-100]).hexdigest()], ids=["none", "given"])
def test_cut_archive_is_refused_and_leaves_nothing(server: Server, tmp_path: Path, archive_sha256: str | None) -> None:
    server.script = [body(ARCHIVE[:-100])]
    with pytest.raises(ModelError, match=r"damaged or cut archive"):
        get(tmp_path, member(server, archive_sha256=archive_sha256))
    assert names(tmp_path) == []


def test_archive_with_another_digest_is_refused_before_it_is_read(server: Server, tmp_path: Path) -> None:
    server.script = [body(packed({"model/w.pth": b"evil"}))]
    with pytest.raises(ModelError, match=r"model\.tar\.gz could not be fetched.*wrong bytes, sha256"):
        get(tmp_path, member(server))
    assert names(tmp_path) == []


def test_archive_without_the_member_is_refused_by_name(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no member model/absent"):
        get(tmp_path, member(server, "absent", sha256=None, size=None))
    assert names(tmp_path) == []


def test_member_that_is_a_link_is_refused(server: Server, tmp_path: Path) -> None:
    server.script = [body(packed({}, link="model/w.pth"))]
    with pytest.raises(ModelError, match=r"model/w\.pth is a link"):
        get(tmp_path, member(server, archive_sha256=None))
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_member_with_other_bytes_is_refused(server: Server, tmp_path: Path, kind: str) -> None:
    other = {"sha256": None, "md5": None} | {kind: "0" * (64 if kind == "sha256" else 32)}
    with pytest.raises(ModelError, match=rf"model/w\.pth in model\.tar\.gz has {kind} \w+ instead of 0+\."):
        get(tmp_path, member(server, **other))
    assert names(tmp_path) == []


def test_web_page_in_place_of_the_archive_is_refused(server: Server, tmp_path: Path) -> None:
    server.script = [body(b"<!DOCTYPE html><p>log in")]
    with pytest.raises(ModelError, match="got a web page"):
        get(tmp_path, member(server))
    assert names(tmp_path) == []


def test_archive_that_broke_off_is_continued_by_the_next_run(server: Server, tmp_path: Path) -> None:
    server.script = [cut_to(ARCHIVE, 50), status(503)]
    with pytest.raises(ModelError, match="503"):
        get(tmp_path, member(server))
    assert [name.endswith(".part") for name in names(tmp_path)] == [True]
    server.script = [body(ARCHIVE[50:], status=206, Content_Range=f"bytes 50-{len(ARCHIVE) - 1}/{len(ARCHIVE)}")]
    get(tmp_path, member(server))
    assert server.asked[-1]["range"] == "bytes=50-"
    assert names(tmp_path) == ["w.pth"]


@pytest.mark.parametrize("right", [True, False])
def test_md5_counts_where_no_sha256_was_published(server: Server, tmp_path: Path, right: bool) -> None:
    content = b"weights"
    server.script = [body(content)]
    md5 = hashlib.md5(content).hexdigest() if right else "0" * 32
    file = RemoteFile("w.pth", (server.url,), None, None, md5=md5)
    transport = Transport(loopback_http=True, pause_s=0.0)
    if right:
        fetch(file, tmp_path, owner="toy", transport=transport)
        fetch(file, tmp_path, owner="toy", transport=transport)
        assert names(tmp_path) == ["w.pth"] and len(server.asked) == 1
        return
    with pytest.raises(ModelError, match=r"wrong bytes, md5 \w{32} instead of 0{32}"):
        fetch(file, tmp_path, owner="toy", transport=transport)
    assert names(tmp_path) == []


def test_table_of_unknown_length_is_bounded(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("varfm.download._MOST_OF_A_TABLE", 10)
    server.script = [body(b"x" * 11)]
    with pytest.raises(ModelError, match="sends more than the 10 bytes"):
        fetch(
            RemoteFile("t.txt", (server.url,), None, None, role="table"),
            tmp_path,
            owner="toy",
            transport=Transport(loopback_http=True, pause_s=0.0),
        )
    assert names(tmp_path) == []
