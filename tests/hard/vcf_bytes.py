"""Builders of small VCF files, BGZF included, and the way back from an annotated VCF to the one that was read."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

BASES = "ACGT" * 250
"""Contig chr1 of the tests: the base at 1-based position p is `ACGT[(p - 1) % 4]`."""

COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
HEAD = b"##fileformat=VCFv4.2\n##contig=<ID=chr1,length=1000>\n" + COLUMNS + b"\n"
END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""BGZF's end marker, from the SAM specification."""


def record(pos: int | str, ref: str, alt: str, info: str = ".", contig: str = "chr1", name: str = ".") -> bytes:
    """Give one record of eight columns."""
    return f"{contig}\t{pos}\t{name}\t{ref}\t{alt}\t.\t.\t{info}\n".encode()


def vcf(*records: bytes, head: bytes = HEAD) -> bytes:
    """Give a whole VCF; the header takes three lines unless another one is given."""
    return head + b"".join(records)


GOOD = vcf(record(1, "A", "C"), record(2, "C", "G", "DP=3"), record(10, "C", "T"))
"""Three alleles that match the reference: starts 0, 1 and 9."""


def bgzf_block(data: bytes) -> bytes:
    """Compress at most 64 KiB into one BGZF block."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = deflate.compress(data) + deflate.flush()
    head = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff" + struct.pack("<HccHH", 6, b"B", b"C", 2, len(packed) + 25)
    return head + packed + struct.pack("<II", zlib.crc32(data), len(data))


def bgzf(data: bytes, size: int = 50) -> bytes:
    """Compress into blocks of `size` bytes and the end marker."""
    return b"".join(bgzf_block(data[start : start + size]) for start in range(0, len(data), size)) + END


def without_annotation(annotated: bytes) -> bytes:
    """Take varfm's header lines and INFO entries out again, by nothing but splitting at tabs and semicolons."""
    lines = []
    for line in re.split(rb"(?<=\n)", annotated):  # a CR inside a line ends none
        if line.startswith((b"##varfm_", b"##INFO=<ID=VARFM_")):
            continue
        if not line.startswith(b"#") and line.strip():
            fields = line.split(b"\t")
            info = fields[7].rstrip(b"\r\n") if len(fields) == 8 else fields[7]
            end, entries = fields[7][len(info) :], info.split(b";")
            fields[7] = (b";".join(e for e in entries if not e.startswith(b"VARFM_")) or b".") + end
            line = b"\t".join(fields)
        lines.append(line)
    return b"".join(lines)


def info_values(annotated: bytes, key: bytes = b"VARFM_STATUS") -> list[list[str]]:
    """Give the values of an INFO key, a list per record, empty where the record lacks the key."""
    values = []
    for line in annotated.splitlines():
        if not line.startswith(b"#"):
            entries = line.split(b"\t")[7].split(b";")
            found = [entry[len(key) + 1 :] for entry in entries if entry.startswith(key + b"=")]
            values.append(b",".join(found).decode().split(",") if found else [])
    return values


def fasta(contigs: dict[str, str], width: int = 60, newline: str = "\n") -> bytes:
    """Give a FASTA with lines of `width` bases."""
    parts = []
    for name, bases in contigs.items():
        lines = [bases[start : start + width] for start in range(0, len(bases), width)]
        parts += [f">{name}", *lines]
    return (newline.join(parts) + newline).encode()


def names_in(folder: Path) -> list[str]:
    """Give the names of everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())
