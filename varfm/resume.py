"""Runs that may be stopped at any moment, and go on where they were."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from varfm.account import Summary, complete, describe_run, halvings, measured_errors, status_words, summarise
from varfm.apart import input_paths
from varfm.errors import DiskError, InputError, OptionError
from varfm.io.atomic import disk_errors
from varfm.io.table import pack_rows
from varfm.io.vcf import VcfReader
from varfm.io.writer import STDOUT, index_again
from varfm.journal import FINISHED, Chunk, Journal, remove_folder
from varfm.manifest import (
    Difference,
    FileRecord,
    Manifest,
    describe_file,
    differences,
    largest_errors,
    list_differences,
    read_manifest,
)
from varfm.output import (
    Advance,
    OutputOptions,
    annotated,
    check_targets,
    describe_outputs,
    manifest_path,
    open_manifest,
    open_tables,
    open_vcf,
    output_paths,
    publish,
    rows_of,
)
from varfm.session import ScoredBlock, Session, SessionOptions, is_readable_again
from varfm.variants import Status

logger = logging.getLogger(__name__)

_CHUNK_SECONDS = 0.2
_CHUNK_SHARE = 0.001  # of the time since the start: a run of days has as few thousand chunks as one of minutes
_CHUNK_BYTES = 8 << 20
_CHANGED = "{what} was {first}, now {second}"


def check_resumable(options: SessionOptions, outputs: OutputOptions) -> None:
    """See to it that a run can be resumed, before any work.

    Raises:
        OptionError: If it reads a stream, or writes to stdout, or an output cannot be written.
        DiskError: If a folder cannot be written.
    """
    if not is_readable_again(options.vcf):
        raise OptionError("--resume: a stream can be read only once. Give the VCF as a file.")
    if outputs.output == STDOUT:
        raise OptionError("--resume: stdout cannot be gone on with. Name a file with --output.")
    check_targets(replace(outputs, force=True), options.models, input_paths(options))


def resume_scores(session: Session, options: OutputOptions, advance: Advance) -> Summary:
    """Score what an earlier run of the same command did not finish, and write all of it.

    Args:
        session: Open and not yet iterated.
        options: Where to.
        advance: Told after each block how many alleles it had, and the share of the input read so far.

    Returns:
        What was done, by the earlier runs too.

    Raises:
        OptionError: If what lies there was made in another way and `force` is not given.
        VarfmError: Another of its children; what is finished is kept.
    """
    run = _Run(session, options)
    finished = run.finished()
    if finished is not None:
        remove_folder(run.folder)
        run.mend_index(finished)
        return _summary_of(finished)
    check_targets(replace(options, force=run.may_replace), session.options.models)
    with Journal(run.folder, len(run.paths)) as journal:
        run.take_up(journal)
        try:
            _score_rest(session, run, journal, advance)
            summary = _total(session, journal)
            _put_together(session, run, journal, summary)
        except DiskError as error:
            raise DiskError(f"{error} {run.kept}") from error
        except BaseException as error:  # a signal, for one: who tells the user of it cannot know the folder
            error.add_note(run.kept)
            raise
        journal.remove()
    return summary


class _Run:
    """What a run is to write, and what lies there."""

    def __init__(self, session: Session, options: OutputOptions) -> None:
        self.options = options
        self.paths = output_paths(options, [model.name for model in session.models])
        self.folder = Path(f"{os.path.realpath(options.output)}.varfm-partial")
        self.started = datetime.now(UTC)
        kinds = [
            FileRecord("vcf" if path == Path(options.output) and not options.is_table else "table", str(path))
            for path in self.paths
        ]
        described = describe_run(session, options.command, self.started, with_fasta_digest=True)
        self.manifest = replace(described, outputs=kinds)
        self.may_replace = options.force

    @property
    def kept(self) -> str:
        """What to tell the user if the run ends too early."""
        return f"What is finished is kept in {self.folder}: the same command goes on from there."

    def finished(self) -> Manifest | None:
        """Give the manifest of a finished run of the same command whose outputs are whole; None: there is work to do.

        Raises:
            OptionError: If there are outputs that may not be replaced.
        """
        present = [path for path in self.paths if os.path.lexists(path)]
        if not present:
            return None
        manifest = self._read(manifest_path(self.options))
        is_whole = manifest is not None and len(present) == len(self.paths) and _are_whole(present, manifest)
        found = self._differences(manifest) if manifest else []
        if is_whole and not found:
            return manifest
        ours = self._read(self.folder / FINISHED)
        # Stopped between the renaming of one output and the next.
        self.may_replace = self.options.force or (ours is not None and _are_whole(present, ours))
        if self.may_replace:
            return None
        missing = [path for path in self.paths if path not in present]
        name = present[0]
        if found:
            raise OptionError(
                f"{name} was written by another run: {list_differences(found, _CHANGED)}. Use --force to replace it, "
                "or another name."
            )
        if manifest is None:
            raise OptionError(f"{name} exists, and no manifest says how it was made. Use --force to replace it.")
        if missing:
            raise OptionError(f"{name} exists without {missing[0]}. Use --force to write both anew.")
        changed = next(path for path in present if not _are_whole([path], manifest))
        raise OptionError(f"{changed} is not what its manifest says. Use --force to write it anew.")

    def mend_index(self, finished: Manifest) -> None:
        """Make the index of a finished output again where it is not what the manifest says.

        Raises:
            DiskError: If it cannot be made or written.
        """
        for entry in finished.outputs:
            if entry.role == "index":
                path = Path(f"{self.options.output}{Path(entry.path).suffix}")
                if not path.is_file() or describe_file("index", path).sha256 != entry.sha256:
                    logger.warning("%s is missing, or another one; it is made again.", path)
                    index_again(self.options.output)

    def take_up(self, journal: Journal) -> None:
        """Begin the journal, or go on with it.

        Raises:
            OptionError: If the unfinished run is another one and `force` is not given.
            DiskError: If the disk is full or fails.
        """
        old = journal.read_run()
        found = self._differences(old) if old else []
        if found and not self.options.force:
            raise OptionError(
                f"{journal.folder} holds an unfinished run that was another one: {list_differences(found, _CHANGED)}. "
                "Give the same input and options again, or use --force to start afresh."
            )
        if old is None or found:
            journal.begin(self.manifest)
        else:
            journal.go_on()

    def staging(self, path: Path) -> str:
        """Give the folder for the temporary file of an output: one that the next run cleans."""
        folder = Path(f"{os.path.realpath(path)}.varfm-partial")
        if folder.parent == self.folder.parent:
            return str(self.folder)
        with disk_errors(str(folder)):
            folder.mkdir(exist_ok=True)
        return str(folder)

    def clean(self) -> None:
        """Remove the folders of `staging` but the journal's."""
        for path in (*self.paths, manifest_path(self.options)):
            folder = Path(f"{os.path.realpath(path or '')}.varfm-partial")
            if path and folder.parent != self.folder.parent:
                remove_folder(folder)

    def _differences(self, other: Manifest) -> list[Difference]:
        happened = [f"halved of {model.name}" for model in self.manifest.models]
        return differences(other, self.manifest, with_times=True, without=happened)

    def _read(self, path: Path | None) -> Manifest | None:
        try:
            return read_manifest(path) if path and path.is_file() else None
        except InputError:
            return None


def _are_whole(paths: Sequence[Path], manifest: Manifest) -> bool:
    """Tell whether files are those whose digests a manifest holds."""
    known = {entry.sha256 for entry in manifest.outputs}
    return all(describe_file("output", path).sha256 in known for path in paths)


def _score_rest(session: Session, run: _Run, journal: Journal, advance: Advance) -> None:
    """Score from the last finished chunk on, chunk by chunk."""
    if journal.chunks and isinstance(session.reader, VcfReader):
        session.reader.skip(journal.chunks[-1].n_read)
    chunk = _Draft(session, run)
    started = time.monotonic()
    with held_signals() as signals:
        for item in session:
            chunk.add(item)
            advance(len(item.alleles), session.reader.fraction)
            if signals.came or chunk.is_full(time.monotonic() - started):
                journal.append(*chunk.finished())
                signals.act()
        if chunk.n_read:
            journal.append(*chunk.finished())
        signals.act()


class _Draft:
    """The chunk in hand."""

    def __init__(self, session: Session, run: _Run) -> None:
        self._session = session
        self._run = run
        self._counts: list[Counter[Status]] = [Counter() for _ in session.models]
        self._halved = halvings(session)
        self._n_records = 0
        self._start()

    def _start(self) -> None:
        self.n_read = 0
        self._pieces: list[list[bytes]] = [[] for _ in self._run.paths]
        self._n_bytes = 0
        self._begun = time.monotonic()

    def add(self, item: ScoredBlock) -> None:
        """Add a block."""
        models = self._session.models
        for number, pieces in enumerate(self._pieces):
            if number < len(models) and self._run.manifest.outputs[number].role == "table":
                rows = rows_of(self._session, item)
                packed = pack_rows(self._run.paths[number], models[number], rows, item.alleles, item.scored[number])
            else:
                packed = annotated(self._session, item)
            pieces.append(packed)
            self._n_bytes += len(packed)
        self.n_read = item.n_read

    def is_full(self, seconds: float) -> bool:
        """Tell whether the chunk is to be brought onto the disk, `seconds` after the start of the run."""
        patience = max(_CHUNK_SECONDS, _CHUNK_SHARE * seconds)
        return self._n_bytes >= _CHUNK_BYTES or time.monotonic() - self._begun >= patience

    def finished(self) -> tuple[Chunk, list[bytes]]:
        """Give the chunk with its pieces, and begin the next one."""
        session = self._session
        new = [now - before for now, before in zip(session.counts, self._counts, strict=True)]
        status = status_words(dict(zip([model.name for model in session.models], new, strict=True)))
        halved = halvings(session)
        chunk = Chunk(
            n_read=self.n_read,
            n_records=session.n_records - self._n_records,
            status=status,
            halved={name: n - self._halved[name] for name, n in halved.items()},
            errors=measured_errors(session),
            sizes=[],
            digests=[],
        )
        pieces = [b"".join(parts) for parts in self._pieces]
        self._counts, self._halved, self._n_records = [Counter(c) for c in session.counts], halved, session.n_records
        self._start()
        return chunk, pieces


def _total(session: Session, journal: Journal) -> Summary:
    """Count what all runs together did."""
    counts: dict[str, Counter[Status]] = {model.name: Counter() for model in session.models}
    for chunk in journal.chunks:
        for model, words in chunk.status.items():
            counts[model].update(_by_status(words))
    n_alleles = sum(next(iter(counts.values())).values())
    n_new = summarise(session).n_alleles
    n_records = sum(chunk.n_records for chunk in journal.chunks)
    return Summary(n_records, n_alleles, counts, session.plan.device, n_alleles - n_new)


def _by_status(words: Mapping[str, int]) -> Counter[Status]:
    return Counter({Status[word]: n for word, n in words.items()})


def _summary_of(manifest: Manifest) -> Summary:
    counts = {model: _by_status(words) for model, words in manifest.counts.status.items()}
    n_alleles = manifest.counts.alleles
    return Summary(manifest.counts.records, n_alleles, counts, manifest.device, n_alleles)


def _put_together(session: Session, run: _Run, journal: Journal, summary: Summary) -> None:
    """Write the outputs from the journal, and give them their names."""
    run.clean()
    options = replace(run.options, force=run.may_replace)
    with ExitStack() as stack:
        stack.callback(run.clean)
        tables = open_tables(session, options, stack, run.staging)
        vcf = open_vcf(session, options, stack, run.staging)
        for number, table in enumerate(tables):
            for piece in journal.pieces(number):
                table.add(piece)
            table.seal()
        if vcf:
            for piece in journal.pieces(len(tables)):
                vcf.write(piece)
            vcf.write_tail(session.reader.tail)
            vcf.seal(summary.n_records)
        manifest = open_manifest(options, stack, run.staging)
        halved = {name: sum(chunk.halved[name] for chunk in journal.chunks) for name in halvings(session)}
        errors = largest_errors(chunk.errors for chunk in journal.chunks)
        record = complete(run.manifest, summary, describe_outputs(vcf, tables), halved, errors)
        record.write(run.folder / FINISHED, force=True)
        publish(vcf, tables, manifest, record)


@dataclass(slots=True)
class HeldSignals:
    """Signals that asked the run to stop and were not obeyed yet.

    Attributes:
        came: Their numbers.
        handlers: What stood before, by number.
    """

    handlers: dict[int, object] = field(default_factory=dict)
    came: list[int] = field(default_factory=list)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal; the second one is obeyed at once."""
        self.came.append(number)
        if len(self.came) > 1:
            self.act()

    def act(self) -> None:
        """Obey the first signal that came, if one did."""
        if self.came:
            self.restore()
            handler = self.handlers[self.came[0]]
            if callable(handler):
                handler(self.came[0], None)
            else:
                signal.raise_signal(self.came[0])

    def restore(self) -> None:
        """Let signals act at once again."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


@contextmanager
def held_signals() -> Iterator[HeldSignals]:
    """Hold SIGTERM and SIGINT back, so that the chunk in hand can be finished; only the main thread can."""
    held = HeldSignals()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                held.handlers[number] = signal.signal(number, held.note)
    try:
        yield held
    finally:
        held.restore()
