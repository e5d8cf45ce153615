"""htslib, through the bcftools that pysam carries: BCF to text and back, without its talk on stderr."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from varfm.errors import VarfmError
from varfm.io.inflate import inflate_bgzf


class HtslibError(VarfmError):
    """htslib refused some data; callers say which."""


@contextlib.contextmanager
def quiet_htslib() -> Iterator[None]:
    """Keep htslib from writing warnings to stderr; what matters is raised as an error instead."""
    import pysam

    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)


def bcf_of_text(text: bytes, folder: str | None = None) -> bytes:
    """Turn the text of a whole VCF into uncompressed BCF.

    `bcftools view` does it, because pysam's own writer adds INFO/END to symbolic alleles.

    Args:
        text: Header and records.
        folder: Where temporary files may stand; None: the system's.

    Raises:
        HtslibError: If htslib cannot.
    """
    bcf = _viewed(text, ["-Ou"], folder)
    # "Uncompressed" is, by version, plain or BGZF of level 0.
    return bcf if bcf.startswith(b"BCF") else b"".join(inflate_bgzf("htslib's output", lambda _: b"", bcf))


def text_of_records(bcf: bytes, folder: str | None = None) -> bytes:
    """Turn a whole BCF into the text of its records, without the header, every byte kept.

    Args:
        bcf: Uncompressed, header and records.
        folder: Where temporary files may stand; None: the system's.

    Raises:
        HtslibError: If htslib cannot.
    """
    return _viewed(bcf, ["-H"], folder)


def _viewed(data: bytes, options: list[str], folder: str | None) -> bytes:
    from pysam import bcftools
    from pysam.utils import SamtoolsError

    with tempfile.TemporaryDirectory(dir=folder, prefix=".varfm-tmp-") as inner, quiet_htslib():
        source, result = os.path.join(inner, "source"), os.path.join(inner, "result")
        with open(source, "wb") as file:
            file.write(data)
        try:
            bcftools.view("--no-version", *options, "-o", result, source, catch_stdout=False)
        except SamtoolsError as error:
            raise HtslibError(_last_line(str(error))) from error
        with open(result, "rb") as file:
            return file.read()


def _last_line(message: str) -> str:
    lines = [line for line in message.replace("\\n", "\n").splitlines() if line.strip()]
    return lines[-1].strip(" '\"") if lines else "no reason given"
