"""Everything a run writes: the annotated VCF, tables, and the manifest, each there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from varfm import __version__
from varfm.account import Summary, complete, describe_run, halvings, measured_errors, run_options, summarise
from varfm.apart import check_apart
from varfm.errors import OptionError
from varfm.io.atomic import AtomicFile, check_target, disk_errors
from varfm.io.formulas import without_formulas
from varfm.io.header import with_lines, without_varfm
from varfm.io.info import header_lines, info_texts
from varfm.io.table import SUFFIXES as TABLE_SUFFIXES
from varfm.io.table import TableWriter, open_table, table_path
from varfm.io.writer import INDEX_SUFFIXES, VcfWriter
from varfm.io.writer import SUFFIXES as VCF_SUFFIXES
from varfm.session import ScoredBlock, Session

if TYPE_CHECKING:
    from varfm.alleles import Alleles
    from varfm.io.block import Block
    from varfm.manifest import FileRecord, Manifest
    from varfm.protocols import Scored

STDOUT = "-"
_INDEXED = (".vcf.gz", ".bcf")

Advance = Callable[[int, float | None], None]
"""Told after each block how many alleles it had, and the share of the input read so far."""

Staging = Callable[[Path], str | None]
"""Gives the folder of an output's temporary file; None: that of the output."""


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
        multiqc: Where a report for MultiQC goes; None: none.
        table_suffixes: Of the tables that the run can write.
    """

    output: str = STDOUT
    table: str | None = None
    manifest: str | None = None
    force: bool = False
    command: tuple[str, ...] = ()
    table_on_stdout: bool = False
    picture: str | None = None
    multiqc: str | None = None
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


def write_scores(session: Session, options: OutputOptions, advance: Advance, picture: Picture | None = None) -> Summary:
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
        vcf = open_vcf(session, options, stack)
        tables = open_tables(session, options, stack)
        manifest = open_manifest(options, stack)
        for item in session:
            if vcf:
                vcf.write(annotated(session, item))
            for table, scored in zip(tables, item.scored, strict=False):
                table.write(rows_of(session, item), item.alleles, scored)
            if picture:
                picture.write(item.block, item.alleles, item.scored[0])
            advance(len(item.alleles), session.reader.fraction)
        summary = summarise(session)
        drawn = [picture] if picture else []
        for part in (*tables, *drawn):
            part.seal()
        if vcf:
            vcf.write_tail(session.reader.tail)
            vcf.seal(session.n_records)
        record = None
        if manifest:
            run = describe_run(session, options.command, started)
            outputs = describe_outputs(vcf, tables, drawn)
            record = complete(run, summary, outputs, halvings(session), measured_errors(session))
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


def check_targets(options: OutputOptions, models: Sequence[str], inputs: Sequence[Path] = ()) -> None:
    """See to it that every output can be written, before any work.

    Args:
        options: Where a run is to write.
        models: Names of its models, in order.
        inputs: Files that it reads, which no output may replace.

    Raises:
        OptionError: If a suffix is unknown, a file exists without `force`, a folder is missing, or two names are one.
        DiskError: If a folder cannot be written.
    """
    _check_suffix(options)
    check_apart(all_paths(options, models), inputs)
    outputs = output_paths(options, models)
    if options.picture:
        outputs.append(Path(options.picture))
    for path in outputs:
        if str(path) != STDOUT:
            check_target(path, options.force)
    manifest = manifest_path(options)
    if manifest:
        check_target(manifest, _may_replace_manifest(options))


def all_paths(options: OutputOptions, models: Sequence[str]) -> list[Path]:
    """Give the path of everything that a run may write or remove; `-` is stdout."""
    paths = output_paths(options, models)
    if options.output.endswith(_INDEXED):
        paths += [Path(f"{options.output}{suffix}") for suffix in INDEX_SUFFIXES]
    return paths + [Path(path) for path in (options.picture, manifest_path(options), options.multiqc) if path]


def output_paths(options: OutputOptions, models: Sequence[str]) -> list[Path]:
    """Give the paths of all outputs but index and manifest: tables in the order of the models, then the VCF."""
    target = table_target(options)
    outputs = [table_path(target, model, len(models)) for model in models] if target else []
    return outputs if options.is_table else [*outputs, Path(options.output)]


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


def open_vcf(
    session: Session, options: OutputOptions, stack: ExitStack, staging: Staging = lambda path: None
) -> VcfWriter | None:
    """Begin the VCF with its header, if one is to be written.

    Args:
        session: Open.
        options: Where to.
        stack: Closes it.
        staging: Gives the folder of an output's temporary file.

    Raises:
        OptionError: If it exists and may not be replaced.
        DiskError: If it cannot be made.
    """
    if options.is_table:
        return None
    folder = staging(Path(options.output))
    writer = VcfWriter(options.output, force=options.force, contigs=_contig_lengths(session), staging=folder)
    stack.enter_context(writer)
    lines = header_lines(session.models, __version__, run_options(session))
    writer.write(with_lines(without_varfm(session.reader.header), lines))
    return writer


def _contig_lengths(session: Session) -> dict[str, int | None]:
    """Lengths for BCF's `##contig` lines, by the VCF's own names."""
    lengths: dict[str, int | None] = dict(session.reader.header.contigs)
    for name, length in session.genome.contigs.items():
        lengths.setdefault(name, length)
    return lengths


def open_tables(
    session: Session, options: OutputOptions, stack: ExitStack, staging: Staging = lambda path: None
) -> list[TableWriter]:
    """Begin the tables, if any are to be written, one per model; as `open_vcf`."""
    target = table_target(options)
    writers: list[TableWriter] = []
    for model in session.models if target else ():
        assert target is not None
        path = table_path(target, model.name, len(session.models))
        writers.append(open_table(path, model, force=options.force, staging=staging(path)))
        stack.callback(writers[-1].discard)
    return writers


def open_manifest(options: OutputOptions, stack: ExitStack, staging: Staging = lambda path: None) -> AtomicFile | None:
    """Begin the manifest, if one is to be written.

    Raises:
        OptionError: If it exists and may not be replaced.
        DiskError: If it cannot be made.
    """
    path = manifest_path(options)
    return stack.enter_context(AtomicFile(path, _may_replace_manifest(options), staging(path))) if path else None


def annotated(session: Session, item: ScoredBlock) -> bytes:
    """Give the records of a block with their scores."""
    return item.block.splice(info_texts(item.alleles, list(zip(session.models, item.scored, strict=True))))


def rows_of(session: Session, item: ScoredBlock) -> Block:
    """Give the records of a block as tables show them."""
    return without_formulas(item.block) if session.options.escape_formulas else item.block


def describe_outputs(
    vcf: VcfWriter | None, tables: Sequence[Sealed], pictures: Sequence[Sealed] = ()
) -> list[FileRecord]:
    """Describe what was sealed, under its final name: tables in the order of the models, pictures, index, VCF."""
    from varfm.manifest import describe_file

    parts = [("table", table.temporary, table.path) for table in tables if table.temporary]
    parts += [("picture", picture.temporary, picture.path) for picture in pictures if picture.temporary]
    parts += vcf.sealed if vcf else []
    return [replace(describe_file(role, temporary), path=str(final)) for role, temporary, final in parts]
