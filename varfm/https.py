"""The one place where varfm opens a connection: https only, at every redirect, through the environment's proxies."""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import IO
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit

from varfm import __version__
from varfm.digits import is_whole

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_MAY_PASS = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the download of a file has come, in bytes; `total` is None where the server does not say."""

    name: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Transport:
    """How to fetch.

    Attributes:
        progress: Called after every piece.
        attempts: Tries per address; one that brings a megabyte starts the count anew.
        pause_s: Wait before the second try; doubles with each one, up to a minute.
        timeout_s: Longest silence of a connection.
        lock_wait_s: Longest wait for another process that fetches the same checkpoint.
        loopback_http: Also take plain http from this machine itself; for tests.
    """

    progress: Callable[[Progress], None] | None = None
    attempts: int = 4
    pause_s: float = 1.0
    timeout_s: float = 30.0
    lock_wait_s: float = 3600.0
    loopback_http: bool = False


class BrokenOff(Exception):
    """The connection failed; another try may succeed."""


class Refused(Exception):
    """This address does not give the file, now or later."""


class RangeRefused(BrokenOff):
    """The server has no bytes from that offset on; what is here must be dropped."""


@dataclass(frozen=True, slots=True)
class Body:
    """An open answer.

    Attributes:
        start: Offset in the file of its first byte.
        total: Length of the whole file; None where the server does not say.
        etag: Names this version of the file for a later resume; None where it would not be certain.
        is_html: True if the server calls it a web page.
        read: Gives up to n bytes as they come, b"" at the end.
    """

    start: int
    total: int | None
    etag: str | None
    is_html: bool
    read: Callable[[int], bytes]


@contextmanager
def open_body(url: str, offset: int, etag: str | None, transport: Transport) -> Iterator[Body]:
    """Ask for a file from an offset on. The answer may start at 0 all the same: look at `start`.

    Raises:
        BrokenOff: If the connection fails, while it is opened or in the `with` block; RangeRefused for the offset.
        Refused: If the address is wrong, or the server says no.
    """
    _check_address(url, transport)
    headers = {"User-Agent": f"varfm/{__version__}", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if etag is not None:
            headers["If-Range"] = etag
    try:
        with _opener(transport).open(request.Request(url, headers=headers), timeout=transport.timeout_s) as response:
            yield _body(response, offset)
    except HTTPError as error:
        error.close()
        raise _from_status(error) from error
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise Refused(f"its certificate is not valid ({error.reason.verify_message})") from error
        raise BrokenOff(f"no connection ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise BrokenOff(f"the connection broke ({error or type(error).__name__})") from error


def _from_status(error: HTTPError) -> BrokenOff | Refused:
    said = f"the server answered {error.code} {error.reason}"
    if error.code == 416:
        return RangeRefused(said)
    return BrokenOff(said) if error.code in _MAY_PASS or error.code >= 500 else Refused(said)


def _body(response: http.client.HTTPResponse, offset: int) -> Body:
    headers = response.headers
    start, total = 0, _number(headers.get("Content-Length"))
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        if found is None or _number(found[1]) != offset:
            raise RangeRefused(f"the server answered with another range ({headers.get('Content-Range')})")
        start, total = offset, _number(found[2])
    etag = headers.get("ETag")
    return Body(
        start=start,
        total=total,
        etag=etag if etag and etag.startswith('"') else None,  # W/"..." promises equal meaning, not equal bytes
        is_html=headers.get_content_type() in ("text/html", "application/xhtml+xml"),
        read=response.read1,
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and is_whole(text) else None


def _check_address(url: str, transport: Transport) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (transport.loopback_http and parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise Refused(f"{parts.scheme or 'no scheme'}: is not https")


class _SafeRedirects(request.HTTPRedirectHandler):
    """Follow redirects to https only; urllib alone would also go from https to http or ftp."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def http_error_302(
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: Message
    ) -> IO[bytes] | None:
        """Check the new address, then do as urllib does."""
        place = urljoin(req.full_url, headers.get("Location", ""))
        try:
            _check_address(place, self._transport)
        except Refused as refusal:
            fp.close()
            raise Refused(f"redirected to {place[:200]}, and {refusal}") from None
        followed: IO[bytes] | None = super().http_error_302(req, fp, code, msg, headers)  # type: ignore[arg-type]
        return followed

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener(transport: Transport) -> request.OpenerDirector:
    """Give an opener that knows https and, for tests, http; `build_opener` would add file, ftp and data."""
    opener = request.OpenerDirector()
    opener.add_handler(request.HTTPDefaultErrorHandler())
    opener.add_handler(request.HTTPErrorProcessor())
    opener.add_handler(_SafeRedirects(transport))
    opener.add_handler(request.HTTPSHandler())
    if transport.loopback_http:
        opener.add_handler(request.HTTPHandler())
    else:
        opener.add_handler(request.ProxyHandler())
    return opener
