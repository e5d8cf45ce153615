"""Many processes fill one cold cache from a server that does everything wrong, without locks; and no network at all."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import PlainUser, Varfm
from loopback import PAYLOAD, SHA256, Handler, Server, redirect, reset, serving, status, whole
from tools import require_tool
from vcf_bytes import GOOD

from varfm.download import RemoteFile, fetch
from varfm.errors import ModelError
from varfm.https import Transport

CLIENT = """
import fcntl, json, os, sys, time
from pathlib import Path
from varfm.download import RemoteFile, fetch, sha256_of
from varfm.errors import ModelError
from varfm.https import Transport

fcntl.flock = lambda handle, operation: None  # granted to everybody, as some network file systems do
url, folder, sha256, size, number = sys.argv[1:]
transport = Transport(loopback_http=True, pause_s=0.0, timeout_s=3.0, attempts=40)
file = RemoteFile("weights.h5", (f"{url}?{number}",), sha256, int(size))
Path(folder, f"ready-{number}").touch()
while not Path(folder, "go").exists():
    time.sleep(0.01)
failures = []
found = ""
while not found and len(failures) < 200:  # as the scheduler of a cluster starts a job again
    try:
        fetch(file, Path(folder, "cache"), owner="toy", transport=transport)
        found = sha256_of(Path(folder, "cache", "weights.h5"))
    except ModelError as error:
        failures.append(str(error))
print(json.dumps({"found": found, "failures": failures}))
"""


class Chaos:
    """What the server does with each request, drawn; and what it expects of a client that it cut off."""

    def __init__(self) -> None:
        self.draw = random.Random(1)
        self.done: Counter[str] = Counter()
        self.wrong_resumes: list[str] = []
        self._expected: dict[str, int] = {}
        self.n_resumed = 0

    def __call__(self, handler: Handler) -> None:
        client = handler.path.partition("?")[2]
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        expected = self._expected.pop(client, None)
        self.n_resumed += start > 0
        if expected is not None and expected != start:
            self.wrong_resumes.append(f"client {client}: {start} instead of {expected}")
        kind = self.draw.choice(
            ("right", *["cut"] * 6, *["reset"] * 2, "stall", "page", "length", "bytes", "busy", "away")
        )
        self.done[kind] += 1
        getattr(self, kind)(handler, start)

    def right(self, handler: Handler, start: int) -> None:
        whole(handler)

    def _begin(self, handler: Handler, start: int, total: int = len(PAYLOAD)) -> None:
        more = {"Content_Range": f"bytes {start}-{total - 1}/{total}"} if start else {}
        handler.start(206 if start else 200, Content_Length=total - start, ETag='"v1"', **more)

    def cut(self, handler: Handler, start: int) -> None:
        """End in good order after a part: exactly this part must be kept."""
        end = self.draw.randrange(start, len(PAYLOAD))
        self._expected[handler.path.partition("?")[2]] = end
        self._begin(handler, start)
        handler.wfile.write(PAYLOAD[start:end])

    def reset(self, handler: Handler, start: int) -> None:
        reset(handler)

    def stall(self, handler: Handler, start: int) -> None:
        self._begin(handler, start)
        handler.wfile.write(PAYLOAD[start : start + 1000])
        handler.wfile.flush()
        time.sleep(4)

    def page(self, handler: Handler, start: int) -> None:
        content = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
        handler.start(200, Content_Length=len(content), Content_Type="text/html")
        handler.wfile.write(content)

    def length(self, handler: Handler, start: int) -> None:
        self._begin(handler, start, len(PAYLOAD) + 5)
        handler.wfile.write(PAYLOAD[start:] + b"12345")

    def bytes(self, handler: Handler, start: int) -> None:
        self._begin(handler, start)
        handler.wfile.write(bytes(len(PAYLOAD) - start))

    def busy(self, handler: Handler, start: int) -> None:
        status(503)(handler)

    def away(self, handler: Handler, start: int) -> None:
        redirect(self.draw.choice(("http://example.org/w.h5", "file:///etc/passwd")))(handler)


def run_clients(server: Server, folder: Path, n_clients: int) -> list[dict[str, object]]:
    arguments = [server.url, str(folder), SHA256, str(len(PAYLOAD))]
    command = [sys.executable, "-W", "error", "-c", CLIENT, *arguments]
    started = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for number in range(n_clients)
    ]
    deadline = time.monotonic() + 300
    while len(list(folder.glob("ready-*"))) < n_clients and time.monotonic() < deadline:
        time.sleep(0.05)
    (folder / "go").touch()
    return [json.loads(process.communicate(timeout=600)[0]) for process in started]


@pytest.mark.parametrize("n_clients", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_processes_on_one_cold_cache_all_get_the_right_file_from_a_server_that_does_everything_wrong(
    tmp_path: Path, n_clients: int
) -> None:
    chaos = Chaos()
    with serving() as server:
        server.script = [chaos]
        answers = run_clients(server, tmp_path, n_clients)
        n_requests = len(server.asked)
    failures = [failure for answer in answers for failure in answer["failures"]]  # type: ignore[attr-defined]
    print(f"{n_clients} processes, {n_requests} requests ({dict(chaos.done)}), {chaos.n_resumed} resumed,")
    print(f"{len(failures)} failed tries")
    assert [answer["found"] for answer in answers] == [SHA256] * n_clients
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["weights.h5"]
    assert (tmp_path / "cache" / "weights.h5").read_bytes() == PAYLOAD
    assert chaos.wrong_resumes == []
    assert chaos.n_resumed > 0
    assert all(
        failure.startswith("toy: weights.h5 could not be fetched.") and "\n" not in failure for failure in failures
    )


SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
EXAMPLE = Path(__file__).resolve().parents[2] / "example_data"
WATCHED = """
import sys
def watch(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        sys.stderr.write(f"SOCKET {event}\\n")
sys.addaudithook(watch)
from varfm.cli.main import run
sys.exit(run(sys.argv[1:]))
"""
DOWNLOAD = """
from varfm import https, weights
from varfm.models import catalog
weights.download(catalog.get("xpresso-human"), transport=https.Transport(attempts=1))
"""
OFFLINE: dict[str, tuple[list[str], int]] = {
    "a run": (["score", f"{EXAMPLE}/ntng1.vcf", "-f", f"{EXAMPLE}/ntng1.fa.gz", "--offline", "-o", "out.vcf"], 0),
    "a run without weights": (["score", f"{EXAMPLE}/ntng1.vcf", "-m", "mpra-dragonn", "--offline", "--download"], 4),
    "a download": (["models", "download", "xpresso-human", "--offline"], 4),
    "a table of names": (["tracks", "basenji2", "--offline"], 4),
}


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VARFM_")}
    fasta = f"{EXAMPLE}/ntng1.fa.gz"
    return kept | {"VARFM_CACHE": str(folder / "cache"), "VARFM_CONFIG": os.devnull, "VARFM_FASTA": fasta}


@pytest.mark.parametrize("case", OFFLINE)
def test_offline_python_opens_no_socket(tmp_path: Path, case: str) -> None:
    arguments, expected = OFFLINE[case]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path),
    )
    assert done.returncode == expected, done.stderr
    assert "SOCKET" not in done.stderr
    assert expected == 0 or "--offline forbids" in done.stderr


def test_watch_over_sockets_sees_a_connection(tmp_path: Path) -> None:
    script = WATCHED.replace("sys.exit(run(sys.argv[1:]))", DOWNLOAD)
    proxy = {"https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path) | proxy)
    assert "SOCKET socket.connect" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("case", OFFLINE)
def test_offline_the_whole_process_opens_no_socket(tmp_path: Path, case: str) -> None:
    """The C libraries, too: no call of the kernel's network interface from any thread or child."""
    arguments, expected = OFFLINE[case]
    strace = [require_tool("strace"), "-f", "--seccomp-bpf", "-e", "trace=network", "-e", "signal=none", "-o", "calls"]
    command = [*strace, sys.executable, "-m", "varfm", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment(tmp_path))
    assert done.returncode == expected, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call for call in calls if "+++ exited" not in call] == []
    subprocess.run([*strace, sys.executable, "-c", "import socket; socket.socket()"], cwd=tmp_path, check=True)
    assert "socket(AF_INET" in (tmp_path / "calls").read_text(), "the trace must see a socket"


def test_cache_that_cannot_be_written_serves_what_it_holds(
    varfm: Varfm, as_plain_user: PlainUser, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared/data is not here")
    cache = open_folder / "shared-cache"
    place = cache / "weights" / "mpra-dragonn"
    place.mkdir(parents=True)
    shutil.copyfile(SHARED / "mpra_dragonn_conv.hdf5", place / "pretrained.hdf5")
    genome = open_folder / "tiny.fa"
    genome.write_bytes(varfm.fasta.read_bytes())
    rows = open_folder / "in.vcf"
    rows.write_bytes(GOOD)
    monkeypatch.setenv("VARFM_CACHE", str(cache))
    arguments = ("score", rows, "-f", genome, "-m", "mpra-dragonn")
    assert (
        varfm.run(*arguments).status == 0
    )  # fills the cache with the FASTA's index, imports what the other user needs
    before = sorted(cache.rglob("*"))
    result = as_plain_user(*arguments)
    assert result.status == 0, result.err
    assert result.out.count(b"VARFM_MPRA_DRAGONN_HEPG2=") == 3
    assert sorted(cache.rglob("*")) == before


CERTIFICATE = (
    "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem -subj /CN=weights.example"
    " -addext subjectAltName=DNS:weights.example"
)


class Proxy(socketserver.ThreadingTCPServer):
    """Answers CONNECT for any host with a tunnel to one place, and notes who was asked for."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, place: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.place = place
        self.asked: list[str] = []


class Tunnel(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        self.server.asked.append(self.rfile.readline().decode().strip())
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.0 200 Connection established\r\n\r\n")
        with socket.create_connection(self.server.place) as far:
            pump = threading.Thread(target=_pump, args=(far, self.connection))
            pump.start()
            _pump(self.connection, far)
            pump.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_download_goes_through_the_proxy_with_the_certificates_that_the_environment_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([require_tool("openssl"), *CERTIFICATE.split()], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    for name in ("no_proxy", "NO_PROXY", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    file = RemoteFile("weights.h5", ("https://weights.example/weights.h5",), SHA256, len(PAYLOAD))
    transport = Transport(attempts=1)
    with serving() as server, Proxy(server.server_address) as proxy:  # type: ignore[arg-type]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.server_address[1]}")
        with pytest.raises(ModelError, match=r"its certificate is not valid \(self-signed certificate\)"):
            fetch(file, tmp_path / "cache", owner="toy", transport=transport)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        fetch(file, tmp_path / "cache", owner="toy", transport=transport)
        proxy.shutdown()
    assert proxy.asked == ["CONNECT weights.example:443 HTTP/1.0"] * 2
    assert (tmp_path / "cache" / "weights.h5").read_bytes() == PAYLOAD
