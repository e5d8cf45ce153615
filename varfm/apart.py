"""Which files a run reads, and that it writes none of them, and none twice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from varfm.errors import OptionError
from varfm.io.streams import STDIN
from varfm.io.writer import INDEX_SUFFIXES

if TYPE_CHECKING:
    from varfm.session import SessionOptions

_FASTA_INDEXES = (".fai", ".gzi")
_MADE_HERE = (".vcf", ".vcf.gz", ".bcf", *INDEX_SUFFIXES, ".tsv", ".tsv.gz", ".parquet", ".npz", ".svg")
_SAID_HERE = (".varfm.json", "_mqc.json")
"""With these names, files of a folder of weights are what an earlier run wrote there, not what a run reads."""


def input_paths(options: SessionOptions) -> list[Path]:
    """Give what a run is told to read, indexes and the files of folders included; they need not be there."""
    model = options.model_options
    given = [options.vcf, options.genes.path, options.contig_map, options.regions, model.model_config]
    paths = [Path(path) for path in given if path and path != STDIN]
    if options.vcf and options.vcf != STDIN:
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
        outputs: Paths that will be written; they need not be there.
        inputs: Paths that will be read.

    Raises:
        OptionError: If two of them are one file.
    """
    read = {mark: path for path in inputs for mark in _marks(path)}
    written: dict[object, Path] = {}
    for path in outputs:
        marks = list(_marks(path))
        source = next((read[mark] for mark in marks if mark in read), None)
        if source is not None:
            raise OptionError(f"{path} is {_itself(source, path)}, which is read. Give the output another name.")
        other = next((written[mark] for mark in marks if mark in written), None)
        if other is not None:
            raise OptionError(f"{path} is another output's name. Give it a name of its own.")
        written |= dict.fromkeys(marks, path)


def _itself(source: Path, path: Path) -> str:
    return "an input" if source == path else f"the input {source}"


def _marks(path: Path) -> Iterator[object]:
    """Give what tells a file from all others: where it lies, and what it is if it is there."""
    with suppress(OSError, ValueError):  # not there; or no name at all, which is told where it is opened
        yield os.path.realpath(path)
        about = os.stat(path)
        yield about.st_dev, about.st_ino
