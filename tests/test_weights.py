"""Tests of varfm.weights: where weights are found, what is fetched unasked, and what is refused."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from functools import partial
from pathlib import Path

import pytest

from varfm import weights
from varfm.download import RemoteFile
from varfm.errors import ModelError
from varfm.models import catalog
from varfm.weights import Checkpoint, LocalWeights

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
URL = "https://example.org/w.h5"


def toy(
    *files: RemoteFile,
    commercial: bool = True,
    packaged: str | None = None,
    packaged_sha256: str | None = None,
) -> Checkpoint:
    return Checkpoint(
        name="toy",
        module="toy",
        files=files,
        licence="CC-BY-NC-4.0" if not commercial else "MIT",
        commercial=commercial,
        paper="Toy 2020",
        source="https://example.org",
        assembly="",
        window=10,
        index=5,
        reads="nothing",
        scores="nothing",
        strands="both",
        packaged=packaged,
        packaged_sha256=packaged_sha256,
    )


ONE = toy(RemoteFile("w.h5", (URL,), SHA256, len(CONTENT)))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights" / "toy"


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def fetched_by_toy_server(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for the network: every fetch writes the right file and is recorded."""
    asked: list[str] = []

    def fetch(file: RemoteFile, folder: Path, *, owner: str, transport: object) -> None:
        asked.append(f"{owner}/{file.name}")
        put(folder / file.name)

    monkeypatch.setattr(weights, "fetch", fetch)
    return asked


def test_cache_follows_varfm_cache_and_else_the_users_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights.cache_folder(ONE) == cache
    monkeypatch.setenv("VARFM_CACHE", "~/here")
    assert weights.cache_folder(ONE) == Path.home() / "here" / "weights" / "toy"
    monkeypatch.setenv("VARFM_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert weights.cache_folder(ONE).parts[-3:] == ("varfm", "weights", "toy")


def test_file_in_the_cache_is_hashed_and_given_without_a_connection(cache: Path, no_sockets: None) -> None:
    path = put(cache / "w.h5")
    assert weights.locate(ONE) == LocalWeights(path, SHA256, published=True)


def test_offline_never_opens_a_socket_and_names_the_command(no_sockets: None) -> None:
    with pytest.raises(ModelError, match=r"7 bytes, licence MIT\).*--offline.*: varfm models download toy$"):
        weights.locate(ONE, offline=True, allow_download=True)


def test_small_weights_are_fetched_unasked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fetched_by_toy_server(monkeypatch)
    assert weights.locate(ONE).path == cache / "w.h5"
    assert asked == ["toy/w.h5"]


@pytest.mark.parametrize(("size", "shown"), [(50_000_001, "50.0 MB"), (None, "unknown size")])
def test_large_weights_are_fetched_only_when_asked(
    size: int | None, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fetched_by_toy_server(monkeypatch)
    large = toy(RemoteFile("w.h5", (URL,), SHA256, size), commercial=False)
    message = rf"weights of toy \({shown}, licence CC-BY-NC-4.0, not for commercial use\).*varfm models download toy$"
    with pytest.raises(ModelError, match=message):
        weights.locate(large)
    assert asked == []


def test_large_weights_of_unknown_size_are_fetched_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fetched_by_toy_server(monkeypatch)
    assert weights.locate(toy(RemoteFile("w.h5", (URL,), SHA256, None)), allow_download=True).sha256 == SHA256
    assert asked == ["toy/w.h5"]


def test_limit_counts_all_files_of_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fetched_by_toy_server(monkeypatch)
    with pytest.raises(ModelError, match=r"60\.0 MB"):
        weights.locate(toy(*(RemoteFile(name, (URL,), SHA256, 30_000_000, role="data") for name in ("a", "b"))))
    assert asked == []


@pytest.mark.parametrize(
    ("commercial", "stamp"), [(True, "licence MIT;"), (False, "CC-BY-NC-4.0 - NOT FOR COMMERCIAL")]
)
def test_licence_is_announced_before_the_download(
    commercial: bool, stamp: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fetched_by_toy_server(monkeypatch)
    heard: list[tuple[str, int]] = []
    checkpoint = toy(RemoteFile("w.h5", (URL,), SHA256, 7), commercial=commercial)
    weights.download(checkpoint, announce=lambda line: heard.append((line, len(asked))))
    [(line, n_fetched)] = heard
    assert stamp in line and "Toy 2020" in line and n_fetched == 0


def test_damaged_file_in_the_cache_is_refused_at_every_load(cache: Path, no_sockets: None) -> None:
    path = put(cache / "w.h5")
    weights.locate(ONE)
    stat = path.stat()
    put(path, b"weightz")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ModelError, match=r"are damaged: .*w\.h5 is not the published file.*varfm models download toy$"):
        weights.locate(ONE)


def test_local_copy_with_the_published_digest_is_published(
    tmp_path: Path, no_sockets: None, caplog: pytest.LogCaptureFixture
) -> None:
    mine = put(tmp_path / "mine.h5")
    assert weights.locate(ONE, override=mine, require_published=True) == LocalWeights(mine, SHA256, published=True)
    assert caplog.records == []


def test_other_local_file_is_taken_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine = put(tmp_path / "mine.h5", b"other")
    found = weights.locate(ONE, override=mine)
    assert found == LocalWeights(mine, hashlib.sha256(b"other").hexdigest(), published=False)
    [record] = caplog.records
    assert record.levelno == logging.WARNING and "mine.h5: not the published file of toy" in record.getMessage()


def test_other_local_file_is_refused_where_the_published_one_is_required(tmp_path: Path) -> None:
    mine = put(tmp_path / "mine.h5", b"other")
    with pytest.raises(ModelError, match=r"mine\.h5: not the published file of toy \(sha256 [0-9a-f]{64}\)"):
        weights.locate(ONE, override=mine, require_published=True)


def test_local_file_that_is_not_there_is_never_replaced_by_the_cache(cache: Path, tmp_path: Path) -> None:
    put(cache / "w.h5")
    with pytest.raises(ModelError, match=r"gone\.h5: there is no such file"):
        weights.locate(ONE, override=tmp_path / "gone.h5")


def test_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "README")
    with pytest.raises(ModelError, match=r"w\.h5 of toy is not in this folder, and nothing is there instead"):
        weights.locate(ONE, override=tmp_path)


def test_index_and_shard_have_one_digest_wherever_they_lie(cache: Path, tmp_path: Path, no_sockets: None) -> None:
    two = toy(RemoteFile("m.index", (URL,), SHA256, 7), RemoteFile("m.data-0-of-1", (URL,), SHA256, 7, role="shard"))
    put(cache / "m.index")
    assert weights.presence(two) == "no"
    put(cache / "m.data-0-of-1")
    digest = hashlib.sha256(f"{SHA256}  m.index\n{SHA256}  m.data-0-of-1\n".encode()).hexdigest()
    assert weights.locate(two) == LocalWeights(cache / "m.index", digest, published=True)
    assert weights.locate(two, override=cache) == LocalWeights(cache / "m.index", digest, published=True)
    mine = put(tmp_path / "mine" / "x.index")
    put(tmp_path / "mine" / "x.data-0-of-1")
    assert weights.locate(two, override=mine) == LocalWeights(mine, digest, published=True)


def test_packaged_weights_are_hashed_like_others(no_sockets: None) -> None:
    path = Path(weights.__file__).parent / "py.typed"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    packaged = toy(packaged="py.typed", packaged_sha256=digest)
    assert weights.locate(packaged, offline=True) == LocalWeights(path, digest, published=True)
    assert weights.presence(packaged) == "packaged"
    with pytest.raises(ModelError, match=r"are damaged: .*reinstall varfm"):
        weights.locate(toy(packaged="py.typed", packaged_sha256="0" * 64))


def test_packaged_weights_that_are_missing_ask_for_a_new_installation() -> None:
    with pytest.raises(ModelError, match="reinstall varfm"):
        weights.locate(toy(packaged="models/data/no_such.safetensors"))


def test_model_without_weights_is_located_and_takes_no_replacement(tmp_path: Path) -> None:
    assert weights.locate(toy()) == LocalWeights(Path(os.devnull), "", published=True)
    with pytest.raises(ModelError, match="has no weights to replace"):
        weights.locate(toy(), override=tmp_path)


def test_verify_tells_ok_wrong_missing_and_unknown_apart(cache: Path) -> None:
    files = [RemoteFile(name, (URL,), None if name == "d" else SHA256, None) for name in ("a", "b", "c", "d")]
    put(cache / "a")
    put(cache / "b", b"other")
    put(cache / "d")
    assert [status.state for status in weights.verify(toy(*files))] == ["ok", "wrong", "missing", "unknown"]


def test_path_is_given_only_for_what_is_here(cache: Path) -> None:
    with pytest.raises(ModelError, match="varfm models download toy"):
        weights.path(ONE)
    put(cache / "w.h5", b"short")
    with pytest.raises(ModelError, match="varfm models download toy"):
        weights.path(ONE)
    put(cache / "w.h5")
    assert weights.path(ONE) == cache / "w.h5"


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_600, "1.0 MB"),
        (1_392_384, "1.4 MB"),
        (250_000_000, "250 MB"),
        (5_400_000_000, "5.4 GB"),
        (None, "unknown size"),
    ],
)
def test_sizes_are_shown_in_powers_of_ten(n_bytes: int | None, shown: str) -> None:
    assert weights.readable_size(n_bytes) == shown


def test_files_that_only_people_can_fetch_are_named_with_their_source(cache: Path) -> None:
    checkpoint = catalog.get("dnagpt-0.1b-h")
    for fetch in (weights.download, partial(weights.locate, allow_download=True)):
        with pytest.raises(ModelError, match=r"give no address .* Get dna_gpt0.1b_h.pth as https://github.com/.* says"):
            fetch(checkpoint)
