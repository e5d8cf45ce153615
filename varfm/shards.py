"""Outputs of all shards of a run joined into what the run without shards would have written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from varfm.errors import InputError, OptionError
from varfm.io.cut import Shard
from varfm.io.parquet import ParquetJoiner
from varfm.io.streams import open_stream
from varfm.io.table import TsvFile, table_path
from varfm.io.vcf import VcfReader
from varfm.io.writer import VcfWriter
from varfm.manifest import (
    Counts,
    FileRecord,
    Manifest,
    describe_file,
    differences,
    errors_of,
    largest_errors,
    list_differences,
    read_manifest,
    utc_time,
    with_errors,
)
from varfm.output import (
    STDOUT,
    OutputOptions,
    check_targets,
    describe_outputs,
    open_manifest,
    publish,
    table_target,
)

_TEXT_SUFFIXES = (".vcf", ".vcf.gz", STDOUT), (".tsv", ".tsv.gz", STDOUT)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Part:
    """One shard: the name of its output, what its run said of itself, and its files."""

    name: str
    shard: Shard
    manifest: Manifest
    vcf: Path | None
    tables: tuple[Path, ...]

    @property
    def files(self) -> list[Path]:
        """All that is read of it."""
        return [Path(self.name), _manifest_of(self.name), *self.tables]


def merge_shards(shards: Sequence[str], options: OutputOptions) -> Manifest:
    """Join the outputs of all shards of a run, and write the manifest of the whole.

    Args:
        shards: What the runs had as `--output`, in any order; each with its manifest beside it.
        options: Where to write; the format must be that of the shards, but for the compression of text.

    Returns:
        The manifest of the whole.

    Raises:
        OptionError: If an output cannot be written, or is to have another format.
        InputError: If a shard is missing, there twice, changed, or of another run.
        DiskError: If the disk is full or fails.
    """
    parts = sorted((_read_part(name) for name in shards), key=lambda part: part.shard)
    _check_family(parts)
    options = replace(options, table_on_stdout=parts[0].vcf is None)
    models = [model.name for model in parts[0].manifest.models]
    check_targets(options, models, [path for part in parts for path in part.files])
    _check_formats(parts[0], options)
    for part in parts:
        _check_files(part)
    with ExitStack() as stack:
        vcf = _join_vcfs(parts, options, stack) if parts[0].vcf else None
        tables = _join_tables(parts, options, models, stack)
        manifest = open_manifest(options, stack)
        whole = _whole(parts, options, describe_outputs(vcf, tables))
        publish(vcf, tables, manifest, whole)
    return whole


def _read_part(name: str) -> _Part:
    path = _manifest_of(name)
    if not path.is_file():
        raise InputError(
            f"{name}: its manifest {path} is not there. Name what varfm score wrote with --shard, as --output gave it, "
            "and keep the manifest beside it."
        )
    manifest = read_manifest(path)
    if "shard" not in manifest.selection:
        raise InputError(f"{name} is no shard: it was written without --shard.")
    try:
        shard = Shard.parse(manifest.selection["shard"])
    except OptionError:
        raise InputError(f"{path}: shard is {manifest.selection['shard']!r}. Score this shard again.") from None
    roles = [entry.role for entry in manifest.outputs]
    models = [model.name for model in manifest.models]
    if "vcf" in roles:
        tables = [_beside(name, entry) for entry in manifest.outputs if entry.role == "table"]
    else:
        tables = [table_path(Path(name), model, len(models)) for model in models]
    return _Part(name, shard, manifest, Path(name) if "vcf" in roles else None, tuple(tables))


def _manifest_of(name: str) -> Path:
    return Path(f"{name}.varfm.json")


def _beside(name: str, entry: FileRecord) -> Path:
    """Find a table by its name beside the VCF, where shards are collected, or else where it was written."""
    path = Path(name).with_name(Path(entry.path).name)
    return path if path.is_file() else Path(entry.path)


def _check_family(parts: Sequence[_Part]) -> None:
    """See to it that the shards, in order, are all those of one run."""
    first = parts[0]
    for part in parts[1:]:
        found = differences(part.manifest, first.manifest, with_times=False, without=["shard"])
        if found:
            listed = list_differences(found, "{what} is {first}, not {second}")
            raise InputError(
                f"{part.name} is no shard of the same run as {first.name}: {listed}. "
                "Score one of them again with the other's input, options and kind of machine."
            )
    total = first.shard.total
    counts = Counter(part.shard for part in parts)
    other = next((part for part in parts if part.shard.total != total), None)
    if other is not None:
        raise InputError(f"{other.name} is shard {other.shard}, but {first.name} is shard {first.shard}.")
    doubled = [shard for shard, count in counts.items() if count > 1]
    if doubled:
        names = ", ".join(part.name for part in parts if part.shard == doubled[0])
        raise InputError(f"Shard {doubled[0]} is given {counts[doubled[0]]} times: {names}. Give each shard once.")
    missing = [str(number) for number in range(1, total + 1) if Shard(number, total) not in counts]
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise InputError(f"Missing shards: {shown} ({len(missing)} of {total}). Give all of them.")


def _check_formats(part: _Part, options: OutputOptions) -> None:
    target = table_target(options)
    pairs = [(path, target) for path in part.tables[:1] if target]
    if part.vcf:
        pairs.append((part.vcf, Path(options.output)))
        if options.is_table:
            raise OptionError(
                f"--output {options.output} is a table, but the shards are VCF. Name a VCF, or use --table."
            )
        if target and not part.tables:
            raise OptionError(f"--table {target}: the shards were written without --table.")
    for found, wanted in pairs:
        if _format(found) != _format(wanted):
            raise OptionError(
                f"{wanted}: the shards are {found.suffix} files, and merge changes no format. Name a file of theirs."
            )


def _format(path: Path) -> str:
    """Give what must be the same in shards and whole: all but the compression of text."""
    name = path.name
    if name == STDOUT:
        return "text"
    return "text" if name.endswith(tuple(chain(*_TEXT_SUFFIXES))) else path.suffix


def _check_files(part: _Part) -> None:
    """Hold every file of a shard against the digest in its manifest."""
    records = [entry for entry in part.manifest.outputs if entry.role == "vcf"]
    records += [entry for entry in part.manifest.outputs if entry.role == "table"]
    for path, record in zip([*filter(None, [part.vcf]), *part.tables], records, strict=True):
        if not path.is_file():
            raise InputError(f"{path}: there is no such file. Keep the files of shard {part.shard} together.")
        if describe_file(record.role, path).sha256 != record.sha256:
            raise InputError(f"{path} is not what its manifest says: it was changed or cut. Score this shard again.")


def _join_vcfs(parts: Sequence[_Part], options: OutputOptions, stack: ExitStack) -> VcfWriter:
    writer = stack.enter_context(VcfWriter(options.output, force=options.force))
    header: bytes | None = None
    for part in parts:
        with VcfReader(str(part.vcf)) as reader:
            lines = b"".join(reader.header.lines)
            if header is None:
                writer.write(header := lines)
            elif header != lines:
                raise InputError(f"{part.vcf}: its header is not that of {parts[0].vcf}.")
            for chunk in reader.text():
                writer.write(chunk)
    writer.seal(sum(part.manifest.counts.records for part in parts))
    return writer


def _join_tables(
    parts: Sequence[_Part], options: OutputOptions, models: Sequence[str], stack: ExitStack
) -> list[TsvFile | ParquetJoiner]:
    target = table_target(options)
    joined: list[TsvFile | ParquetJoiner] = []
    for number, model in enumerate(models if target else ()):
        assert target is not None
        path = table_path(target, model, len(models))
        sources = [part.tables[number] for part in parts]
        table = _joined_parquet(path, sources, options, stack) if path.suffix == ".parquet" else None
        joined.append(table or _joined_tsv(path, sources, options, stack))
        joined[-1].seal()
    return joined


def _joined_parquet(path: Path, sources: Sequence[Path], options: OutputOptions, stack: ExitStack) -> ParquetJoiner:
    joiner = ParquetJoiner(path, sources[0], force=options.force)
    stack.callback(joiner.discard)
    for source in sources:
        joiner.add(source)
    return joiner


def _joined_tsv(path: Path, sources: Sequence[Path], options: OutputOptions, stack: ExitStack) -> TsvFile:
    table: TsvFile | None = None
    head = b""
    for source in sources:
        with open_stream(str(source)) as stream:
            chunks = iter(stream)
            start = next(chunks, b"")
            while b"\n" not in start and (more := next(chunks, b"")):
                start += more
            line, newline, rest = start.partition(b"\n")
            if table is None:
                head = line
                table = TsvFile(path, line + newline, force=options.force)
                stack.callback(table.discard)
            elif line != head:
                raise InputError(f"{source}: its columns are not those of {sources[0]}.")
            for chunk in chain([rest], chunks):
                table.add(chunk)
    assert table is not None
    return table


def _whole(parts: Sequence[_Part], options: OutputOptions, outputs: list[FileRecord]) -> Manifest:
    """Give the manifest that the run without shards would have written, but for the command."""
    manifests = [part.manifest for part in parts]
    first = manifests[0]
    status = {
        model: dict(sum((Counter(manifest.counts.status[model]) for manifest in manifests), Counter()))
        for model in first.counts.status
    }
    return replace(
        first,
        command=list(options.command),
        plan=with_errors(first.plan, largest_errors(errors_of(manifest.plan) for manifest in manifests)),
        selection={name: value for name, value in first.selection.items() if name != "shard"},
        counts=Counts(
            sum(manifest.counts.records for manifest in manifests),
            sum(manifest.counts.alleles for manifest in manifests),
            status,
        ),
        outputs=outputs,
        started=min(manifest.started for manifest in manifests),
        ended=utc_time(datetime.now(UTC)),
    )
