"""The rows of a table: which alleles and genes stand in which row, with their text and scores. Writes no file.

The columns are `contig pos id ref alt status [gene]` and one per score; one row per allele (and gene), in input order.
The first five are written as they stand in the record, with one ALT per row; numbers are rounded as `io/info.py` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from varfm.io.block import ALT, CHROM, ID, REF, Block
from varfm.io.info import STATUS_WORDS, clean_text, rounded
from varfm.protocols import Column, Model, Scored
from varfm.variants import Status

if TYPE_CHECKING:  # two of its arrays are needed, not the genome behind them
    from varfm.alleles import Alleles


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a table for one block.

    Attributes:
        allele: (n_rows,) int64, ascending, every allele at least once.
        scores: (n_rows, n_columns) float32, NaN where missing; for columns of names, see `label_texts`.
        genes: One name per row, `.` where there is none; None for models whose scores do not belong to genes.
    """

    allele: NDArray[np.int64]
    scores: NDArray[np.float32]
    genes: list[str] | None


def table_rows(alleles: Alleles, scored: Scored, model: Model) -> Rows:
    """Lay out the rows of a block: the sites of an allele in order, or one row without scores."""
    sites = np.flatnonzero(scored.status[scored.site_allele] >= Status.PADDED)
    n_sites = np.bincount(scored.site_allele[sites], minlength=len(alleles.record))
    allele = np.repeat(np.arange(len(n_sites)), np.maximum(n_sites, 1))
    has_site = n_sites[allele] > 0
    scores = np.full((len(allele), len(model.scorer.columns)), np.nan, np.float32)
    scores[has_site] = rounded(scored.scores[sites, : scores.shape[1]])
    genes = None
    if model.scorer.needs_genes:
        genes = ["."] * len(allele)
        for row, site in zip(np.flatnonzero(has_site).tolist(), sites.tolist(), strict=True):
            genes[row] = clean_text(scored.genes[site].name) if scored.genes is not None else "."
    return Rows(allele, scores, genes)


def text_names(model: Model) -> tuple[str, ...]:
    """Name the columns that stand before the scores."""
    names = ("contig", "pos", "id", "ref", "alt", "status")
    return (*names, "gene") if model.scorer.needs_genes else names


def text_columns(block: Block, alleles: Alleles, scored: Scored, rows: Rows) -> dict[str, list[bytes]]:
    """Give the text of the columns before the scores but `pos`, one value per row.

    Returns:
        Column name to bytes as they stand in the record; no gene is empty.
    """
    record = alleles.record[rows.allele].tolist()
    allele = rows.allele.tolist()
    columns = {}
    for name, number in (("contig", CHROM), ("id", ID), ("ref", REF)):
        values = block.column(number)
        columns[name] = [values[index] for index in record]
    alts, status = _alts(block), scored.status.tolist()
    columns["alt"] = [alts[index] for index in allele]
    columns["status"] = [STATUS_WORDS[status[index]] for index in allele]
    if rows.genes is not None:
        columns["gene"] = [b"" if gene == "." else gene.encode() for gene in rows.genes]
    return columns


def label_texts(column: Column, values: NDArray[np.float32]) -> list[str | None]:
    """Give the names of a column whose values are indices into its labels; None where there is no value."""
    return [None if value != value else column.labels[int(value)] for value in values.tolist()]


def positions(block: Block, alleles: Alleles, rows: Rows) -> NDArray[np.int64]:
    """Give POS as written, 1-based, one per row."""
    return block.positions[alleles.record[rows.allele]]


def allele_heads(block: Block, alleles: Alleles) -> list[bytes]:
    """Give `contig pos id ref alt` of every allele, tabs between, as bytes of the record."""
    last = ALT if len(alleles.record) == block.n_records else REF
    data = block.data
    spans = zip(block.starts[:-1].tolist(), block.ends[:, last].tolist(), strict=True)
    heads = [data[start:end] for start, end in spans]  # the five columns lie side by side in the record
    if last == ALT:
        return heads
    return [heads[record] + b"\t" + alt for record, alt in zip(alleles.record.tolist(), _alts(block), strict=True)]


def _alts(block: Block) -> list[bytes]:
    return [alt for field in block.column(ALT) for alt in field.split(b",")]
