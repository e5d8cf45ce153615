"""Run varfm on public collections of valid and invalid VCF files, with a FASTA made for each file from the file itself.

python benchmarks/public_suites.py FOLDER

FOLDER holds copies of github.com/samtools/hts-specs and github.com/EBIvariation/vcf-validator, or anything else whose
valid VCF files lie in folders called `passed` and the others in folders called `failed`.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

_LONGEST_CONTIG = 50_000_000
_MOST_CPU_S = 60


@dataclass(frozen=True)
class Result:
    """What came of one file.

    Attributes:
        status: Of the command; negative for a signal.
        fault: What is wrong with that; empty if nothing is.
        said: The first line on stderr.
    """

    path: Path
    is_valid: bool
    status: int
    fault: str
    said: str


def suite_files(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Give the VCF files below `passed` and `failed`, and whether they are valid."""
    for path in sorted(folder.rglob("*.vcf")):
        kinds = {"passed", "failed"} & set(path.relative_to(folder).parts)
        if path.is_file() and len(kinds) == 1:
            yield path, "passed" in kinds


def fasta_of(vcf: bytes) -> bytes:
    """Make a FASTA that agrees with a VCF: its contigs with the REF alleles at their places, N elsewhere."""
    contigs: dict[bytes, bytearray] = {}
    for line in vcf.splitlines():
        fields = line.split(b"\t")
        if line.startswith(b"#") or len(fields) < 5 or not fields[1].isdigit() or b" " in fields[0]:
            continue
        bases = contigs.setdefault(fields[0], bytearray(b"N"))
        start, ref = max(0, int(fields[1]) - 1), fields[3]
        if start + len(ref) > _LONGEST_CONTIG or not ref.isalpha():
            continue
        bases.extend(b"N" * (start + len(ref) - len(bases)))
        bases[start : start + len(ref)] = ref
    names = contigs or {b"none": bytearray(b"N")}
    return b"".join(b">" + name + b"\n" + bases + b"\n" for name, bases in names.items())


def judged(path: Path, is_valid: bool, status: int, output: Path, said: str) -> str:
    """Say what is wrong with the outcome of a file; nothing if it is as it should be."""
    from vcf_bytes import without_annotation

    content = path.read_bytes()
    if "Traceback" in said or status not in (0, 2, 3):
        return "crashed"
    if not said.replace("\n", "").isprintable():
        return "wrote to the terminal what is not printable"
    if status == 0:
        return "" if without_annotation(output.read_bytes()) == content else "changed bytes that are not its own"
    if said.count("\n") != 1:
        return "has no message of one line"
    return "refused" if is_valid and content else ""


def score(path: Path, is_valid: bool) -> Result:
    """Score one file in a forked process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ref.fa").write_bytes(fasta_of(path.read_bytes()))
        child = os.fork()
        if child == 0:
            os._exit(_run(path, folder))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = (folder / "stderr").read_text() if (folder / "stderr").exists() else ""
        fault = judged(path, is_valid, status, folder / "out.vcf", said)
        return Result(path, is_valid, status, fault, said.partition("\n")[0].replace(f"{name}/", ""))


def _warm_up() -> None:
    """Import once what every forked process needs."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "in.vcf")
        path.write_bytes(b"##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        (Path(name) / "ref.fa").write_bytes(fasta_of(path.read_bytes()))
        _run(path, Path(name))


def _run(path: Path, folder: Path) -> int:
    import resource

    from varfm.cli.main import run

    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_CPU_S, _MOST_CPU_S))
    os.environ |= {"VARFM_TESTING": "1", "VARFM_CACHE": str(folder / "cache"), "VARFM_CONFIG": os.devnull}
    output = str(folder / "out.vcf")
    with open(folder / "stderr", "w") as said, redirect_stderr(said), redirect_stdout(io.StringIO()):
        return run(["score", str(path), "-f", str(folder / "ref.fa"), "-m", "null", "-o", output])


def table(results: Sequence[Result], folder: Path) -> Iterator[str]:
    """Give a line per folder of files, with their number and what came of them."""
    by_folder: dict[str, Counter[str]] = {}
    for result in results:
        counts = by_folder.setdefault(str(result.path.parent.relative_to(folder)), Counter())
        counts["files"] += 1
        counts["wrong" if result.fault else "scored" if result.status == 0 else "refused"] += 1
    width = max(map(len, by_folder), default=6)
    yield f"{'folder':<{width}}{'files':>8}{'scored':>8}{'refused':>9}{'wrong':>7}"
    for name, counts in by_folder.items():
        numbers = f"{counts['files']:>8}{counts['scored']:>8}{counts['refused']:>9}{counts['wrong']:>7}"
        yield f"{name:<{width}}{numbers}"


def main(argv: list[str] | None = None) -> int:
    """Run all files, print the table and what is wrong; status 1 if something is."""
    parser = argparse.ArgumentParser(
        prog="public_suites.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="holds the files, at any depth")
    parser.add_argument("--messages", action="store_true", help="also print what was said of each refused file")
    chosen = parser.parse_args(argv)
    tests = Path(__file__).resolve().parents[1] / "tests" / "hard"
    sys.path[:0] = [str(tests)]
    _warm_up()
    results = [score(path, is_valid) for path, is_valid in suite_files(chosen.folder)]
    for line in table(results, chosen.folder):
        print(line)
    for result in results:
        if result.fault or (chosen.messages and result.said and result.status):
            place = result.path.relative_to(chosen.folder)
            print(f"{place}: {result.fault or 'ok'}, status {result.status}: {result.said}")
    n_wrong = sum(bool(result.fault) for result in results)
    n_valid = sum(result.is_valid for result in results)
    print(f"{len(results)} files, {n_valid} of them valid: {n_wrong} wrong")
    return 1 if n_wrong or not results else 0


if __name__ == "__main__":
    sys.exit(main())
