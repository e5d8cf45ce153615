"""Which files a run reads, and that it writes none of them, and none twice."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from varfm.errors import OptionError
from varfm.io.writer import INDEX_SUFFIXES

if TYPE_CHECKING:
    from varfm.session import SessionOptions

_FASTA_INDEXES = (".fai", ".gzi")
_MADE_HERE = (".vcf", ".vcf.gz", ".bcf", *INDEX_SUFFIXES, ".tsv", ".tsv.gz", ".parquet", ".npz", ".svg")
_SAID_HERE = (".varfm.json", "_mqc.json")
"""With these names, files of a folder of weights are what an earlier run wrote there, not what a run reads."""


def input_paths(options: SessionOptions) -> list[Path]:
    """Give what a run is told to read, indexes and the files of folders included; they need not be there.

    `-` is stdin.
    """
    model = options.model_options
    given = [options.vcf, options.genes.path, options.contig_map, options.regions, model.model_config]
    paths = [Path(path) for path in given if path]
    if options.vcf:
        paths += [Path(f"{options.vcf}{suffix}") for suffix in INDEX_SUFFIXES]
    if options.fasta:
        paths += fasta_paths(Path(options.fasta))
    for path in (model.weights, model.adapter):
        paths += files_of(path) if path else []
    return paths


def fasta_paths(fasta: Path) -> list[Path]:
    """Give a reference and its indexes."""
    return [fasta, *(Path(f"{fasta}{suffix}") for suffix in _FASTA_INDEXES)]


def files_of(path: Path) -> list[Path]:
    """Give a file, or the files of a folder that an earlier run did not write there."""
    if not path.is_dir():
        return [path]
    try:
        return [file for file in path.iterdir() if not file.name.endswith(_MADE_HERE + _SAID_HERE)]
    except OSError:
        return []


def check_apart(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """See to it that no output is an input or another output, by whatever names and links.

    Args:
        outputs: Paths that will be written; they need not be there. `-` is stdout, where the shell may have led it.
        inputs: Paths that will be read; `-` is stdin.

    Raises:
        OptionError: If two of them are one file.
    """
    read = {mark: path for path in inputs for mark in _marks(path, standard=0)}
    written: dict[object, Path] = {}
    for path in outputs:
        marks = list(_marks(path, standard=1))
        source = next((read[mark] for mark in marks if mark in read), None)
        if source is not None:
            name = "<stdout>" if str(path) == "-" else path
            raise OptionError(f"{name} is {_itself(source, path)}, which is read. Give the output another name.")
        other = next((written[mark] for mark in marks if mark in written), None)
        if other is not None:
            raise OptionError(f"{path} is another output's name. Give it a name of its own.")
        written |= dict.fromkeys(marks, path)


def _itself(source: Path, path: Path) -> str:
    name = "<stdin>" if str(source) == "-" else source
    return "an input" if source == path else f"the input {name}"


def _marks(path: Path, standard: int) -> Iterator[object]:
    """Give what tells a file from all others: where it lies, and what it is if it is there.

    Args:
        path: `-` is the stream of that number.
    """
    with suppress(OSError, ValueError):  # not there; or no name at all, which is told where it is opened
        if str(path) == "-":
            about = os.fstat(standard)
            if stat.S_ISREG(about.st_mode):  # not a terminal or a pipe, which may well be both
                yield about.st_dev, about.st_ino
            return
        yield os.path.realpath(path)
        about = os.stat(path)
        yield about.st_dev, about.st_ino
