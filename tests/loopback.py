"""A real server on loopback that misbehaves as its script says."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAYLOAD = bytes(range(256)) * 8192  # 2 MiB, so that it is read in several pieces
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()
HALF = len(PAYLOAD) // 2
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each request by the next step of the server's script; the last step repeats."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append({"path": self.path} | {k.lower(): v for k, v in self.headers.items()})
        steps = self.server.script
        step = steps[min(len(self.server.asked), len(steps)) - 1]
        step(self)

    def do_CONNECT(self) -> None:
        self.server.asked.append({"connect": self.path})
        self.send_error(403)

    def start(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Answer] = [whole]
        self.asked: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/weights.h5"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


def whole(handler: Handler) -> None:
    """Serve the file, or the range that was asked for."""
    start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
    if start:
        content_range = f"bytes {start}-{len(PAYLOAD) - 1}/{len(PAYLOAD)}"
        handler.start(206, Content_Length=len(PAYLOAD) - start, Content_Range=content_range, ETag='"v1"')
    else:
        handler.start(Content_Length=len(PAYLOAD), ETag='"v1"')
    handler.wfile.write(PAYLOAD[start:])


def without_ranges(handler: Handler) -> None:
    handler.start(Content_Length=len(PAYLOAD))
    handler.wfile.write(PAYLOAD)


def cut(handler: Handler) -> None:
    """Announce the whole file, give half of it."""
    handler.start(Content_Length=len(PAYLOAD), ETag='"v1"')
    handler.wfile.write(PAYLOAD[:HALF])


def reset(handler: Handler) -> None:
    """Give half of the file, then reset the connection."""
    cut(handler)
    handler.wfile.flush()
    time.sleep(0.2)  # a reset throws away what the reader has not taken yet
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def body(content: bytes, status: int = 200, **headers: object) -> Answer:
    def answer(handler: Handler) -> None:
        handler.start(status, **({"Content_Length": len(content)} | headers))
        handler.wfile.write(content)

    return answer


def cut_to(content: bytes, n_bytes: int) -> Answer:
    """Announce all of some content, give the beginning of it."""

    def answer(handler: Handler) -> None:
        handler.start(Content_Length=len(content), ETag='"v1"')
        handler.wfile.write(content[:n_bytes])

    return answer


def status(code: int) -> Answer:
    return lambda handler: handler.send_error(code)


def redirect(place: str) -> Answer:
    return lambda handler: handler.start(302, Location=place, Content_Length=0)


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server until the context is left."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
