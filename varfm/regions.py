"""Spans of the genome to which a run is restricted, from the command line or a BED file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from varfm.contigs import ContigMap
from varfm.digits import counted, is_whole
from varfm.errors import InputError, OptionError
from varfm.io.lines import read_lines

_BED_SUFFIXES = (".bed", ".bed.gz", ".bed.bgz")
_MAX_END = np.iinfo(np.int64).max


class _Span(NamedTuple):
    contig: str
    start: int
    end: int


class Regions:
    """Spans of the genome, merged and sorted, that answer for many records at once."""

    def __init__(self, spans: Iterable[tuple[str, int, int]]) -> None:
        """Take (contig in the FASTA, start, end) spans, 0-based half-open, in any order; empty ones are dropped."""
        by_contig: dict[str, list[tuple[int, int]]] = {}
        for contig, start, end in spans:
            if start < end:
                by_contig.setdefault(contig, []).append((start, end))
        self._spans = {contig: _merged(pairs) for contig, pairs in by_contig.items()}

    @property
    def contigs(self) -> tuple[str, ...]:
        """The contigs that have a span, as named in the FASTA."""
        return tuple(self._spans)

    def mask(self, contig: str, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which records touch a span.

        Args:
            contig: Name in the FASTA.
            starts: (n,) 0-based first bases of REF, in any order.
            ends: (n,) starts + length of REF.

        Returns:
            (n,) True where at least one base of REF lies in a span.
        """
        if contig not in self._spans:
            return np.zeros(starts.shape, np.bool_)
        span_starts, span_ends = self._spans[contig]
        first = np.searchsorted(span_ends, starts, side="right")  # the first span that ends after the record's start
        touches: NDArray[np.bool_] = np.append(span_starts, _MAX_END)[first] < ends
        return touches


def _merged(pairs: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    starts, ends = np.array(sorted(pairs), np.int64).T
    reach = np.maximum.accumulate(ends)
    is_first = np.append(True, starts[1:] > reach[:-1])
    return starts[is_first], reach[np.append(is_first[1:], True)]


def read_regions(text: str, contig_map: ContigMap, genome_contigs: Mapping[str, int]) -> Regions:
    """Read what `--regions` was given.

    Args:
        text: The path of a BED file (`.bed`, `.bed.gz`), or spans separated by commas: `contig`, `contig:position`,
            `contig:start-end`, `contig:start-`; 1-based, both ends included. A name that contains `:` is understood
            where the whole of it names a contig.
        contig_map: Finds the FASTA's name; names of the FASTA and of the VCF both work.
        genome_contigs: Names and lengths of the FASTA.

    Raises:
        OptionError: If a span cannot be read or lies outside the genome.
        InputError: If the BED file is missing or malformed.
    """
    if contig_map.resolve(text) is None and text.lower().endswith(_BED_SUFFIXES):
        return Regions(_read_bed(Path(text), contig_map, genome_contigs))
    parts = [text] if contig_map.resolve(text) else text.split(",")
    return Regions(_parse_span(part.strip(), contig_map, genome_contigs) for part in parts)


def _parse_span(text: str, contig_map: ContigMap, genome_contigs: Mapping[str, int]) -> _Span:
    contig = contig_map.resolve(text)
    if contig is not None:
        return _Span(contig, 0, genome_contigs[contig])
    name, colon, places = text.rpartition(":")
    contig = contig_map.resolve(name if colon else text)
    if contig is None:
        raise OptionError(
            f"--regions {text!r}: the FASTA has no contig {(name if colon else text)!r} (it has "
            f"{_some(genome_contigs)}). Give contig, contig:position, contig:start-end, or a BED file."
        )
    length = genome_contigs[contig]
    start, end = _parse_places(text, places, length)
    if start > length:
        raise OptionError(f"--regions {text!r}: {contig} has {counted(length, 'base')} only. Give a start inside it.")
    return _Span(contig, start - 1, min(end, length))


def _parse_places(text: str, places: str, length: int) -> tuple[int, int]:
    first, dash, last = places.partition("-")
    if not (is_whole(first) and (is_whole(last) or not last)) or int(first) < 1:
        raise OptionError(
            f"--regions {text!r}: {places!r} is no position and no span. Positions count from 1 and have no thousands "
            "commas, for example chr1:1000001-2000000."
        )
    start = int(first)
    end = int(last) if last else length if dash else start
    if last and end < start:
        raise OptionError(f"--regions {text!r}: the end is before the start. Swap them.")
    return start, end


def _read_bed(path: Path, contig_map: ContigMap, genome_contigs: Mapping[str, int]) -> Iterator[_Span]:
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.startswith((b"#", b"track", b"browser")):
            continue
        words = line.decode("utf-8", "surrogateescape").split("\t" if b"\t" in line else None)
        if len(words) < 3 or not (is_whole(words[1]) and is_whole(words[2])) or int(words[1]) > int(words[2]):
            raise InputError(
                f"{path}, line {number}: {' '.join(words[:3])!r} is no span. BED has contig, start and end, separated "
                "by tabs, with 0 <= start <= end."
            )
        contig = contig_map.resolve(words[0])
        if contig is None:
            raise InputError(
                f"{path}, line {number}: the FASTA has no contig {words[0]!r} (it has {_some(genome_contigs)}). "
                "Take the line out, or name the contig in --contig-map."
            )
        yield _Span(contig, int(words[1]), min(int(words[2]), genome_contigs[contig]))


def _some(genome_contigs: Mapping[str, int]) -> str:
    names = list(genome_contigs)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
