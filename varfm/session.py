"""One run: the input, the reference, the genes and the models opened together, and the scores block by block."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self

import numpy as np

from varfm.alleles import AlleleReader, Alleles, comparable_blocks, gather_evidence, judge_assembly
from varfm.contigs import ContigMap, read_contig_map
from varfm.errors import InputError, OptionError
from varfm.genes import read_genes
from varfm.genome import Genome
from varfm.io.cut import Shard
from varfm.io.streams import STDIN
from varfm.io.vcf import Block, VcfHeader, VcfReader
from varfm.models import ModelOptions
from varfm.pipeline import read_ahead
from varfm.protocols import GeneIndex, Model, Scored
from varfm.regions import read_regions
from varfm.variants import Status

if TYPE_CHECKING:
    from varfm.engine import Engine
    from varfm.plan import Plan, Precision

logger = logging.getLogger(__name__)

BLOCK_RECORDS = 4096
_BLOCK_VALUES = 2**22  # scores of a block, 32 MiB
_BLOCK_BATCHES = 16  # slow networks tell of their progress after every block
_STDIN_RECORDS = 50_000  # what is read of a stream, at most, to judge the assembly before anything is written


@dataclass(frozen=True, slots=True)
class GeneOptions:
    """Where genes come from and which of their start sites count; no gene types: all of them."""

    path: str | None = None
    gene_types: tuple[str, ...] = ("protein_coding",)
    tss: Literal["representative", "all"] = "representative"


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What is read, and how it is scored; nothing about the output.

    Attributes:
        vcf: Path, or `-` for stdin.
        fasta: Path of the reference; None: the VCF's `##reference=` if that file exists.
        models: Catalogue names, in the order of the output.
        regions: As typed under `--regions`; None: every record.
        max_ref_mismatch: Percent of mismatching REF alleles at which the run stops before it starts.
        escape_formulas: Put an apostrophe before text of tables that a spreadsheet would run.
        batch_size: Rows per forward pass; None: each model's own.
        threads: CPU threads; 0: all.
        shard: Score only the records of this part of the file.
        exact_full: Compute every window whole.
        precision: What networks compute in.
    """

    vcf: str
    fasta: str | None
    models: tuple[str, ...] = ("mini",)
    model_options: ModelOptions = field(default_factory=ModelOptions)
    genes: GeneOptions = field(default_factory=GeneOptions)
    regions: str | None = None
    contig_map: str | None = None
    stop_on_ref_mismatch: bool = False
    max_ref_mismatch: float = 10.0
    overwrite: bool = False
    escape_formulas: bool = False
    device: str = "auto"
    batch_size: int | None = None
    threads: int = 0
    shard: Shard | None = None
    exact_full: bool = False
    precision: Precision = "float32"


class RecordSource(Protocol):
    """Where records come from: a VCF, or something that stands for one."""

    @property
    def name(self) -> str:
        """As errors call it."""

    @property
    def header(self) -> VcfHeader:
        """What stands before the records."""

    @property
    def fraction(self) -> float | None:
        """Share of the records that were given so far; None where it is not known."""

    @property
    def tail(self) -> bytes:
        """Blank lines after the last record; known once all blocks were given."""

    def blocks(self, n_records: int = BLOCK_RECORDS) -> Iterator[Block]:
        """Give the records, about `n_records` at a time; can be called once."""


class ScoredBlock(NamedTuple):
    """A block of records, its alleles, and what each model says of them, in the order of the models.

    `n_read` counts the input's (or shard's) records up to the block's end, those outside the regions included.
    """

    block: Block
    alleles: Alleles
    scored: tuple[Scored, ...]
    n_read: int


class Session:
    """Opens what a run needs, judges the assembly, and scores.

    Args:
        options: What to read and how.

    Attributes:
        input_role: What the manifest calls the input.

    Raises:
        VarfmError: One of its children, before any scoring, if something cannot be used.
    """

    input_role = "vcf"

    def __init__(self, options: SessionOptions) -> None:
        self.options = options
        self._stack = ExitStack()
        self.n_records = 0
        self.counts: list[Counter[Status]] = []
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the files."""
        self._stack.close()

    def _open(self) -> None:
        options = self.options
        _check_values(options)
        self.reader, self.genome = self._open_input()
        self._contig_table = read_contig_map(options.contig_map) if options.contig_map else {}
        self.contigs = ContigMap(self.genome.contigs, self.reader.header.contigs, self._contig_table)
        self.regions = read_regions(options.regions, self.contigs, self.genome.contigs) if options.regions else None
        self._alleles = AlleleReader(self.genome, self.contigs, stop_on_mismatch=options.stop_on_ref_mismatch)
        self.models = self._load_models()
        self.gene_source = ""
        self.genes = self._read_genes()
        self.plan, self.engines = self._start_engines()
        self.counts = [Counter() for _ in self.models]
        self._blocks = self._judged_blocks()

    def _open_input(self) -> tuple[RecordSource, Genome]:
        reader = self._stack.enter_context(VcfReader(self.options.vcf, self.options.shard))
        _check_keys(reader, self.options)
        return reader, self._stack.enter_context(Genome(find_fasta(self.options.fasta, reader)))

    def _load_models(self) -> list[Model]:
        return load_models(self.options)

    def _read_genes(self) -> GeneIndex | None:
        genes = self.options.genes
        if genes.path is None:
            return None
        from varfm.models import catalog

        assemblies = {catalog.get(model.name).assembly for model in self.models if model.scorer.needs_genes} - {""}
        index = read_genes(
            Path(genes.path),
            ContigMap(self.genome.contigs, table=self._contig_table),
            self.genome.contigs,
            gene_types=genes.gene_types or None,
            tss=genes.tss,
            assembly=self.reader.header.assembly,
            model_assembly=assemblies.pop() if len(assemblies) == 1 else None,
        )
        self.gene_source = index.source
        return index

    def _start_engines(self) -> tuple[Plan, list[Engine]]:
        from varfm.engine import Engine
        from varfm.plan import make_plan

        options = self.options
        plan = make_plan(
            self.models,
            device=options.device,
            batch_size=options.batch_size,
            threads=options.threads,
            exact_full=options.exact_full,
            precision=options.precision,
        )
        if plan.precision == "bfloat16":
            logger.warning(
                "--precision bfloat16 leaves two to three digits of every number: small differences between alleles "
                "are lost. Use float32, or mixed, for scores that are to be relied on."
            )
        engines = [Engine(model, plan, self.genome, self.genes) for model in self.models]
        # What the first batches could not be run with is not planned with.
        runners = {engine.model.name: engine.runner for engine in engines if engine.runner}
        rows = {name: runner.probe() for name, runner in runners.items()}
        return plan.with_rows(rows, {name: runner.changed_rows for name, runner in runners.items()}), engines

    def _block_records(self) -> int:
        """Records scored together: what bounds memory where there are many scores, and the wait where one is slow."""
        bounds = [BLOCK_RECORDS]
        for engine in self.engines:
            bounds.append(_BLOCK_VALUES // max(1, engine.model.scorer.n_values))
            if engine.runner is not None:
                bounds.append(_BLOCK_BATCHES * engine.runner.batch_rows)
        return max(8, min(bounds))

    def _judged_blocks(self) -> Iterator[Block]:
        """Judge the assembly on the whole input's first comparable alleles, regions or not."""
        options = self.options
        quiet = AlleleReader(self.genome, self.contigs)
        blocks = self.reader.blocks(self._block_records())
        if not is_readable_again(options.vcf):
            head: list[Block] = []
            evidence = gather_evidence(comparable_blocks(_noted(blocks, head), quiet))
            blocks = chain(head, blocks)
        else:
            with VcfReader(options.vcf) as scan:
                evidence = gather_evidence(comparable_blocks(scan.blocks(BLOCK_RECORDS), quiet))
        judge_assembly(evidence, self.reader.name, self.genome, options.max_ref_mismatch)
        return blocks

    def __iter__(self) -> Iterator[ScoredBlock]:
        """Score the blocks in order; can be done once.

        Yields:
            Every block of the input, also those without any score.
        """
        # Without a network there is nothing to overlap with, and two threads of Python only wait for one another.
        has_network = any(engine.runner for engine in self.engines)
        with read_ahead(self._prepared()) if has_network else nullcontext(self._prepared()) as prepared:
            for block, alleles, n_read in prepared:
                scored = tuple(engine.score(alleles) for engine in self.engines)
                self.n_records += block.n_records
                for counter, answer in zip(self.counts, scored, strict=True):
                    numbers = np.bincount(answer.status, minlength=len(Status))
                    counter.update({Status(value): int(n) for value, n in enumerate(numbers) if n})
                yield ScoredBlock(block, alleles, scored, n_read)

    def _prepared(self) -> Iterator[tuple[Block, Alleles, int]]:
        for block in self._blocks:
            n_read = block.first_record + block.n_records
            block = self._without_old_keys(block)
            if self.regions is not None:
                block = block.select(self._inside(block))
            if block.n_records:
                yield block, self._alleles.read(block), n_read

    def _without_old_keys(self, block: Block) -> Block:
        record = block.has_keys(b"VARFM_")
        if record is None:
            return block
        if not self.options.overwrite:
            raise InputError(
                f"{block.where(record)}: INFO already holds a VARFM_ key. "
                "Use --overwrite to replace what an earlier run wrote, or score the original file."
            )
        return block.strip_keys(b"VARFM_")

    def _inside(self, block: Block) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        assert self.regions is not None
        starts = block.positions - 1
        ends = starts + block.ends[:, 3] - block.ends[:, 2] - 1
        inside = np.zeros(block.n_records, np.bool_)
        for name, first, last in block.contig_runs():
            contig = self.contigs.resolve(name)
            if contig is not None:
                inside[first:last] = self.regions.mask(contig, starts[first:last], ends[first:last])
        return inside


def _noted(blocks: Iterable[Block], head: list[Block]) -> Iterator[Block]:
    n_records = 0
    for block in blocks:
        head.append(block)
        n_records += block.n_records
        yield block
        if n_records >= _STDIN_RECORDS:
            return


def _check_values(options: SessionOptions) -> None:
    if len({name.lower() for name in options.models}) < len(options.models):
        raise OptionError(f"--model names a model twice: {', '.join(options.models)}. Name each once.")
    if options.shard and not is_readable_again(options.vcf):
        raise OptionError(f"--shard {options.shard}: a stream can be read only once. Give the VCF as a file.")
    if not 0 <= options.max_ref_mismatch <= 100:  # not a number, too
        raise OptionError(f"--max-ref-mismatch {options.max_ref_mismatch}: give a percentage from 0 to 100.")


def is_readable_again(vcf: str) -> bool:
    """Tell a path, also one that leads nowhere, from stdin and from a pipe such as <(...) of a shell."""
    path = Path(vcf)
    return vcf != STDIN and not (path.is_fifo() or path.is_char_device() or path.is_socket())


def _check_keys(reader: VcfReader, options: SessionOptions) -> None:
    old = sorted(key for key in reader.header.info_keys if key.startswith("VARFM_"))
    if old and not options.overwrite:
        raise InputError(
            f"{reader.name}: its header declares {old[0]} already. "
            "Use --overwrite to replace what an earlier run wrote, or score the original file."
        )


def find_fasta(fasta: str | None, reader: VcfReader) -> Path:
    """Choose the reference: what was given, else the VCF's `##reference=` where that is a file.

    Raises:
        InputError: If there is none.
    """
    if fasta:
        return Path(fasta)
    stated = reader.header.reference or ""
    path = Path(stated.removeprefix("file://"))
    if stated and "://" not in stated.removeprefix("file://") and path.is_file():
        return path
    seen = f" (its ##reference={stated} is not a file here)" if stated else ""
    raise InputError(
        f"{reader.name}: no reference given{seen}. Give the FASTA that the VCF was called on with --fasta, "
        "or set VARFM_FASTA."
    )


def load_models(options: SessionOptions) -> list[Model]:
    """Load the models of a run.

    Raises:
        OptionError: If local weights or an adapter are given for several models, or a model of genes has no annotation.
        ModelError: If a model cannot be loaded.
    """
    from varfm.engine import missing_genes
    from varfm.models import catalog, load

    if options.model_options.weights and len(options.models) > 1:
        raise OptionError("--weights gives one model's files, but there are several models. Run them one at a time.")
    if options.model_options.adapter and len(options.models) > 1:
        raise OptionError("--adapter fits one model, but there are several models. Run them one at a time.")
    for name in options.models:  # before any of them is fetched
        if catalog.get(name).needs_genes and options.genes.path is None:
            raise missing_genes(name)
    chosen = replace(options.model_options, on_genes=options.genes.path is not None)
    return [load(name, chosen) for name in options.models]


def count_alleles(counts: Sequence[Counter[Status]]) -> int:
    """Give the number of alleles, the same for every model."""
    return sum(counts[0].values()) if counts else 0
