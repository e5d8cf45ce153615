"""Toy networks whose answers can be worked out by hand, and the way from a FASTA and a VCF text to their scores."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from varfm.alleles import AlleleReader
from varfm.contigs import ContigMap
from varfm.engine import Engine
from varfm.genes import GeneIndex
from varfm.genome import Genome
from varfm.io.vcf import VcfReader
from varfm.plan import Precision, make_plan
from varfm.protocols import Column, Model, Row
from varfm.scorers.expression import TssScorer
from varfm.scorers.matrix import Group, MatrixScorer, TrackName
from varfm.scorers.measures import SAD, SADR
from varfm.scorers.placement import Centred, IndelMode, OnGenes, Placement, Strands
from varfm.scorers.tracks import TrackScore, TrackScorer
from varfm.variants import Status
from varfm.windows import Gene, Haplotype

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data are not at {SHARED}")

BASE_VALUES = (1.0, 2.0, 4.0, 8.0, 0.0)
"""What A, C, G, T and N count; no base counts what its complement counts."""

COMPLEMENT = str.maketrans("ACGTNacgtn", "TGCANtgcan")


class PointNet(nn.Module):
    """Sums integers over the window: 0, base value times square of the 1-based place; 1, the count of G."""

    places: Tensor
    values: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.register_buffer("places", torch.arange(1, length + 1, dtype=torch.float32) ** 2)
        self.register_buffer("values", torch.tensor(BASE_VALUES))

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        """Read the sequence as it is."""
        assert len(sequence) == self.length, (haplotype, len(sequence))
        return [sequence]

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) codes -> (n, 2)."""
        values = self.values[batch.long()]
        return torch.stack([(values * self.places).sum(1), (batch == 2).float().sum(1)], 1)

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """The two answers have no orientation."""
        return outputs[0]


class BinnedNet(PointNet):
    """Squares the weighted sum of each bin: a tensor (n, n_bins); the bins of the other strand are turned back."""

    def __init__(self, length: int, n_bins: int) -> None:
        super().__init__(length)
        self.n_bins = n_bins

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) codes -> (n, n_bins)."""
        size = self.length // self.n_bins
        inside = torch.arange(1, size + 1, dtype=torch.float32)
        values = self.values[batch.long()].reshape(len(batch), self.n_bins, size)
        return (values * inside).sum(2) ** 2

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """Give the bins from left to right of the forward strand."""
        return outputs[0].flip(0) if haplotype.strand == "-" else outputs[0]


class ScalarNet(PointNet):
    """Answer 0 of `PointNet` alone."""

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) codes -> (n, 1)."""
        return super().forward(batch)[:, :1]


class MatrixNet(PointNet):
    """Three tracks in bins: the weighted sum of the bin, its count of G, and its count of C."""

    def __init__(self, length: int, n_bins: int) -> None:
        super().__init__(length)
        self.n_bins = n_bins

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) codes -> (n, n_bins, 3)."""
        by_bin = batch.reshape(len(batch), self.n_bins, -1)
        inside = torch.arange(1, by_bin.shape[2] + 1, dtype=torch.float32)
        weighted = (self.values[by_bin.long()] * inside).sum(2)
        return torch.stack([weighted, (by_bin == 2).float().sum(2), (by_bin == 1).float().sum(2)], 2)

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """Give the bins from left to right of the forward strand."""
        return outputs[0].flip(0) if haplotype.strand == "-" else outputs[0]


class WindowsNet(PointNet):
    """`PointNet` on windows of one sequence, read from left to right: (n, n_windows, 2)."""

    def __init__(self, length: int, shifts: Sequence[int]) -> None:
        super().__init__(length)
        self.window = length
        self.starts = sorted(shift - min(shifts) for shift in shifts)
        self.length = length + self.starts[-1]

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) codes -> (n, n_windows, 2)."""
        return torch.stack([super(WindowsNet, self).forward(batch[:, s : s + self.window]) for s in self.starts], 1)

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """Give the windows from left to right of the forward strand."""
        return outputs[0].flip(0) if haplotype.strand == "-" else outputs[0]


def by_allele_and_strand(answers: Sequence[Tensor], shifts: Sequence[int]) -> list[Tensor]:
    """Turn answers of single windows, four per shift, into four of all windows from left to right."""
    order = sorted(range(len(shifts)), key=lambda number: shifts[number])
    return [torch.stack([answers[4 * number + which] for number in order]) for which in range(4)]


def column(name: str) -> Column:
    """Make a column of which only the name matters."""
    return Column(name, f"Toy {name}.", "none", "alt - ref")


def point_model(
    length: int = 9, index: int = 4, *, strands: Strands = "both", indel_mode: IndelMode = "anchor", rows: int = 4
) -> Model:
    """Make a model with the columns `sum` and `n_g`."""
    scores = (TrackScore(column("sum"), (0,), "SUM"), TrackScore(column("n_g"), (1,)))
    scorer = TrackScorer(Centred(length, index, strands, indel_mode), scores)
    return Model("toy-point", PointNet(length), scorer, batch_rows=(rows, rows))


def binned_model(
    length: int = 12, index: int = 5, n_bins: int = 4, *, indel_mode: IndelMode = "compensate", rows: int = 4
) -> Model:
    """Make a model with one column per bin, and `mean` over the bins."""
    bins = tuple(TrackScore(column(f"bin{n}"), (n,)) for n in range(n_bins))
    scores = (TrackScore(column("mean"), tuple(range(n_bins)), "MEAN"), *bins)
    scorer = TrackScorer(Centred(length, index, "both", indel_mode), scores)
    return Model("toy-binned", BinnedNet(length, n_bins), scorer, batch_rows=(rows, rows))


def tss_model(length: int = 12, index: int = 7, *, rows: int = 4) -> Model:
    """Make a model whose window is placed on genes."""
    scorer = TssScorer(OnGenes(length, index), column("level"), "LEVEL")
    return Model("toy-tss", ScalarNet(length), scorer, batch_rows=(rows, rows))


def matrix_model(
    placement: Placement | None = None, *, bins: tuple[int, ...] | None = None, n_bins: int = 4, rows: int = 4
) -> Model:
    """Make a model of three tracks and four bins over twelve bases, compensated unless placed otherwise."""
    placement = placement or Centred(12, 5, "both", "compensate")
    tracks = tuple(TrackName(n, name) for n, name in enumerate(("weighted", "G", "C")))
    groups = (Group("DNASE", (0,)), Group("CAGE", (1, 2)))
    scorer = MatrixScorer(placement, (SAD, SADR), tracks, groups, SAD, bins)
    return Model("toy-matrix", MatrixNet(12, n_bins), scorer, batch_rows=(rows, rows))


def gene(tss: int, strand: str = "+", name: str = "g", contig: str = "c") -> Gene:
    """Make a gene."""
    return Gene(name, contig, tss, "+" if strand == "+" else "-", name)


class Toy(NamedTuple):
    """One allele, or allele and gene: what the engine said."""

    record: int
    number: int
    status: str
    gene: str | None
    scores: tuple[float, ...]


RecordText = tuple[str, int, str, str]
"""CHROM, POS (1-based), REF, ALT."""


def vcf_text(records: Sequence[RecordText]) -> str:
    """Write a VCF without samples."""
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += [f"{contig}\t{pos}\t.\t{ref}\t{alt}\t.\t.\t." for contig, pos, ref, alt in records]
    return "\n".join(lines) + "\n"


def write_fasta(folder: Path, contigs: Mapping[str, str]) -> Path:
    """Write a FASTA of one line per contig."""
    path = folder / "toy.fa"
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in contigs.items()))
    return path


def run_files(
    model: Model,
    fasta: Path,
    vcf: Path,
    *,
    genes: Sequence[Gene] = (),
    block_records: int = 4096,
    batch_size: int | None = None,
    exact_full: bool = False,
    precision: Precision = "float32",
) -> list[Toy]:
    """Score a VCF file; an allele without score gives one entry without scores."""
    plan = make_plan(
        [model], device="cpu", batch_size=batch_size, threads=1, exact_full=exact_full, precision=precision
    )
    found: list[Toy] = []
    n_records, n_columns = 0, len(model.scorer.columns)
    with Genome(fasta, fasta.parent / "cache") as genome, VcfReader(str(vcf)) as reader:
        alleles_of = AlleleReader(genome, ContigMap(genome.contigs, reader.header.contigs))
        engine = Engine(model, plan, genome, GeneIndex(genes, "bed"))
        assert engine.runner is not None
        engine.runner.probe()
        for block in reader.blocks(block_records):
            alleles = alleles_of.read(block)
            scored = engine.score(alleles)
            sites: dict[int, list[int]] = {}
            for site, allele in enumerate(scored.site_allele.tolist()):
                sites.setdefault(allele, []).append(site)
            for allele in range(len(alleles)):
                place = n_records + int(alleles.record[allele]), int(alleles.number[allele])
                status = Status(scored.status[allele])
                assert status.is_scored == (allele in sites), (status, allele)
                for site in sites.get(allele, [-1]):
                    name = scored.genes[site].name if scored.genes is not None and site >= 0 else None
                    values = tuple(scored.scores[site, :n_columns].tolist()) if site >= 0 else ()
                    found.append(Toy(*place, status.name, name, values))
            n_records += block.n_records
    return found


def run_toy(
    model: Model,
    contigs: Mapping[str, str] | str,
    records: Sequence[RecordText],
    *,
    genes: Sequence[Gene] = (),
    batch_size: int | None = None,
    exact_full: bool = False,
    precision: Precision = "float32",
) -> list[Toy]:
    """Score records on a genome given as text; a genome of one string is contig `c`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fasta = write_fasta(folder, {"c": contigs} if isinstance(contigs, str) else contigs)
        vcf = folder / "toy.vcf"
        vcf.write_text(vcf_text(records))
        return run_files(
            model, fasta, vcf, genes=genes, batch_size=batch_size, exact_full=exact_full, precision=precision
        )


def one(found: Sequence[Toy]) -> Toy:
    """Give the only entry."""
    assert len(found) == 1, found
    return found[0]


def flipped(bases: str) -> str:
    """Give the other strand."""
    return bases.translate(COMPLEMENT)[::-1]


def point_sum(bases: str) -> float:
    """Work out answer 0 of `PointNet` for one strand of a window."""
    return sum(BASE_VALUES["ACGTN".index(base)] * (place + 1) ** 2 for place, base in enumerate(bases))


def both_strands(bases: str) -> float:
    """Average answer 0 of `PointNet` over both strands."""
    return (point_sum(bases) + point_sum(flipped(bases))) / 2
