"""Tests of varfm.download and varfm.https against a real server on loopback that misbehaves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loopback import (
    HALF,
    PAYLOAD,
    SHA256,
    Answer,
    Handler,
    Server,
    body,
    cut,
    redirect,
    reset,
    serving,
    status,
    whole,
    without_ranges,
)

from varfm.download import RemoteFile, fetch
from varfm.errors import DiskError, ModelError
from varfm.https import Progress, Transport


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def remote(*urls: str, sha256: str | None = SHA256, size: int | None = len(PAYLOAD)) -> RemoteFile:
    return RemoteFile("weights.h5", urls, sha256, size)


def get(file: RemoteFile, folder: Path, **options: object) -> None:
    transport = Transport(**({"loopback_http": True, "pause_s": 0.0, "timeout_s": 5.0} | options))  # type: ignore[arg-type]
    fetch(file, folder, owner="toy", transport=transport)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def check_right(folder: Path) -> None:
    assert names(folder) == ["weights.h5"]
    assert (folder / "weights.h5").read_bytes() == PAYLOAD


def test_file_arrives_under_its_name_and_nothing_else_is_left(server: Server, tmp_path: Path) -> None:
    get(remote(server.url), tmp_path / "new" / "folder")
    check_right(tmp_path / "new" / "folder")


def test_file_that_is_there_and_right_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(PAYLOAD)
    get(remote(server.url), tmp_path)
    assert server.asked == []


def test_file_that_is_there_and_wrong_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"\0" * len(PAYLOAD))
    get(remote(server.url), tmp_path)
    check_right(tmp_path)


@pytest.mark.parametrize("breaking", [cut, reset])
def test_broken_connection_is_resumed_where_it_stopped(server: Server, tmp_path: Path, breaking: Answer) -> None:
    server.script = [breaking, whole]
    get(remote(server.url), tmp_path)
    check_right(tmp_path)
    assert server.asked[1]["range"] == f"bytes={HALF}-"
    assert server.asked[1]["if-range"] == '"v1"'


def test_server_without_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    server.script = [cut, without_ranges]
    get(remote(server.url), tmp_path)
    check_right(tmp_path)


def test_answer_with_another_range_is_not_joined(server: Server, tmp_path: Path) -> None:
    def shifted(handler: Handler) -> None:
        handler.start(206, Content_Length=10, Content_Range=f"bytes 5-14/{len(PAYLOAD)}")
        handler.wfile.write(PAYLOAD[5:15])

    server.script = [cut, shifted, whole]
    get(remote(server.url), tmp_path)
    check_right(tmp_path)
    assert "range" not in server.asked[2]


def test_server_that_always_cuts_is_given_up_and_the_next_run_resumes(server: Server, tmp_path: Path) -> None:
    server.script = [cut, status(503)]
    with pytest.raises(ModelError, match=r"toy: weights\.h5 could not be fetched\. http://127.* 503 Service Unavail"):
        get(remote(server.url), tmp_path)
    assert len(server.asked) == 4
    assert [name.endswith(".part") for name in names(tmp_path)] == [True]
    server.script = [whole]
    get(remote(server.url), tmp_path)
    assert server.asked[-1]["range"] == f"bytes={HALF}-"
    check_right(tmp_path)


def test_damaged_piece_of_an_earlier_run_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.script = [cut, status(503)]
    with pytest.raises(ModelError):
        get(remote(server.url), tmp_path)
    [left] = tmp_path.iterdir()
    left.write_bytes(b"garbage")
    server.script = [whole]
    get(remote(server.url), tmp_path)
    check_right(tmp_path)


def test_file_without_digest_is_never_continued_from_an_earlier_run(server: Server, tmp_path: Path) -> None:
    server.script = [cut, status(503)]
    file = remote(server.url, sha256=None)
    with pytest.raises(ModelError):
        get(file, tmp_path)
    server.asked.clear()
    server.script = [whole]
    get(file, tmp_path)
    assert "range" not in server.asked[0]
    check_right(tmp_path)


@pytest.mark.parametrize(
    ("page", "kind"),
    [(b"<!DOCTYPE html><p>log in", "application/octet-stream"), (b"please log in", "text/html; charset=utf-8")],
)
def test_web_page_is_refused_and_leaves_nothing(server: Server, tmp_path: Path, page: bytes, kind: str) -> None:
    server.script = [body(page, Content_Type=kind)]
    with pytest.raises(ModelError, match="got a web page instead of the file"):
        get(remote(server.url), tmp_path)
    assert len(server.asked) == 1
    assert names(tmp_path) == []


def test_wrong_bytes_of_the_right_length_are_refused_and_leave_nothing(server: Server, tmp_path: Path) -> None:
    server.script = [body(b"x" * len(PAYLOAD))]
    with pytest.raises(ModelError, match=f"wrong bytes, sha256 [0-9a-f]{{64}} instead of {SHA256}"):
        get(remote(server.url), tmp_path)
    assert len(server.asked) == 1
    assert names(tmp_path) == []


def test_wrong_length_is_refused_before_the_bytes_are_read(server: Server, tmp_path: Path) -> None:
    server.script = [body(PAYLOAD[:-1])]
    with pytest.raises(ModelError, match="offers 2097151 bytes, the published file has 2097152"):
        get(remote(server.url), tmp_path)
    assert names(tmp_path) == []


def test_endless_answer_is_stopped_at_the_published_length(server: Server, tmp_path: Path) -> None:
    def endless(handler: Handler) -> None:
        handler.start()  # HTTP/1.0 without a length: until the connection closes
        for _ in range(100):
            handler.wfile.write(PAYLOAD)

    server.script = [endless]
    with pytest.raises(ModelError, match="sends more than the 2097152 bytes"):
        get(remote(server.url), tmp_path)
    assert names(tmp_path) == []


def test_file_of_unknown_digest_and_length_is_taken_as_it_comes(server: Server, tmp_path: Path) -> None:
    get(remote(server.url, sha256=None, size=None), tmp_path)
    check_right(tmp_path)


def test_silent_server_is_asked_again_after_the_timeout(server: Server, tmp_path: Path) -> None:
    server.script = [lambda handler: time.sleep(0.5), whole]
    get(remote(server.url), tmp_path, timeout_s=0.2)
    check_right(tmp_path)


def test_refusal_leads_to_the_next_address_at_once(server: Server, tmp_path: Path) -> None:
    server.script = [status(404), whole]
    get(remote(server.url + "?a", server.url + "?b"), tmp_path)
    check_right(tmp_path)
    assert len(server.asked) == 2


def test_closed_port_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no connection \(.*--weights\.$") as caught:
        get(remote("http://127.0.0.1:9/weights.h5"), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "http://example.org/w.h5", "ftp://example.org/w", "data:,x"])
def test_redirect_to_anything_but_https_is_refused(server: Server, tmp_path: Path, place: str) -> None:
    server.script = [redirect(place)]
    with pytest.raises(ModelError, match=r"redirected to .*is not https"):
        get(remote(server.url), tmp_path)
    assert len(server.asked) == 1
    assert names(tmp_path) == []


def test_redirect_loop_ends(server: Server, tmp_path: Path) -> None:
    server.script = [redirect("/weights.h5")]
    with pytest.raises(ModelError, match="answered 302"):
        get(remote(server.url), tmp_path)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/w", "file:///etc/passwd", "ftp://example.org/w", "w.h5"])
def test_address_that_is_not_https_opens_no_socket(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", _no_socket)
    with pytest.raises(ModelError, match="is not https"):
        get(remote(url), tmp_path, loopback_http=False)


def _no_socket(*args: object, **kwargs: object) -> None:
    raise AssertionError("a socket was opened")


def test_proxy_of_the_environment_is_asked_for_a_tunnel(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", server.url.removesuffix("/weights.h5"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ModelError, match="403"):
        get(remote("https://example.org/weights.h5"), tmp_path, loopback_http=False)
    assert server.asked[0] == {"connect": "example.org:443"}


def test_progress_ends_at_the_length_of_the_file(server: Server, tmp_path: Path) -> None:
    seen: list[Progress] = []
    get(remote(server.url), tmp_path, progress=seen.append)
    assert seen[-1] == Progress("weights.h5", len(PAYLOAD), len(PAYLOAD))
    assert [step.done for step in seen] == sorted(step.done for step in seen)


def test_folder_that_cannot_be_made_is_a_disk_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskError, match=r"cannot be written.*VARFM_CACHE"):
        get(remote(server.url), tmp_path / "file" / "folder")
    assert server.asked == []


def test_leftovers_of_long_ago_are_removed_and_younger_ones_kept(server: Server, tmp_path: Path) -> None:
    for name, days in ((".weights.h5.1-a.tmp", 4), (".weights.h5.other.part", 4), (".weights.h5.2-b.tmp", 1)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - days * 86400,) * 2)
    get(remote(server.url), tmp_path)
    assert names(tmp_path) == [".weights.h5.2-b.tmp", "weights.h5"]


def test_without_the_lock_the_piece_of_a_failed_download_is_kept_for_the_next(server: Server, tmp_path: Path) -> None:
    server.script = [cut, status(503)]
    with pytest.raises(ModelError):
        get(remote(server.url), tmp_path, lock_wait_s=0.0)
    server.script = [whole]
    get(remote(server.url), tmp_path, lock_wait_s=0.0)
    assert server.asked[-1]["range"] == f"bytes={HALF}-"
    check_right(tmp_path)


def test_failure_does_not_count_where_another_process_brought_the_file(server: Server, tmp_path: Path) -> None:
    def refuse_late(handler: Handler) -> None:
        (tmp_path / "weights.h5").write_bytes(PAYLOAD)
        handler.send_error(404)

    server.script = [refuse_late]
    get(remote(server.url), tmp_path)
    check_right(tmp_path)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("the processes did not come so far in a minute")
        time.sleep(0.02)


CLIENT = """
import os, sys, time
from pathlib import Path
from varfm.download import RemoteFile, fetch, sha256_of
from varfm.https import Transport
url, folder, sha256 = sys.argv[1:]
Path(folder, f"ready-{os.getpid()}").touch()
while not Path(folder, "go").exists():
    time.sleep(0.01)
for name, wait_s in (("locked", 60.0), ("unlocked", 0.0)):
    transport = Transport(loopback_http=True, pause_s=0.05, lock_wait_s=wait_s)
    file = RemoteFile("weights.h5", (f"{url}?{name}",), sha256, None)
    fetch(file, Path(folder, name), owner="toy", transport=transport)
    print(sha256_of(Path(folder, name, "weights.h5")))
"""


def test_twenty_processes_fill_one_cold_cache_with_and_without_the_lock(server: Server, tmp_path: Path) -> None:
    def slowly(handler: Handler) -> None:
        cut(handler)
        time.sleep(0.3)
        handler.wfile.write(PAYLOAD[HALF:])

    server.script = [slowly]
    command = [sys.executable, "-c", CLIENT, server.url, str(tmp_path), SHA256]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(20)]
    wait_until(lambda: len(list(tmp_path.glob("ready-*"))) == 20)
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=120)[0].decode().split() for process in started]
    assert outputs == [[SHA256, SHA256]] * 20
    check_right(tmp_path / "locked")
    check_right(tmp_path / "unlocked")
    assert [request["path"] for request in server.asked].count("/weights.h5?locked") == 1


def test_killed_download_is_resumed_by_the_next_process(server: Server, tmp_path: Path) -> None:
    release = threading.Event()

    def hang_after_half(handler: Handler) -> None:
        cut(handler)
        handler.wfile.flush()
        release.wait(30)

    server.script = [hang_after_half]
    process = subprocess.Popen([sys.executable, "-c", CLIENT, server.url, str(tmp_path), SHA256])
    (tmp_path / "go").touch()
    folder = tmp_path / "locked"
    wait_until(lambda: [path.stat().st_size for path in folder.glob(".*.part")] == [HALF])
    process.kill()
    process.wait()
    release.set()
    server.script = [whole]
    get(remote(server.url), folder)
    assert server.asked[-1]["range"] == f"bytes={HALF}-"
    check_right(folder)
