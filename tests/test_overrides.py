"""Tests of `--weights`: which local files stand for which files of the catalogue, and which of them are published."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from varfm import weights
from varfm.checkpoints import Checkpoint
from varfm.download import RemoteFile
from varfm.errors import ModelError
from varfm.weights import LocalWeights

MAIN, TABLE, DATA = b"weights", b"name\n", b"projection"
URL = "https://example.org/"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


TOY = Checkpoint(
    name="toy",
    module="toy",
    files=(
        RemoteFile("model/w.pth", (f"{URL}w.pth",), digest(MAIN), len(MAIN)),
        RemoteFile("model/names.txt", (f"{URL}names.txt",), digest(TABLE), len(TABLE), role="table"),
        RemoteFile("p.npy", (f"{URL}p.npy",), digest(DATA), len(DATA), role="data"),
    ),
    copies=(RemoteFile("w.cpu", (f"{URL}w.cpu",), digest(b"other format"), None),),
    licence="MIT",
    commercial=True,
    paper="Toy 2020",
    source=URL,
    assembly="",
    window=10,
    index=5,
    reads="nothing",
    scores="nothing",
    strands="both",
    tracks_file="model/names.txt",
    tracks_format="basset",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights" / "toy"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for the network: fetched files are empty of all but the right content, and recorded."""
    contents = {"model/w.pth": MAIN, "model/names.txt": TABLE, "p.npy": DATA}
    names: list[str] = []

    def fetch(file: RemoteFile, folder: Path, **others: object) -> None:
        names.append(file.name)
        put(folder, {file.name: contents[file.name]})

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(weights, "fetch", fetch)
    monkeypatch.setattr(socket, "socket", refuse)
    return names


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("prefix", ["model/", ""])
def test_folder_holds_the_files_with_or_without_the_folders_of_their_names(
    tmp_path: Path, prefix: str, asked: list[str]
) -> None:
    mine = put(tmp_path / "mine", {f"{prefix}w.pth": MAIN, f"{prefix}names.txt": TABLE, "p.npy": DATA})
    assert weights.locate(TOY, override=mine, require_published=True) == LocalWeights(
        mine / f"{prefix}w.pth",
        digest(MAIN),
        published=True,
        files={"model/names.txt": mine / f"{prefix}names.txt", "p.npy": mine / "p.npy"},
    )
    assert asked == []


def test_only_weight_file_of_a_folder_may_have_any_name(tmp_path: Path) -> None:
    mine = put(tmp_path / "mine", {"epoch_7.pth": MAIN, "names.txt": TABLE, "p.npy": DATA, "notes.txt": b""})
    assert weights.locate(TOY, override=mine, offline=True).path == mine / "epoch_7.pth"
    put(mine, {"epoch_8.pth": MAIN})
    with pytest.raises(ModelError, match=r"w\.pth of toy is not in this folder, and epoch_7\.pth, epoch_8\.pth is"):
        weights.locate(TOY, override=mine, offline=True)


def test_config_of_a_folder_is_given_and_that_beside_a_file_is_not(tmp_path: Path) -> None:
    mine = put(tmp_path / "mine", {"w.pth": MAIN, "names.txt": TABLE, "p.npy": DATA, "config.json": b"{}"})
    assert weights.locate(TOY, override=mine, offline=True).config == mine / "config.json"
    assert weights.locate(TOY, override=mine / "w.pth", offline=True).config is None


def test_other_files_lie_beside_the_weights_then_in_the_cache(cache: Path, tmp_path: Path, asked: list[str]) -> None:
    mine = put(tmp_path / "mine", {"w.pth": MAIN, "p.npy": DATA})
    put(cache, {"model/names.txt": TABLE, "p.npy": DATA})
    found = weights.locate(TOY, override=mine / "w.pth", offline=True)
    assert found.files == {"model/names.txt": cache / "model" / "names.txt", "p.npy": mine / "p.npy"}
    assert (found.published, asked) == (True, [])


def test_other_files_that_are_small_are_fetched(cache: Path, tmp_path: Path, asked: list[str]) -> None:
    mine = put(tmp_path / "mine", {"w.pth": MAIN, "p.npy": DATA})
    assert weights.locate(TOY, override=mine / "w.pth").files["model/names.txt"] == cache / "model" / "names.txt"
    assert asked == ["model/names.txt"]


@pytest.mark.parametrize(("offline", "size"), [(True, 10), (False, 60_000_000), (False, None)])
def test_other_file_that_cannot_come_is_named_with_what_to_do(
    tmp_path: Path, offline: bool, size: int | None, asked: list[str]
) -> None:
    mine = put(tmp_path / "mine", {"w.pth": MAIN, "names.txt": TABLE})
    needy = replace(TOY, files=(*TOY.files[:2], replace(TOY.files[2], size=size)))
    message = r"toy needs p\.npy \(.*\), neither beside .*w\.pth nor in the cache.*varfm models download toy$"
    with pytest.raises(ModelError, match=message):
        weights.locate(needy, override=mine / "w.pth", offline=offline)
    assert asked == []


def test_member_of_an_archive_is_not_small(tmp_path: Path, asked: list[str]) -> None:
    mine = put(tmp_path / "mine", {"w.pth": MAIN, "names.txt": TABLE})
    packed = replace(TOY, files=(*TOY.files[:2], replace(TOY.files[2], member="model/p.npy")))
    with pytest.raises(ModelError, match=r"toy needs p\.npy \(unknown size\)"):
        weights.locate(packed, override=mine / "w.pth")


@pytest.mark.parametrize(("main", "published"), [(MAIN, True), (b"other format", True), (b"retrained", False)])
def test_copy_in_another_published_format_is_published_too(tmp_path: Path, main: bytes, published: bool) -> None:
    mine = put(tmp_path / "mine", {"mine.cpu": main, "names.txt": TABLE, "p.npy": DATA})
    found = weights.locate(TOY, override=mine / "mine.cpu")
    assert (found.published, found.sha256) == (published, digest(main))


@pytest.mark.parametrize(("content", "published"), [(MAIN, True), (b"retrained", False)])
def test_md5_tells_the_published_file_where_no_sha256_was_published(
    tmp_path: Path, content: bytes, published: bool
) -> None:
    md5 = hashlib.md5(MAIN).hexdigest()
    old = replace(TOY, files=(replace(TOY.files[0], sha256=None, md5=md5), *TOY.files[1:]))
    mine = put(tmp_path / "mine", {"w.pth": content, "names.txt": TABLE, "p.npy": DATA})
    found = weights.locate(old, override=mine)
    assert (found.published, found.sha256) == (published, digest(content))


def test_local_file_without_a_published_digest_is_not_called_published(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blind = replace(TOY, files=(replace(TOY.files[0], sha256=None), *TOY.files[1:]))
    mine = put(tmp_path / "mine", {"w.pth": b"any", "names.txt": TABLE, "p.npy": DATA})
    assert not weights.locate(blind, override=mine).published
    assert "no digest of this file of toy was published" in caplog.text
    with pytest.raises(ModelError, match="require-published"):
        weights.locate(blind, override=mine, require_published=True)
    put(cache, {"model/w.pth": MAIN, "model/names.txt": TABLE, "p.npy": DATA})
    assert weights.locate(blind, require_published=True).published  # varfm fetched it itself


def test_other_table_beside_the_published_weights_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine = put(tmp_path / "mine", {"w.pth": MAIN, "names.txt": b"mine\n", "p.npy": DATA})
    assert not weights.locate(TOY, override=mine).published
    assert "names.txt: not the published file of toy" in caplog.text


def test_files_that_only_the_published_table_lists_are_not_needed_with_another_table(tmp_path: Path) -> None:
    listing = replace(TOY, files=(*TOY.files[:2], replace(TOY.files[2], role="listed", size=None)))
    mine = put(tmp_path / "mine", {"w.pth": MAIN, "names.txt": b"mine\n"})
    assert set(weights.locate(listing, override=mine, offline=True).files) == {"model/names.txt"}
    put(mine, {"names.txt": TABLE})
    with pytest.raises(ModelError, match=r"toy needs p\.npy"):
        weights.locate(listing, override=mine, offline=True)


def test_damaged_other_file_in_the_cache_is_refused(cache: Path) -> None:
    put(cache, {"model/w.pth": MAIN, "model/names.txt": TABLE, "p.npy": b"projectioN"})
    with pytest.raises(ModelError, match=r"are damaged: .*p\.npy is not the published file"):
        weights.locate(TOY)


def test_only_a_missing_table_is_fetched_where_the_weights_are_large(cache: Path, asked: list[str]) -> None:
    large = replace(TOY, files=(replace(TOY.files[0], size=None), *TOY.files[1:]))
    put(cache, {"model/w.pth": MAIN, "p.npy": DATA})
    with pytest.raises(ModelError, match=r"toy needs model/names\.txt .*varfm models download toy --tables$"):
        weights.locate(large, offline=True)
    assert weights.locate(large).published
    assert asked == ["model/names.txt"]


def test_folder_of_several_checkpoints_is_shared(cache: Path) -> None:
    other = replace(TOY, name="other", folder="toy")
    put(cache, {"model/w.pth": MAIN, "model/names.txt": TABLE, "p.npy": DATA})
    assert weights.locate(other, offline=True) == weights.locate(TOY, offline=True)


def test_folder_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ModelError, match=r"cannot be read \(Permission denied\)"):
        weights.locate(TOY, override=tmp_path)
