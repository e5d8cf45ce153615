"""Everything a run writes: the annotated VCF, tables, and the manifest, each there whole or not at all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from varfm import __version__
from varfm.errors import OptionError, VarfmError
from varfm.io.atomic import AtomicFile, disk_errors
from varfm.io.header import with_lines, without_varfm
from varfm.io.info import header_lines, info_texts
from varfm.io.table import SUFFIXES as TABLE_SUFFIXES
from varfm.io.table import TableWriter, open_table, table_path
from varfm.io.writer import INDEX_SUFFIXES, VcfWriter
from varfm.io.writer import SUFFIXES as VCF_SUFFIXES
from varfm.session import ScoredBlock, Session, count_alleles
from varfm.variants import Status

if TYPE_CHECKING:
    from varfm.manifest import FileRecord, Manifest

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where a run writes.

    Attributes:
        output: `-` for VCF on stdout, or a path whose suffix names the format.
        table: A table written beside a VCF; None: none.
        manifest: Where the manifest goes; None: `OUTPUT.varfm.json`, or nowhere for stdout.
        force: Replace files that are there.
        command: As typed, for the manifest.
    """

    output: str = STDOUT
    table: str | None = None
    manifest: str | None = None
    force: bool = False
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    Attributes:
        n_records: Records written.
        n_alleles: ALTs accounted for.
        counts: Alleles by status, per model name.
        device: Where the networks ran.
    """

    n_records: int
    n_alleles: int
    counts: dict[str, Counter[Status]] = field(default_factory=dict)
    device: str = "cpu"

    def n_scored(self, model: str) -> int:
        """Alleles that carry a score of the model."""
        return sum(n for status, n in self.counts[model].items() if status.is_scored)

    @property
    def everything_scored(self) -> bool:
        """True if every allele carries a score of every model."""
        return all(self.n_scored(model) == self.n_alleles for model in self.counts)


def write_scores(session: Session, options: OutputOptions, advance: Callable[[int, float | None], None]) -> Summary:
    """Score everything and write it.

    Args:
        session: Open and not yet iterated.
        options: Where to.
        advance: Told after each block how many alleles it had, and the share of the input read so far.

    Returns:
        What was done; every allele is accounted for.

    Raises:
        VarfmError: One of its children; then no file has its final name.
    """
    started = datetime.now(UTC)
    with ExitStack() as stack:
        vcf = _open_vcf(session, options, stack)
        tables = _open_tables(session, options, stack)
        manifest = _open_manifest(options, tables, stack)
        if vcf:
            vcf.write(_header(session))
        for item in session:
            _write_block(session, item, vcf, tables)
            advance(len(item.alleles), session.reader.fraction)
        summary = _summary(session)
        for table in tables:
            table.finish()
        if vcf:
            vcf.finish(session.n_records)
        if manifest:
            with disk_errors(manifest.name):
                manifest.file.write(_manifest(session, options, summary, started, tables).to_json())
            manifest.commit()
    return summary


def _open_vcf(session: Session, options: OutputOptions, stack: ExitStack) -> VcfWriter | None:
    if options.output.endswith(TABLE_SUFFIXES):
        return None
    if options.output != STDOUT and not options.output.endswith(VCF_SUFFIXES):
        raise OptionError(
            f"{options.output}: the suffix names no format known here. "
            f"Use {', '.join(VCF_SUFFIXES + TABLE_SUFFIXES)}, or - for VCF on stdout."
        )
    writer = VcfWriter(options.output, force=options.force, contigs=_contig_lengths(session))
    return stack.enter_context(writer)


def _contig_lengths(session: Session) -> dict[str, int | None]:
    """Lengths for BCF's `##contig` lines, by the VCF's own names."""
    lengths: dict[str, int | None] = dict(session.reader.header.contigs)
    for name, length in session.genome.contigs.items():
        lengths.setdefault(name, length)
    return lengths


def _open_tables(session: Session, options: OutputOptions, stack: ExitStack) -> list[TableWriter]:
    is_table = options.output.endswith(TABLE_SUFFIXES)
    if is_table and options.table:
        raise OptionError(
            f"--output {options.output} is a table already; leave out --table, or give a VCF as --output."
        )
    target = options.output if is_table else options.table
    if target is None:
        return []
    writers = []
    for model in session.models:
        path = table_path(Path(target), model.name, len(session.models))
        writer = open_table(path, model, force=options.force)
        stack.callback(writer.discard)
        writers.append(writer)
    return writers


def _open_manifest(options: OutputOptions, tables: Sequence[TableWriter], stack: ExitStack) -> AtomicFile | None:
    """Begin the manifest; the one beside an output belongs to it and is replaced with it."""
    if options.manifest is None and options.output == STDOUT:
        return None
    path = options.manifest or f"{options.output}.varfm.json"
    others = [options.output, *(str(table.path) for table in tables)]
    if os.path.realpath(path) in map(os.path.realpath, others):
        raise OptionError(f"--manifest {path} is another output's name. Give it a name of its own.")
    return stack.enter_context(AtomicFile(path, options.force or options.manifest is None))


def _header(session: Session) -> bytes:
    lines = header_lines(session.models, __version__, run_options(session))
    return with_lines(without_varfm(session.reader.header), lines)


def run_options(session: Session) -> list[tuple[str, str]]:
    """The options of the run that decide scores, apart from those of each model, in fixed order."""
    options = session.options
    resolved = [
        ("on_ref_mismatch", "error" if options.stop_on_ref_mismatch else "skip"),
    ]
    if session.genes is not None:
        resolved += [
            ("genes", session.gene_source),
            ("gene_types", ",".join(options.genes.gene_types)),
            ("tss", options.genes.tss),
        ]
    return resolved


def _write_block(session: Session, item: ScoredBlock, vcf: VcfWriter | None, tables: Sequence[TableWriter]) -> None:
    if vcf:
        texts = info_texts(item.alleles, list(zip(session.models, item.scored, strict=True)))
        vcf.write(item.block.splice(texts))
    for table, scored in zip(tables, item.scored, strict=False):
        table.write(item.block, item.alleles, scored)


def _summary(session: Session) -> Summary:
    n_alleles = count_alleles(session.counts)
    if any(sum(counter.values()) != n_alleles for counter in session.counts):
        raise VarfmError("internal error: an allele was lost between models. Please report this.")
    counts = {model.name: counter for model, counter in zip(session.models, session.counts, strict=True)}
    return Summary(session.n_records, n_alleles, counts, session.plan.device)


def _manifest(
    session: Session, options: OutputOptions, summary: Summary, started: datetime, tables: Sequence[TableWriter]
) -> Manifest:
    from varfm.manifest import Counts, Manifest, ModelRecord, software_versions, utc_time

    return Manifest(
        versions=software_versions(__version__),
        command=list(options.command),
        inputs=_inputs(session),
        models=[
            ModelRecord(model.name, model.origin.weights_sha256, model.origin.published, dict(model.origin.options))
            for model in session.models
        ],
        options=dict(run_options(session)),
        plan=session.plan.as_dict(),
        counts=Counts(summary.n_records, summary.n_alleles, _count_words(summary)),
        outputs=_outputs(options, tables),
        started=utc_time(started),
        ended=utc_time(),
        threads=session.plan.threads,
        device=session.plan.device,
    )


def _count_words(summary: Summary) -> dict[str, dict[str, int]]:
    return {
        model: {status.name: counter[status] for status in sorted(counter)} for model, counter in summary.counts.items()
    }


def _inputs(session: Session) -> list[FileRecord]:
    from varfm.manifest import describe_fasta, describe_file

    given = session.options
    records = [
        describe_file("vcf", Path(given.vcf)),
        describe_fasta(session.genome.path, session.genome.contigs),
    ]
    for role, path in (("genes", given.genes.path), ("contig_map", given.contig_map), ("regions", given.regions)):
        if path and Path(path).is_file():
            records.append(describe_file(role, Path(path)))
    return records


def _outputs(options: OutputOptions, tables: Sequence[TableWriter]) -> list[FileRecord]:
    from varfm.manifest import describe_file

    records = [describe_file("table", Path(table.path)) for table in tables]
    if options.output == STDOUT or options.output.endswith(TABLE_SUFFIXES):
        return records
    records.append(describe_file("vcf", Path(options.output)))
    index = [Path(options.output + suffix) for suffix in INDEX_SUFFIXES]
    return records + [describe_file("index", path) for path in index if path.is_file()]
