"""The contract between the parts of varfm: what a network, a scorer and a model are, and what passes between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from varfm.variants import Status, Variant, VariantKind
from varfm.windows import Gene, Haplotype, Site

if TYPE_CHECKING:  # torch takes more than a second to import; `varfm --help` must not pay for it
    from torch import Tensor

Row = bytes
"""One network input as bytes, hashable. For one-hot networks, the base codes of the window: 0-3 (A, C, G, T), 4 (N)."""


class Change(NamedTuple):
    """An input that is to be computed from another one, of which it differs in a few places; both of one length.

    Attributes:
        base: The other one.
        row: The input; may be the base itself, where a span is given.
        span: The bases [start, stop) that are computed; None: as few as hold the difference.
    """

    base: Row
    row: Row
    span: tuple[int, int] | None = None


Asked = Row | Change
"""What a network is asked: a row, or a row by its difference from another. Their answers differ in the last digits."""


def n_bytes(asked: Asked) -> int:
    """Give the bytes of an input."""
    return len(asked.row) if isinstance(asked, Change) else len(asked)


@dataclass(frozen=True, slots=True)
class Column:
    """One score of a model: a column of its table.

    Attributes:
        name: Tidy name, unique in the model; the header of the table's column.
        description: One sentence for header lines and `models info`.
        unit: What the number is counted in, e.g. `log odds`.
        formula: How it is computed, in one line.
        signed: True if swapping ref and alt gives minus the score.
        labels: For a column of names: the value is an index into them, and tables show the name.
        facts: What else is known of it, name to text, e.g. its track; for the metadata of Parquet files.
    """

    name: str
    description: str
    unit: str
    formula: str
    signed: bool = True
    labels: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Field:
    """One INFO field of a model: `VARFM_<MODEL>_<key>`, `Number=A`.

    Attributes:
        key: Upper case, `[A-Z0-9_]`.
        type: VCF type.
        description: Plain sentence without double quotes.
    """

    key: str
    type: Literal["Float", "Integer", "String"]
    description: str


Value = float | int | str | None
"""A value of an INFO field. None, and a float that is not finite, are written as `.`."""


class Network(Protocol):
    """Holds parameters. Reads haplotypes; does not know how they are compared.

    Rows of one length go in one batch, or, if the network has a function `kind_of(row)`, rows of one kind. Where a row
    is not the sequence itself, `sample(sequence)` gives one to try the network with. Where a sequence holds several
    windows, `is_n_heavy(sequence)` tells whether one of them has too many N to be scored.
    """

    @property
    def length(self) -> int | None:
        """Bases it reads; None: any."""

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        """Turn a sequence into network inputs, on the CPU, without parameters.

        Args:
            sequence: Base codes 0-3 (A, C, G, T) and 4 (N), one byte a base, on the haplotype's strand.
            haplotype: What the sequence is.
        """

    def forward(self, batch: Tensor) -> Tensor:
        """Run the network on rows, (rows, row length) uint8 on its device -> (rows, ...). Traceable by `torch.fx`."""

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """Turn the outputs of a haplotype's rows, in order, into its answer, in forward-strand orientation.

        Args:
            sequence: What `rows` was given.
        """


class Scorer(Protocol):
    """Chooses haplotypes and compares their answers. Pure: no files, no device, no state."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """The INFO fields. The absolute value of the first one ranks the genes of an allele."""

    @property
    def supports(self) -> frozenset[VariantKind]:
        """The kinds of allele that can be scored."""

    @property
    def max_allele(self) -> int:
        """Bases that the longer trimmed allele may have; longer ones are `TOO_LONG`."""

    @property
    def needs_genes(self) -> bool:
        """True if scores belong to genes."""

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give the places at which the allele is scored, never an empty list, or the reason why there is none.

        Args:
            left: The trimmed, left-aligned allele. May be empty on both sides (ALT equal to REF).
            right: The same allele right-aligned.
            genes: Needed if `needs_genes`.
        """

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give the sequences to read, in fixed order; only called for alleles that change something.

        An alternate one comes behind the reference it is compared with: the last one before it on its strand.
        """

    @property
    def n_values(self) -> int:
        """Length of what `score` gives: first the columns, then what only `headline` reads."""

    def score(self, site: Site, answers: Sequence[Tensor]) -> Tensor:
        """Compare answers, in the order of `haplotypes` -> (n_values,) float64, on any device."""

    def unchanged(self) -> NDArray[np.float64] | None:
        """Give the (n_values,) values of an allele equal to REF, for which no network runs; None: it must."""

    @property
    def plain_fields(self) -> tuple[int, ...] | None:
        """The column behind each field, where every field is a column as it stands; else None."""

    def headline(self, scores: NDArray[np.float64], gene: Gene | None) -> tuple[Value, ...]:
        """Give the values of `fields` for one site from its (n_values,) scores and the site's gene."""


class DirectScorer(Scorer, Protocol):
    """A scorer that needs no network: it reads positions only."""

    def direct(self, starts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score alleles by their 0-based starts: (n,) -> (n, n_values)."""


class GeneIndex(Protocol):
    """The genes of a genome, found by place."""

    def overlapping(self, contig: str, start: int, end: int) -> Sequence[Gene]:
        """Give the genes whose TSS lies in [start, end), 0-based, in order of TSS, then gene id."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What the header of an output says about a model, beside its fields.

    Attributes:
        weights_sha256: Of the file that was read; empty for models without weights.
        published: False where the file is not the one that the authors published.
        options: The resolved options that decide the scores, in fixed order, name to value.
        notes: Further header lines: key (without `##varfm_`) to the text of the structured line.
    """

    weights_sha256: str = ""
    published: bool = True
    licence: str = ""
    options: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Model:
    """A network, how its answers are compared, and what is to be said of it.

    Attributes:
        name: The catalogue name, lower case.
        network: None only for direct scorers.
        batch_rows: Rows per forward pass on the CPU and on a GPU; part of the numeric plan.
        incremental: True if alternate rows are computed from their reference rows unless the user says otherwise. The
            network must be a torch module that reads one row per haplotype, all of one length.
    """

    name: str
    network: Network | None
    scorer: Scorer
    origin: Origin = field(default_factory=Origin)
    batch_rows: tuple[int, int] = (16, 64)
    incremental: bool = False

    @property
    def prefix(self) -> str:
        """The start of the model's INFO keys, `VARFM_<MODEL>`."""
        return "VARFM_" + "".join(c if c.isalnum() and c.isascii() else "_" for c in self.name.upper())


@dataclass(frozen=True, slots=True)
class Scored:
    """What one model says of the alleles of one block, as arrays.

    Attributes:
        status: (n_alleles,) uint8, `Status` numbers; never undecided.
        site_allele: (n_sites,) int64, ascending: the allele each site belongs to. Alleles that are not scored have no
            site; an allele has several sites only where scores belong to genes.
        genes: (n_sites,) gene names, or None where scores do not belong to genes.
        scores: (n_sites, n_values) float64; the first values are the columns.
        headline_site: (n_alleles,) int64, the site that INFO shows, -1 if none.
    """

    status: NDArray[np.uint8]
    site_allele: NDArray[np.int64]
    genes: tuple[Gene, ...] | None
    scores: NDArray[np.float64]
    headline_site: NDArray[np.int64]
