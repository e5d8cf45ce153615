"""The picture of a saturation mutagenesis: one score of a run, collected block by block, and drawn at its end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from varfm.digits import counted
from varfm.errors import OptionError, printable
from varfm.io.atomic import AtomicFile, disk_errors
from varfm.io.block import Block
from varfm.io.info import rounded
from varfm.ism import BASES, IsmSession, Place
from varfm.protocols import Column, Model, Scored
from varfm.svg import Effects, draw
from varfm.variants import Status, VariantKind
from varfm.windows import Gene

if TYPE_CHECKING:
    from varfm.alleles import Alleles

SUFFIX = ".svg"
MAX_LENGTH = 3_000
"""Positions of a picture, at most; more make a file that no viewer likes."""

_N_SHOWN = 5


class PictureWriter:
    """Draws one score of one model; a `varfm.output.Picture`, so that it is published with the table.

    Args:
        path: The final name.
        session: Open; says what is mutated and with which model.
        column: Name of the score; None: the first one that is a number.
        gene: Name of the gene, for scores of genes; None: the one with the score of largest size.
        force: Replace a file that is there.

    Attributes:
        column: What is drawn.

    Raises:
        OptionError: If there is no such score, scores do not belong to genes, the region is too long to be drawn, or
            the file exists and `force` is False.
        DiskError: If the file cannot be made.
    """

    def __init__(
        self, path: Path, session: IsmSession, *, column: str | None = None, gene: str | None = None, force: bool
    ) -> None:
        self.path = path
        self._place = session.place
        self._fasta = session.genome.path.name
        self._model = session.models[0]
        self._gene = gene
        self._index = choose_column(self._model, column)
        self.column: Column = self._model.scorer.columns[self._index]
        if gene is not None and not self._model.scorer.needs_genes:
            raise OptionError(f"--gene does not apply: scores of {self._model.name} belong to no gene. Leave it out.")
        if len(self._place.bases) > MAX_LENGTH:
            raise OptionError(
                f"--svg: a picture has at most {MAX_LENGTH:,} positions, {self._place} has "
                f"{len(self._place.bases):,}. Leave out --svg, or give a shorter region."
            )
        self._scores: dict[Gene | None, NDArray[np.float32]] = {}
        self._own: dict[Gene | None, float] = {}
        self._own_status = Status.OK
        self._counts: Counter[Status] = Counter()
        self._target = AtomicFile(path, force)

    def write(self, block: Block, alleles: Alleles, scored: Scored) -> None:
        """Take the score from a block."""
        place = self._place
        has_own = place.written is not None and not place.is_substitution and not self._counts
        places = block.positions[alleles.record] - 1 - place.start
        _, _, alts = block.snvs()
        for site in np.flatnonzero(scored.status[scored.site_allele] >= Status.PADDED).tolist():
            allele = int(scored.site_allele[site])
            gene = scored.genes[site] if scored.genes is not None else None
            value = rounded(scored.scores[site, self._index : self._index + 1])[0]
            if has_own and allele == 0:
                self._own[gene] = float(value)
            else:
                base = BASES.index(chr(alts[alleles.record[allele]]))
                self._grid(gene)[places[allele], base] = value
        if has_own:
            self._own_status = Status(scored.status[0])
        self._counts.update(map(Status, scored.status.tolist()))

    def seal(self) -> None:
        """Draw, and close the file.

        Raises:
            OptionError: If no score belongs to the gene that was asked for.
            DiskError: If the disk fails.
        """
        picture = draw(self._effects()).encode()
        with disk_errors(self._target.name):
            self._target.file.write(picture)
        self._target.seal()

    @property
    def temporary(self) -> Path | None:
        """Where the picture lies until it is published."""
        return Path(self._target.temporary)

    def publish(self) -> None:
        """Give a sealed picture its name."""
        self._target.publish()

    def discard(self) -> None:
        """Remove what was written; nothing happens after `publish`."""
        self._target.discard()

    def _grid(self, gene: Gene | None) -> NDArray[np.float32]:
        if gene not in self._scores:
            self._scores[gene] = np.full((len(self._place.bases), len(BASES)), np.nan, np.float32)
        return self._scores[gene]

    def _effects(self) -> Effects:
        place, column = self._place, self.column
        gene = self._chosen_gene()
        variant = place.variant
        around = f"around {_spelt(place)}" if variant else f"in {place}"
        return Effects(
            title=f"{self._model.name}: {column.name} {f'of {gene.name} ' if gene else ''}{around}",
            notes=tuple(self._notes(gene)),
            contig=place.contig,
            start=place.start,
            reference=place.bases,
            scores=self._grid(gene).astype(np.float64),
            name=column.name,
            unit=column.unit,
            signed=column.signed,
            marked=_marked(place),
            band=(variant.start - place.start, variant.end - place.start) if variant else None,
        )

    def _chosen_gene(self) -> Gene | None:
        """Choose the gene with the score of largest size; the first of equals."""
        genes = [gene for gene in self._scores if gene is not None]
        if self._gene is not None:
            known = list(dict.fromkeys(gene.name for gene in genes))
            genes = [gene for gene in genes if gene.name == self._gene]
            if not genes:
                raise OptionError(
                    f"--gene {printable(self._gene)}: no substitution has a score of it. "
                    + (f"Scored: {', '.join(known[:_N_SHOWN])}." if known else "No gene is in reach.")
                )
        return max(genes, key=lambda gene: float(np.nanmax(np.abs(self._scores[gene]), initial=0)), default=None)

    def _notes(self, gene: Gene | None) -> list[str]:
        place, column = self._place, self.column
        window = dict(self._model.origin.options).get("one_window")
        where = f"in one window, {window}" if window else "in a window of its own, as in varfm score"
        notes = [
            f"Reference {self._fasta}, {place.contig}:{place.start + 1:,}-{place.end:,}. Each of the three "
            f"substitutions of a position {where}.",
            f"{column.name}: {column.description} Computed as {column.formula}; unit: {column.unit}.",
        ]
        if gene is not None:
            notes.append(f"Gene {gene.name}, start of transcription {place.contig}:{gene.tss + 1:,} ({gene.strand}).")
        if place.written is not None and not place.is_substitution:
            own = f"{self._own[gene]:.3g}" if gene in self._own else self._own_status.name
            notes.append(f"The variant itself, {_spelt(place)}: {own}.")
        missing = {status.name: n for status, n in sorted(self._counts.items()) if not status.is_scored}
        if missing:
            notes.append("Not scored: " + ", ".join(f"{n:,} {word}" for word, n in missing.items()) + ".")
        n_padded = self._counts[Status.PADDED]
        if n_padded:
            notes.append(
                f"Scored in a window that leaves the contig, padded with N: {counted(n_padded, 'substitution')}."
            )
        if not self._model.origin.published:
            notes.append("The weights are not the published file.")
        return notes


def choose_column(model: Model, name: str | None) -> int:
    """Find the score to draw.

    Args:
        model: Has the scores.
        name: Of the score; None: the first one that is a number.

    Returns:
        Its index among the model's columns.

    Raises:
        OptionError: If there is no score of that name, or it is a column of names.
    """
    numbers = {index: column for index, column in enumerate(model.scorer.columns) if not column.labels}
    if name is None:
        return next(iter(numbers))
    for index, column in numbers.items():
        if column.name == name:
            return index
    shown = [column.name for column in numbers.values()]
    more = f", ... ({len(shown):,} scores)" if len(shown) > _N_SHOWN else ""
    raise OptionError(
        f"--column {printable(name)}: {model.name} has no such score that is a number. It has "
        f"{', '.join(shown[:_N_SHOWN])}{more}."
    )


def _marked(place: Place) -> frozenset[tuple[int, str]]:
    variant = place.variant
    if variant is None or variant.kind not in (VariantKind.SNV, VariantKind.MNV):
        return frozenset()
    return frozenset((variant.start - place.start + index, base) for index, base in enumerate(variant.alt))


def _spelt(place: Place) -> str:
    assert place.written is not None
    ref, alt = (allele if len(allele) <= 20 else f"{allele[:20]}..." for allele in place.written[2:])
    return f"{place.contig}:{place.written.start + 1:,} {ref}>{alt}"
