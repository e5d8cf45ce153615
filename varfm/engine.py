"""From alleles to scores: sites, sequences, distinct rows, answers, scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from varfm.alleles import Aligned, Alleles
from varfm.errors import OptionError
from varfm.genome import Genome, reverse_complement, with_allele_turned
from varfm.plan import Plan
from varfm.protocols import Asked, Change, DirectScorer, GeneIndex, Model, Row, Scored, Scorer, n_bytes
from varfm.variants import Status, Variant
from varfm.windows import Gene, Haplotype, Site, Strand, Window

if TYPE_CHECKING:
    from varfm.runner import Runner

_N = b"\x04"
_WAVE_BYTES = 64 * 2**20  # rows and their outputs held at once, unless one batch alone takes more
_WAVE_BATCHES = 16
_ONE_WINDOW = 2
"""Strands of a window: alleles in it share its pass, which costs more than room for their outputs."""


@dataclass(slots=True)
class Reading:
    """The sequences of one site, as rows of the network."""

    haplotypes: list[Haplotype]
    sequences: list[bytes]
    asked: list[list[Asked]]
    n_heavy: bool
    padded: bool


@dataclass(slots=True)
class _Wave:
    """Consecutive sites whose rows are run together."""

    readings: list[tuple[int, Site, Reading]] = field(default_factory=list)
    rows: dict[Asked, None] = field(default_factory=dict)
    n_bytes: int = 0
    windows: set[Row] = field(default_factory=set)  # rows that are run whole, also those that others differ from

    def add(self, allele: int, site: Site, reading: Reading) -> None:
        self.readings.append((allele, site, reading))
        for rows in reading.asked:
            for row in rows:
                if row not in self.rows:
                    self.rows[row] = None
                    self.n_bytes += n_bytes(row)
                    self.windows.add(row.base if isinstance(row, Change) else row)


def _is_n_heavy(sequence: bytes) -> bool:
    return _N in sequence and 2 * sequence.count(_N) > len(sequence)


def missing_genes(model: str) -> OptionError:
    """Make the error for a model of genes without a gene annotation."""
    return OptionError(f"{model} scores variants near genes: give a gene annotation (GTF, GFF3 or BED) with --genes.")


class Engine:
    """Scores the alleles of blocks with one model.

    Args:
        model: What to score with.
        plan: How its network runs.
        genome: Where sequences come from.
        genes: Needed by models that are anchored on genes.

    Raises:
        OptionError: If the model needs genes and there are none.
        DeviceError: If the network does not fit the device.
    """

    def __init__(self, model: Model, plan: Plan, genome: Genome, genes: GeneIndex | None = None) -> None:
        if model.scorer.needs_genes and genes is None:
            raise missing_genes(model.name)
        self.model = model
        self.seconds = 0.0
        self._genome = genome
        self._genes = genes
        self._is_n_heavy: Callable[[bytes], bool] | None = getattr(model.network, "is_n_heavy", None)
        self.runner: Runner | None = None
        if model.network is not None:
            from varfm.runner import Runner  # brings torch, which models without a network do not need

            self.runner = Runner(model, plan)

    def score(self, alleles: Alleles) -> Scored:
        """Score the alleles of one block; every one of them gets a decided status."""
        if self.runner is None:
            return self._score_directly(alleles)
        started = time.perf_counter()
        result = _Result(alleles, self.model.scorer)
        wave = _Wave()
        for allele in np.flatnonzero(alleles.status == Status.OK).tolist():
            self._read_allele(allele, alleles.aligned(allele), result, wave)
            if self._is_full(wave):
                self._run(wave, result)
                wave = _Wave()
        self._run(wave, result)
        scored = result.scored(self.model)
        self.seconds += time.perf_counter() - started
        return scored

    def _score_directly(self, alleles: Alleles) -> Scored:
        chosen = np.flatnonzero(alleles.status == Status.OK)
        headline = np.full(len(alleles), -1, np.int64)
        headline[chosen] = np.arange(len(chosen))
        scores = cast(DirectScorer, self.model.scorer).direct(alleles.start[chosen])
        return Scored(alleles.status, chosen, None, scores, headline)

    def _is_full(self, wave: _Wave) -> bool:
        assert self.runner is not None
        n_rows, n_batch = len(wave.rows), self.runner.batch_rows
        if n_rows >= _WAVE_BATCHES * n_batch:
            return True
        if n_rows < n_batch or (self.runner.is_incremental and len(wave.windows) <= _ONE_WINDOW):
            return False
        return wave.n_bytes + n_rows * self.runner.output_bytes >= _WAVE_BYTES

    def _read_allele(self, allele: int, aligned: Aligned, result: _Result, wave: _Wave) -> None:
        """Find the allele's sites and put their rows into the wave, or note why it has none."""
        scorer = self.model.scorer
        left, right = aligned
        if left.ref != left.alt and left.kind not in scorer.supports:
            result.status[allele] = Status.UNSUPPORTED_KIND
            return
        sites = scorer.sites(left, right, self._genes)
        if isinstance(sites, Status):
            result.status[allele] = sites
        elif left.ref == left.alt and (unchanged := scorer.unchanged()) is not None:
            for site in sites:
                result.add(allele, site.gene, unchanged)
        elif max(len(left.ref), len(left.alt)) > scorer.max_allele:
            result.status[allele] = Status.TOO_LONG
        else:
            result.status[allele] = self._read_sites(allele, sites, wave)

    def _read_sites(self, allele: int, sites: list[Site], wave: _Wave) -> Status:
        readings = [(site, self.read(site)) for site in sites]
        kept = [(site, reading) for site, reading in readings if not reading.n_heavy]
        for site, reading in kept:
            wave.add(allele, site, reading)
        if not kept:
            return Status.N_HEAVY
        return Status.PADDED if any(reading.padded for _, reading in kept) else Status.OK

    def read(self, site: Site) -> Reading:
        """Cut the sequences of a site, and make rows of the network of them."""
        haplotypes = self.model.scorer.haplotypes(site)
        network = self.model.network
        assert network is not None
        length = self._genome.contigs[site.left.contig]
        sequences, forward = self._sequences(haplotypes)
        # A network may judge the parts of a sequence; all of a sequence is judged alike on both strands.
        if self._is_n_heavy is None:
            n_heavy = any([_is_n_heavy(cut) for _, cut in forward])
        else:
            n_heavy = any(map(self._is_n_heavy, sequences))
        return Reading(
            haplotypes,
            sequences,
            self._asked(haplotypes, list(map(network.rows, sequences, haplotypes))),
            n_heavy=n_heavy,
            padded=any([window.start < 0 or window.end > length for window, _ in forward]),
        )

    def _asked(self, haplotypes: list[Haplotype], rows: list[list[Row]]) -> list[list[Asked]]:
        """Ask for alternate rows by their difference from the reference that stands before them, where that is done."""
        assert self.runner is not None
        if not self.runner.is_incremental:
            return [list(of_one) for of_one in rows]
        asked: list[list[Asked]] = []
        references: dict[Strand, int] = {}
        for number, haplotype in enumerate(haplotypes):
            (row,) = rows[number]
            if haplotype.variant is None:
                references[haplotype.strand] = number
                asked.append([row])
                continue
            reference = references[haplotype.strand]
            base = rows[reference][0]
            of_reference, of_alternate = self.runner.compared(base, row)
            assert asked[reference][0] in (base, of_reference), "a reference is compared in one span"
            asked[reference][0] = of_reference
            asked.append([of_alternate])
        return asked

    def _sequences(self, haplotypes: list[Haplotype]) -> tuple[list[bytes], list[tuple[Window, bytes]]]:
        """Cut the sequences, and give those that were cut, on the forward strand with their windows, beside them.

        Mostly the other strand comes next, and the allele's window is the reference's: both are used as far as they go.
        """
        forward: list[tuple[Window, bytes]] = []
        sequences = []
        window: Window | None = None
        variant: Variant | None = None
        sequence = b""
        turned: tuple[Window, bytes] | None = None  # the last reference on its other strand
        for haplotype in haplotypes:
            if haplotype.window is not window or haplotype.variant is not variant:
                window, variant = haplotype.window, haplotype.variant
                sequence = self._genome.forward(window, variant)
                forward.append((window, sequence))
            if haplotype.strand == "+":
                sequences.append(sequence)
            elif variant is None:
                turned = window, reverse_complement(sequence)
                sequences.append(turned[1])
            elif turned is not None and turned[0] is window:
                sequences.append(with_allele_turned(turned[1], window, variant))
            else:
                sequences.append(reverse_complement(sequence))
        return sequences, forward

    def _run(self, wave: _Wave, result: _Result) -> None:
        if not wave.readings:
            return
        assert self.runner is not None
        outputs = self.runner.outputs(wave.rows)
        network = self.runner.network
        for allele, site, reading in wave.readings:
            read = zip(reading.haplotypes, reading.sequences, reading.asked, strict=True)
            answers = [network.reduce(h, sequence, [outputs[row] for row in rows]) for h, sequence, rows in read]
            scores = self.model.scorer.score(site, answers).cpu().numpy().astype(np.float64, copy=False)
            if (
                any(bool(answer.isnan().any()) for answer in answers)
                or not np.isfinite(scores[: result.n_columns]).any()
            ):
                result.fail(allele)
            else:
                result.add(allele, site.gene, scores)


class _Result:
    """Scores of one block while they come in, site by site, alleles in order."""

    def __init__(self, alleles: Alleles, scorer: Scorer) -> None:
        self.n_columns, self.n_values = len(scorer.columns), scorer.n_values
        self.status = alleles.status.copy()
        self._sites: list[tuple[int, Gene | None, NDArray[np.float64]]] = []
        self._failed: set[int] = set()

    def add(self, allele: int, gene: Gene | None, scores: NDArray[np.float64]) -> None:
        self._sites.append((allele, gene, scores))

    def fail(self, allele: int) -> None:
        self._failed.add(allele)

    def scored(self, model: Model) -> Scored:
        """Put the sites in order of alleles; alleles whose every site failed are `NAN`."""
        # A zero for an ALT equal to REF is known before the scores of earlier alleles are back.
        self._sites.sort(key=lambda item: item[0])
        with_site = {allele for allele, _, _ in self._sites}
        for allele in self._failed - with_site:
            self.status[allele] = Status.NAN
        genes = tuple(gene for _, gene, _ in self._sites if gene is not None)
        scores = np.stack([item[2] for item in self._sites]) if self._sites else np.empty((0, self.n_values))
        site_allele = np.array([allele for allele, _, _ in self._sites], np.int64)
        return Scored(
            status=self.status,
            site_allele=site_allele,
            genes=genes if model.scorer.needs_genes else None,
            scores=scores,
            headline_site=_headline_sites(model, site_allele, genes, scores, len(self.status)),
        )


def _headline_sites(
    model: Model, site_allele: NDArray[np.int64], genes: Sequence[Gene], scores: NDArray[np.float64], n_alleles: int
) -> NDArray[np.int64]:
    """Choose for each allele the site whose first field is largest in size; the first of equals."""
    chosen = np.full(n_alleles, -1, np.int64)
    if not model.scorer.needs_genes:
        chosen[site_allele] = np.arange(len(site_allele))
        return chosen
    best: dict[int, float] = {}
    for site, allele in enumerate(site_allele.tolist()):
        value = model.scorer.headline(scores[site], genes[site])[0]
        size = abs(value) if isinstance(value, int | float) and np.isfinite(value) else -1.0
        if allele not in best or size > best[allele]:
            best[allele], chosen[allele] = size, site
    return chosen
