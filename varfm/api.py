"""The Python interface behind `varfm.score`."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from varfm.io.block import ALT, CHROM, ID, POS, REF, Block
from varfm.io.rows import label_texts
from varfm.io.table import frame, table_rows
from varfm.protocols import Column
from varfm.session import ScoredBlock, Session, SessionOptions
from varfm.variants import Status

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Result:
    """One allele (and gene) with its scores.

    Attributes:
        contig: As the VCF has it.
        pos: 1-based, as the VCF has it.
        id: As the VCF has it.
        ref: As the VCF has it.
        alt: One ALT, as the VCF has it.
        status: A status word of `docs/variants.md`.
        gene: Name of the gene that the scores belong to, or None.
        scores: Column name to score, or to a name for columns of names; empty where the allele was not scored; NaN (no
            name: None) where a single value is missing.
    """

    contig: str
    pos: int
    id: str
    ref: str
    alt: str
    status: str
    gene: str | None
    scores: dict[str, float | str | None]


class Results:
    """Results in input order; can be read once, as an iterator or as a frame. Close it, or use it as a context manager.

    Args:
        session: Open, with one model.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._iterator = self._results()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the files."""
        self.close()

    def __iter__(self) -> Iterator[Result]:
        """Give itself."""
        return self

    def __next__(self) -> Result:
        """Give the next result."""
        return next(self._iterator)

    def close(self) -> None:
        """Close the files; the rest of the results is not scored."""
        self._iterator.close()
        self._session.__exit__()

    def frame(self) -> pd.DataFrame:
        """Give all results as a pandas frame with the columns of the table output."""
        model = self._session.models[0]
        with self._session:
            return frame(model, ((item.block, item.alleles, item.scored[0]) for item in self._session))

    def _results(self) -> Generator[Result]:
        with self._session:
            for item in self._session:
                yield from _results_of(item, self._session)


def open_results(vcf: str, fasta: str | None, model: str, genes: str | None, options: SessionOptions | None) -> Results:
    """Open a session for `varfm.score`; see there."""
    options = options or SessionOptions(vcf, fasta)
    if genes is not None:
        options = replace(options, genes=replace(options.genes, path=genes))
    return Results(Session(replace(options, vcf=vcf, fasta=fasta, models=(model,))))


def _results_of(item: ScoredBlock, session: Session) -> Iterator[Result]:
    model = session.models[0]
    rows = table_rows(item.alleles, item.scored[0], model)
    columns = model.scorer.columns
    for row, allele in enumerate(rows.allele.tolist()):
        status = Status(item.scored[0].status[allele])
        scores = _named(columns, rows.scores[row]) if status.is_scored else {}
        gene = rows.genes[row] if rows.genes and rows.genes[row] != "." else None
        yield Result(*_written(item, allele), status.name, gene, scores)


def _named(columns: Sequence[Column], values: NDArray[np.float32]) -> dict[str, float | str | None]:
    return {
        column.name: label_texts(column, values[index : index + 1])[0] if column.labels else float(values[index])
        for index, column in enumerate(columns)
    }


def _written(item: ScoredBlock, allele: int) -> tuple[str, int, str, str, str]:
    block: Block = item.block
    record = int(item.alleles.record[allele])
    contig, identifier, ref, alts = (block.field(record, n).decode("utf-8", "replace") for n in (CHROM, ID, REF, ALT))
    alt = alts.split(",")[int(item.alleles.number[allele])]
    return contig, int(np.int64(block.field(record, POS))), identifier, ref, alt
