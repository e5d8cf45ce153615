"""A tiny genome, and the command called in this process with what it wrote to both streams."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from vcf_bytes import BASES, GOOD, fasta, info_values, names_in, without_annotation

from varfm.cli.main import run

NOBODY = 65534


class Result(NamedTuple):
    """What a call of the command left behind."""

    status: int
    out: bytes
    err: str


class Varfm:
    """Calls `varfm` in this process.

    Attributes:
        folder: For inputs.
        out: For outputs; empty at the start.
        fasta: chr1, 1,000 bases ACGTACGT...; chr2, 20 bases with N, ambiguity codes and lower case.
    """

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[bytes], genome: Path
    ) -> None:
        self.folder = folder / "in"
        self.out = folder / "out"
        self.folder.mkdir()
        self.out.mkdir()
        self.fasta = genome
        self._monkeypatch = monkeypatch
        self._capture = capture

    def file(self, name: str, data: bytes) -> Path:
        """Write an input file."""
        path = self.folder / name
        path.write_bytes(data)
        return path

    def run(self, *args: object, stdin: bytes | None = None) -> Result:
        """Call the command; whatever happens, no traceback and no raw escape sequence may be shown."""
        if stdin is not None:
            self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self._capture.readouterr()
        status = run([str(arg) for arg in args])
        out, err = self._capture.readouterr()
        assert b"Traceback" not in err, err.decode()
        assert b"\x1b" not in err and b"\0" not in err
        return Result(status, out, err.decode())

    def score(self, vcf: object, *options: object, stdin: bytes | None = None) -> Result:
        """Score with the `null` model on the tiny genome, unless `options` name others."""
        model = () if "-m" in options else ("-m", "null")
        reference = () if "-f" in options else ("-f", self.fasta)
        return self.run("score", vcf, *model, *reference, *options, stdin=stdin)

    def annotated(self, vcf: bytes, *options: object, name: str = "in.vcf", plain: bytes | None = None) -> bytes:
        """Score a VCF that must work, check that nothing but our own keys differs from it, and give the output.

        Args:
            vcf: The file's bytes.
            plain: What they are once unpacked, if compressed.
        """
        result = self.score(self.file(name, vcf), *options)
        assert result.status == 0, result.err
        assert without_annotation(result.out) == (vcf if plain is None else plain)
        return result.out

    def statuses(self, vcf: bytes, *options: object, name: str = "in.vcf", plain: bytes | None = None) -> list[str]:
        """Give the status words of a VCF that must work: one text per record, its ALTs joined by commas."""
        return [",".join(words) for words in info_values(self.annotated(vcf, *options, name=name, plain=plain))]

    def refused(self, status: int, vcf: object, *options: object, stdin: bytes | None = None) -> str:
        """Score into a file, which must fail without leaving anything, and give the one message."""
        result = self.score(vcf, "-o", self.out / "o.vcf.gz", *options, stdin=stdin)
        assert result.status == status, (result.status, result.err)
        assert names_in(self.out) == []
        assert result.out == b""
        return message_of(result)


def message_of(result: Result) -> str:
    """Give the message of a failure: one paragraph that ends with what to do, not with a question."""
    assert result.err.count("varfm: error: ") == 1, result.err
    message = result.err.split("varfm: error: ")[1].strip()
    assert "\n" not in message
    assert not message.endswith("?"), message
    return message


@pytest.fixture(scope="session")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("genome") / "tiny.fa"
    path.write_bytes(fasta({"chr1": BASES, "chr2": "AAAAANNNNNRYSWKMacgt"}))
    return path


@pytest.fixture
def varfm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], genome: Path
) -> Varfm:
    for name in [name for name in os.environ if name.startswith("VARFM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VARFM_TESTING", "1")
    monkeypatch.setenv("VARFM_OFFLINE", "1")
    monkeypatch.setenv("VARFM_DEVICE", "cpu")
    monkeypatch.setenv("VARFM_THREADS", "1")
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VARFM_CONFIG", os.devnull)
    return Varfm(tmp_path, monkeypatch, capfdbinary, genome)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, which pytest's own cannot be."""
    with tempfile.TemporaryDirectory(prefix="varfm-test-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


PlainUser = Callable[..., Result]


@pytest.fixture
def as_plain_user(varfm: Varfm, open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> PlainUser:
    """Call the command as a user without rights, in a forked process."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    # The other user may not be able to read the package: import all of it now.
    assert varfm.score(varfm.file("warm-up.vcf", GOOD)).status == 0
    cache = open_folder / "cache"
    cache.mkdir()
    os.chown(cache, NOBODY, NOBODY)
    monkeypatch.setenv("VARFM_CACHE", str(cache))

    def call(*args: object) -> Result:
        out, err = open_folder / "stdout", open_folder / "stderr"
        with out.open("wb") as out_file, err.open("wb") as err_file, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
            child = os.fork()
            if child == 0:
                os.dup2(out_file.fileno(), 1)
                os.dup2(err_file.fileno(), 2)
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                sys.stdout, sys.stderr = open(1, "w"), open(2, "w")
                status = 99
                try:
                    status = run([str(arg) for arg in args])
                    sys.stdout.flush()
                    sys.stderr.flush()
                finally:
                    os._exit(status)
        _, ended = os.waitpid(child, 0)
        result = Result(os.waitstatus_to_exitcode(ended), out.read_bytes(), err.read_text())
        assert "Traceback" not in result.err, result.err
        return result

    return call
