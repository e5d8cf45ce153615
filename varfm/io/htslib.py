"""htslib, through pysam, without its talk on stderr."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_htslib() -> Iterator[None]:
    """Keep htslib from writing warnings to stderr; what matters is raised as an error instead."""
    import pysam

    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)


def text_of_record(record: Any) -> bytes:
    """Print a record of pysam as a line of VCF with its LF, every byte kept.

    Args:
        record: A `pysam.VariantRecord`.
    """
    try:
        return str(record).encode()
    except UnicodeDecodeError:
        return _printed(record)


def _printed(record: Any) -> bytes:
    """Have htslib print it to a file, because pysam can only decode UTF-8."""
    import pysam

    with tempfile.NamedTemporaryFile(suffix=".vcf") as file:
        with pysam.VariantFile(file.name, "w", header=record.header) as out:
            out.write(record.copy())
        return file.read().splitlines(keepends=True)[-1]
