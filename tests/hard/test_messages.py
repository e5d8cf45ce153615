"""What every message has in common: what is wrong, where, and what to do; short, printable, without Python's words."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from conftest import Varfm
from vcf_bytes import COLUMNS, GOOD, HEAD, bgzf, fasta, record, vcf

DOES_WHAT = re.compile(
    r"\b(Use|Give|Name|Copy|Download|Convert|Mend|Separate|Delete|Write|Compress|Repair|Choose|Create|Set|See|Fetch|"
    r"Run|Join|Take|Swap|Check|Expected|expected|must|convert|copy|give|pipe|unpack|take off|begins with)\b"
)

CASES: dict[str, Callable[[Varfm], tuple[object, ...]]] = {
    "no such file": lambda varfm: (varfm.folder / "in.vcf",),
    "folder": lambda varfm: (varfm.folder,),
    "empty": lambda varfm: (varfm.file("in.vcf", b""),),
    "no header": lambda varfm: (varfm.file("in.vcf", record(1, "A", "C")),),
    "spaces": lambda varfm: (varfm.file("in.vcf", HEAD + b"chr1 1 . A C . . .\n"),),
    "columns": lambda varfm: (varfm.file("in.vcf", HEAD + b"chr1\t1\n"),),
    "more columns": lambda varfm: (varfm.file("in.vcf", HEAD + b"chr1\t1" + b"\t." * 9 + b"\n"),),
    "POS": lambda varfm: (varfm.file("in.vcf", vcf(record("x", "A", "C"))),),
    "long CHROM": lambda varfm: (varfm.file("in.vcf", vcf(*[record(1, "A", "C", contig="c" * 10**6)] * 5)),),
    "long POS": lambda varfm: (varfm.file("in.vcf", vcf(record("9" * 10**6, "A", "C"))),),
    "long REF": lambda varfm: (varfm.file("in.vcf", vcf(*[record(1, "G" * 900, "C")] * 5)),),
    "long line": lambda varfm: (varfm.file("in.vcf", HEAD + b"x" * 10**6 + b"\n"),),
    "not UTF-8": lambda varfm: (varfm.file("in.vcf", HEAD + b"\xff\xfe\x80\n"),),
    "truncated": lambda varfm: (varfm.file("in.vcf.gz", bgzf(GOOD)[:-28]),),
    "our keys": lambda varfm: (varfm.file("in.vcf", vcf(record(1, "A", "C", "VARFM_X=1"))),),
    "REF": lambda varfm: (varfm.file("in.vcf", vcf(record(1, "G", "C"))), "--on-ref-mismatch", "error"),
    "assembly": lambda varfm: (varfm.file("in.vcf", vcf(*[record(1, "G", "C")] * 5)),),
    "contigs": lambda varfm: (varfm.file("in.vcf", vcf(*[record(1, "A", "C", contig="7")] * 5)),),
    "no FASTA": lambda varfm: (varfm.file("in.vcf", GOOD), "-f", varfm.folder / "no.fa"),
    "ragged FASTA": lambda varfm: (varfm.file("in.vcf", GOOD), "-f", varfm.file("ref.fa", b">a\nA\nAA\n")),
    "FASTA without the contig": lambda varfm: (
        varfm.file("in.vcf", vcf(*[record(1, "A", "C")] * 5)),
        "-f",
        varfm.file("ref.fa", fasta({f"x{n}": "A" for n in range(10_000)})),
    ),
    "model": lambda varfm: (varfm.file("in.vcf", GOOD), "-m", "enformr"),
    "weights": lambda varfm: (varfm.file("in.vcf", GOOD), "-m", "mpra-dragonn"),
    "device": lambda varfm: (varfm.file("in.vcf", GOOD), "--device", "gpu"),
    "regions": lambda varfm: (varfm.file("in.vcf", GOOD), "-r", "chr1:9-1"),
    "contig map": lambda varfm: (varfm.file("in.vcf", GOOD), "--contig-map", varfm.file("map.tsv", b"a\n")),
    "table": lambda varfm: (varfm.file("in.vcf", GOOD), "--table", "t.xlsx"),
}


@pytest.mark.parametrize("case", CASES)
def test_message_is_one_short_line_with_what_to_do(varfm: Varfm, case: str) -> None:
    result = varfm.score(*CASES[case](varfm), "-o", varfm.out / "o.vcf")
    assert result.status in (2, 3, 4)
    assert result.out == b""
    [line] = result.err.splitlines()
    assert line.startswith("varfm: error: ")
    message = line.removeprefix("varfm: error: ").replace(str(varfm.folder), "")
    assert len(message) < 500
    assert message.isprintable()
    assert DOES_WHAT.search(message), message
    assert not re.search(r"Errno|Error\(|NoneType|\bNone\b|object at 0x|, line \d+, in ", message), message


@pytest.mark.parametrize(
    "case", [case for case in CASES if case not in ("model", "weights", "device", "table", "folder")]
)
def test_message_about_a_file_names_it(varfm: Varfm, case: str) -> None:
    [line] = varfm.score(*CASES[case](varfm)).err.splitlines()
    assert re.search(r"in\.vcf|ref\.fa|no\.fa|map\.tsv|chr1:9-1", line), line


def test_wrong_line_is_counted_from_the_first_line_of_the_file(varfm: Varfm) -> None:
    head = b"##fileformat=VCFv4.2\n" + b"##note=x\n" * 7 + COLUMNS + b"\n"  # nine lines
    rows = vcf(*[record(1, "A", "C")] * 9000, record("x", "A", "C"), head=head)
    for name, data in (("in.vcf", rows), ("in.vcf.gz", bgzf(rows, 30_000)), ("crlf.vcf", rows.replace(b"\n", b"\r\n"))):
        assert f"{name}, line 9,010: POS is 'x'" in varfm.refused(3, varfm.file(name, data))
