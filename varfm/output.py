"""Everything a run writes: the annotated VCF, tables, and the manifest, each there whole or not at all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from varfm import __version__
from varfm.errors import OptionError, VarfmError
from varfm.io.atomic import AtomicFile, disk_errors
from varfm.io.header import with_lines, without_varfm
from varfm.io.info import header_lines, info_texts
from varfm.io.table import SUFFIXES as TABLE_SUFFIXES
from varfm.io.table import TableWriter, open_table, table_path
from varfm.io.writer import SUFFIXES as VCF_SUFFIXES
from varfm.io.writer import VcfWriter
from varfm.session import ScoredBlock, Session, count_alleles
from varfm.variants import Status

if TYPE_CHECKING:
    from varfm.alleles import Alleles
    from varfm.io.block import Block
    from varfm.manifest import FileRecord, Manifest
    from varfm.protocols import Scored

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where a run writes.

    Attributes:
        output: `-` for stdout, or a path whose suffix names the format.
        table: A table written beside a VCF; None: none.
        manifest: Where the manifest goes; None: `OUTPUT.varfm.json`, or nowhere for stdout.
        force: Replace files that are there.
        command: As typed, for the manifest.
        table_on_stdout: `-` is a TSV, not a VCF.
        picture: Where a picture of the scores goes; None: none.
        table_suffixes: Of the tables that the run can write.
    """

    output: str = STDOUT
    table: str | None = None
    manifest: str | None = None
    force: bool = False
    command: tuple[str, ...] = ()
    table_on_stdout: bool = False
    picture: str | None = None
    table_suffixes: tuple[str, ...] = TABLE_SUFFIXES

    @property
    def is_table(self) -> bool:
        """True if no VCF is written."""
        return self.table_on_stdout if self.output == STDOUT else self.output.endswith(self.table_suffixes)


class Sealed(Protocol):
    """A complete file without its name."""

    @property
    def path(self) -> Path:
        """The final name."""

    @property
    def temporary(self) -> Path | None:
        """Where it lies; None for stdout."""

    def publish(self) -> None:
        """Give it its name."""


class Picture(Sealed, Protocol):
    """A picture in the making: takes scores block by block, and is complete once sealed."""

    def write(self, block: Block, alleles: Alleles, scored: Scored) -> None:
        """Take the scores of a block."""

    def seal(self) -> None:
        """Draw it."""

    def discard(self) -> None:
        """Remove what was written; nothing happens after `publish`."""


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


def write_scores(
    session: Session,
    options: OutputOptions,
    advance: Callable[[int, float | None], None],
    picture: Picture | None = None,
) -> Summary:
    """Score everything and write it.

    Args:
        session: Open and not yet iterated.
        options: Where to.
        advance: Told after each block how many alleles it had, and the share of the input read so far.
        picture: Made of the scores of the first model, beside the other outputs.

    Returns:
        What was done; every allele is accounted for.

    Raises:
        VarfmError: One of its children; then no file has its final name.
    """
    started = datetime.now(UTC)
    with ExitStack() as stack:
        if picture:
            stack.callback(picture.discard)
        vcf = _open_vcf(session, options, stack)
        tables = _open_tables(session, options, stack)
        manifest = open_manifest(options, stack)
        if vcf:
            vcf.write(_header(session))
        for item in session:
            _write_block(session, item, vcf, tables)
            if picture:
                picture.write(item.block, item.alleles, item.scored[0])
            advance(len(item.alleles), session.reader.fraction)
        summary = _summary(session)
        drawn = [picture] if picture else []
        for part in (*tables, *drawn):
            part.seal()
        if vcf:
            vcf.seal(session.n_records)
        record = None
        if manifest:
            record = _manifest(session, options, summary, started, describe_outputs(vcf, tables, drawn))
        publish(vcf, [*tables, *drawn], manifest, record)
    return summary


def publish(
    vcf: VcfWriter | None, tables: Sequence[Sealed], manifest: AtomicFile | None, record: Manifest | None
) -> None:
    """Complete the manifest, then give every sealed file its name, the manifest last.

    Raises:
        DiskError: If the disk refuses.
    """
    if manifest and record:
        with disk_errors(manifest.name):
            manifest.file.write(record.to_json())
        manifest.seal()
    for part in (*tables, vcf, manifest):  # everything is on the disk: only names are still to be given
        if part:
            part.publish()


def check_targets(options: OutputOptions, models: Sequence[str]) -> None:
    """See to it that every output can be written, before any work.

    Args:
        options: Where a run is to write.
        models: Names of its models, in order.

    Raises:
        OptionError: If a suffix is unknown, a file exists without `force`, a folder is missing, or two names are one.
        DiskError: If a folder cannot be written.
    """
    _check_suffix(options)
    target = table_target(options)
    outputs = [table_path(target, model, len(models)) for model in models] if target else []
    if not options.is_table:
        outputs.append(Path(options.output))
    if options.picture:
        outputs.append(Path(options.picture))
    outputs = [path for path in outputs if str(path) != STDOUT]
    for path in outputs:
        AtomicFile(path, options.force).discard()
    manifest = manifest_path(options)
    if manifest:
        if os.path.realpath(manifest) in [os.path.realpath(str(path)) for path in (options.output, *outputs)]:
            raise OptionError(f"--manifest {manifest} is another output's name. Give it a name of its own.")
        AtomicFile(manifest, _may_replace_manifest(options)).discard()


def _check_suffix(options: OutputOptions) -> None:
    is_table = options.is_table
    if options.output != STDOUT and not is_table and not options.output.endswith(VCF_SUFFIXES):
        raise OptionError(
            f"{options.output}: the suffix names no format known here. "
            f"Use {', '.join(VCF_SUFFIXES + TABLE_SUFFIXES)}, or - for VCF on stdout."
        )
    if is_table and options.table:
        raise OptionError(
            f"--output {options.output} is a table already; leave out --table, or give a VCF as --output."
        )
    if options.table and not options.table.endswith(options.table_suffixes):
        raise OptionError(f"{options.table}: the suffix names no table. Use {', '.join(options.table_suffixes)}.")


def table_target(options: OutputOptions) -> Path | None:
    """Give the path of the table as asked for, without the names of models; None if there is none."""
    target = options.output if options.is_table else options.table
    return Path(target) if target else None


def manifest_path(options: OutputOptions) -> Path | None:
    """Give the path of the manifest; None if none is written."""
    if options.manifest is None and options.output == STDOUT:
        return None
    return Path(options.manifest or f"{options.output}.varfm.json")


def _may_replace_manifest(options: OutputOptions) -> bool:
    """The manifest beside an output belongs to it and is replaced with it."""
    return options.force or options.manifest is None


def _open_vcf(session: Session, options: OutputOptions, stack: ExitStack) -> VcfWriter | None:
    if options.is_table:
        return None
    writer = VcfWriter(options.output, force=options.force, contigs=_contig_lengths(session))
    return stack.enter_context(writer)


def _contig_lengths(session: Session) -> dict[str, int | None]:
    """Lengths for BCF's `##contig` lines, by the VCF's own names."""
    lengths: dict[str, int | None] = dict(session.reader.header.contigs)
    for name, length in session.genome.contigs.items():
        lengths.setdefault(name, length)
    return lengths


def _open_tables(session: Session, options: OutputOptions, stack: ExitStack) -> list[TableWriter]:
    target = table_target(options)
    if target is None:
        return []
    writers = []
    for model in session.models:
        writer = open_table(table_path(target, model.name, len(session.models)), model, force=options.force)
        stack.callback(writer.discard)
        writers.append(writer)
    return writers


def open_manifest(options: OutputOptions, stack: ExitStack) -> AtomicFile | None:
    """Begin the manifest, if one is to be written.

    Raises:
        OptionError: If it exists and may not be replaced.
        DiskError: If it cannot be made.
    """
    path = manifest_path(options)
    return stack.enter_context(AtomicFile(path, _may_replace_manifest(options))) if path else None


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
    session: Session, options: OutputOptions, summary: Summary, started: datetime, outputs: list[FileRecord]
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
        selection=_selection(session),
        plan={**session.plan.as_dict(), "halved": _halved(session)},
        counts=Counts(summary.n_records, summary.n_alleles, _count_words(summary)),
        outputs=outputs,
        started=utc_time(started),
        ended=utc_time(),
        threads=session.plan.threads,
        device=session.plan.device,
    )


def _selection(session: Session) -> dict[str, str]:
    options = session.options
    taken = {"shard": str(options.shard or ""), "overwrite": "yes" if options.overwrite else ""}
    if options.regions:
        taken["regions"] = "of a file" if Path(options.regions).is_file() else options.regions
    return {name: value for name, value in taken.items() if value}


def _halved(session: Session) -> dict[str, int]:
    """How often memory ran out during the run, so that a model went on with half the rows per batch."""
    return {engine.model.name: engine.runner.halved for engine in session.engines if engine.runner}


def _count_words(summary: Summary) -> dict[str, dict[str, int]]:
    return {
        model: {status.name: counter[status] for status in sorted(counter)} for model, counter in summary.counts.items()
    }


def _inputs(session: Session) -> list[FileRecord]:
    from varfm.manifest import describe_fasta, describe_file

    given = session.options
    records = [
        describe_file(session.input_role, Path(given.vcf)),
        describe_fasta(session.genome.path, session.genome.contigs),
    ]
    for role, path in (("genes", given.genes.path), ("contig_map", given.contig_map), ("regions", given.regions)):
        if path and Path(path).is_file():
            records.append(describe_file(role, Path(path)))
    return records


def describe_outputs(
    vcf: VcfWriter | None, tables: Sequence[Sealed], pictures: Sequence[Sealed] = ()
) -> list[FileRecord]:
    """Describe what was sealed, under its final name: tables in the order of the models, pictures, index, VCF."""
    from varfm.manifest import describe_file

    parts = [("table", table.temporary, table.path) for table in tables if table.temporary]
    parts += [("picture", picture.temporary, picture.path) for picture in pictures if picture.temporary]
    parts += vcf.sealed if vcf else []
    return [replace(describe_file(role, temporary), path=str(final)) for role, temporary, final in parts]
