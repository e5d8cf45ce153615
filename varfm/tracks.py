"""The outputs of a model by name: the tables that authors published, read line by line, and the choice among them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from varfm.checkpoints import Checkpoint, TracksFormat, cache_folder, status_of
from varfm.digits import counted, is_whole
from varfm.errors import ModelError, OptionError
from varfm.https import Transport
from varfm.overrides import table_beside
from varfm.weights import fetch_small

_MAX_BYTES = 50_000_000
_MAX_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Track:
    """One output of a network.

    Attributes:
        index: 0-based place among the outputs.
        name: As the authors wrote it; other tracks of the model may have the same.
        group: The assay or feature that it belongs to; may be empty.
        description: What it is, for people; may be empty.
        facts: What else the table says, e.g. `identifier`; never a path on the authors' machine.
    """

    index: int
    name: str
    group: str
    description: str
    facts: tuple[tuple[str, str], ...] = ()

    def matches(self, pattern: re.Pattern[str]) -> bool:
        """Say whether a pattern is found in the name, the description or one of the facts."""
        texts = (self.name, self.description, *(value for _, value in self.facts))
        return any(pattern.search(text) for text in texts)


def load_tracks(
    checkpoint: Checkpoint,
    *,
    override: Path | None = None,
    offline: bool = False,
    transport: Transport | None = None,
) -> tuple[Track, ...]:
    """Find, check and read the table of a checkpoint's tracks, without its weights; it is fetched if it is not here.

    Args:
        override: `--weights`: a table in this folder, or beside this file, comes before the published one.
        offline: Open no connection.

    Returns:
        In order of the outputs; empty if the checkpoint has no table.

    Raises:
        ModelError: If it is not here and cannot be fetched, or is damaged.
    """
    if not checkpoint.tracks_file or not checkpoint.tracks_format:
        return ()
    beside = table_beside(checkpoint, override) if override else None
    if beside is not None:
        return read_tracks(beside, checkpoint.tracks_format)
    if override is not None and not override.exists():
        raise ModelError(f"{override}: there is no such file. --weights wants a local copy of {checkpoint.name}.")
    [file] = [file for file in checkpoint.files if file.name == checkpoint.tracks_file]
    fetch_small(checkpoint, [file], offline=offline, beside=override, transport=transport)
    path = cache_folder(checkpoint) / file.name
    if status_of(path, [file]).state == "wrong":
        raise ModelError(
            f"{path}: is damaged, not the table that the authors published. "
            f"Fetch it again with: varfm models download {checkpoint.name} --tables"
        )
    return read_tracks(path, checkpoint.tracks_format, checkpoint.n_outputs or None)


def read_tracks(path: Path, format: TracksFormat, n: int | None = None) -> tuple[Track, ...]:
    """Read a table of tracks.

    Args:
        format: How it is written; see `Checkpoint.tracks_format`.
        n: How many tracks it must have; None: any number.

    Returns:
        In order of the outputs.

    Raises:
        ModelError: If it cannot be read, or a line does not fit.
    """
    if format not in _READERS:
        raise ModelError(f"{path}: there is no reader for the format {format!r} of track tables.")
    table = _Table(path, _lines(path))
    tracks = tuple(_READERS[format](table))
    if not tracks or (n is not None and len(tracks) != n):
        raise ModelError(
            f"{path}: has {counted(len(tracks), 'track')}, expected {n or 'at least one'}. "
            "Give the table that belongs to the model."
        )
    return tracks


def choose(name: str, tracks: Sequence[Track], asked: Sequence[str]) -> tuple[int, ...]:
    """Turn what a user wrote under `--tracks` into output indices, in the order of the outputs.

    Args:
        name: The model, for messages.
        tracks: In order of the outputs.
        asked: 0-based indices, exact names, or regular expressions searched in names, descriptions and facts such as
            the identifier, ignoring case.

    Raises:
        OptionError: If one of them matches no track.
    """
    chosen: set[int] = set()
    for text in asked:
        found = [track.index for track in tracks if track.name == text]
        if not found and is_whole(text):
            found = _by_index(name, tracks, text)
        chosen.update(found or matching(name, tracks, text))
    return tuple(sorted(chosen))


def matching(name: str, tracks: Sequence[Track], text: str) -> list[int]:
    """Give the tracks in which a regular expression is found, ignoring case.

    Raises:
        OptionError: If it is none, or is found nowhere.
    """
    if not text.strip():
        raise OptionError("--tracks is empty: give an index, a name or a regular expression.")
    try:
        pattern = re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise OptionError(f"--tracks {text}: not an index, a name or a regular expression ({error}).") from None
    found = [track.index for track in tracks if track.matches(pattern)]
    if not found:
        raise OptionError(f"--tracks {text}: {name} has no such track. See: varfm tracks {name}")
    return found


def _by_index(name: str, tracks: Sequence[Track], text: str) -> list[int]:
    index = int(text)
    if index >= len(tracks):
        raise OptionError(f"--tracks {text}: {name} has tracks 0 to {len(tracks) - 1}. See: varfm tracks {name}")
    return [index]


class _Table:
    """The lines of a file, and errors that say where in it they are."""

    def __init__(self, path: Path, lines: Sequence[str]) -> None:
        self.path = path
        self.lines = lines

    def rows(self, header: str | None = None) -> Iterator[tuple[int, str]]:
        """Give line numbers from 1 and lines, without the header where the format has one."""
        if header is not None and (not self.lines or self.lines[0] != header):
            raise self.error(1, f"expected the header {header!r}")
        start = 0 if header is None else 1
        yield from enumerate(self.lines[start:], start + 1)

    def fields(self, number: int, line: str, separator: str, counts: Sequence[int]) -> list[str]:
        """Split a line; its first field must not be empty."""
        fields = line.split(separator)
        if len(fields) not in counts or not fields[0].strip():
            wanted = " or ".join(map(str, counts))
            raise self.error(number, f"expected {wanted} fields with {separator!r} between them, found {len(fields)}")
        return fields

    def error(self, number: int, expected: str) -> ModelError:
        line = self.lines[number - 1] if number <= len(self.lines) else ""
        shown = repr(line[:_MAX_SHOWN] + ("..." if len(line) > _MAX_SHOWN else ""))
        return ModelError(f"{self.path}, line {number}: {expected}; the line is {shown}. Fetch the table again.")


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"{path}: is larger than any table of tracks. Give the table that belongs to the model.")
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}). Give a table that you may read.") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: byte {error.start} is not UTF-8. Fetch the table again.") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines and not lines[-1] else lines


def _basenji(table: _Table) -> Iterator[Track]:
    """`targets_*.txt` of 2020: named columns; the index goes on from one species to the next."""
    columns = table.lines[0].split("\t") if table.lines else []
    if not {"index", "identifier", "description"} <= set(columns) or len(set(columns)) < len(columns):
        raise table.error(1, "expected a header with index, identifier and description, tab-separated")
    first: int | None = None
    for number, line in list(table.rows())[1:]:
        row = dict(zip(columns, table.fields(number, line, "\t", [len(columns)]), strict=True))
        if not is_whole(row["index"]) or not row["description"].strip():
            raise table.error(number, "expected a number under index and a text under description")
        first = int(row["index"]) if first is None else first
        if int(row["index"]) != first + number - 2:
            raise table.error(number, f"expected the index {first + number - 2}")
        yield _coverage_track(number - 2, row["description"], _known(row))


def _known(row: dict[str, str]) -> tuple[tuple[str, str], ...]:
    names = ("identifier", "clip", "scale", "sum_stat", "genome")
    return tuple((name, row[name]) for name in names if row.get(name))


def _basenji2018(table: _Table) -> Iterator[Track]:
    """`sample_wigs.txt`: identifier, the authors' file and, mostly, `ASSAY:sample`."""
    for number, line in table.rows():
        identifier, _, *label = table.fields(number, line, "\t", (2, 3))
        name = label[0] if label and label[0].strip() else identifier
        yield _coverage_track(number - 1, name, (("identifier", identifier),))


def _coverage_track(index: int, name: str, facts: tuple[tuple[str, str], ...]) -> Track:
    group = name.partition(":")[0] if ":" in name else ""
    return Track(index, name, group, ", ".join(f"{key} {value}" for key, value in facts), facts)


def _deepsea(table: _Table) -> Iterator[Track]:
    """`predictor.names`: `cell|feature|treatment`; copies of it have underscores there, as cells themselves may."""
    separator = "|" if table.lines and "|" in table.lines[0] else "_"
    for number, line in table.rows():
        fields = line.split(separator)
        if len(fields) < 3 or not all(fields) or (separator == "|" and len(fields) > 3):
            raise table.error(number, f"expected cell{separator}feature{separator}treatment")
        yield _feature(number - 1, line, fields) if len(fields) == 3 else Track(number - 1, line, "", "")


def _feature(index: int, name: str, fields: Sequence[str]) -> Track:
    cell, feature, treatment = fields
    treated = f", {treatment}" if treatment not in ("", "None") else ""
    return Track(index, name, feature, f"{feature} in {cell}{treated}")


def _beluga(table: _Table) -> Iterator[Track]:
    """`deepsea_beluga_2002_features.tsv`: counts from 1; named here as DeepSEA names its features."""
    for number, line in table.rows(header="\tCell type\tAssay\tTreatment\tAssay type\tSource\t"):
        count, cell, assay, treatment, kind, source, _ = table.fields(number, line, "\t", (7,))
        if count != str(number - 1) or not cell or not assay:
            raise table.error(number, f"expected the number {number - 1}, then a cell type and an assay")
        track = _feature(number - 2, f"{cell}|{assay}|{treatment or 'None'}", (cell, assay, treatment))
        facts = tuple((key, value) for key, value in (("assay_type", kind), ("source", source)) if value)
        yield Track(track.index, track.name, track.group, track.description, facts)


def _basset(table: _Table) -> Iterator[Track]:
    """`targets.txt`: cell type and the authors' file of peaks."""
    for number, line in table.rows():
        name = table.fields(number, line, "\t", (2,))[0]
        yield Track(number - 1, name, "DNase", f"DNase hypersensitivity in {name.strip()}")


def _sei(table: _Table) -> Iterator[Track]:
    """`target.names`: `cell or tissue | assay | source`, and a number where these would not be unique."""
    for number, line in table.rows():
        cell, assay, source, *replicate = table.fields(number, line, " | ", (3, 4))
        facts = (("source", source), *(("replicate", text) for text in replicate))
        yield Track(number - 1, line, assay, f"{assay} in {cell}", facts)


def _expecto(table: _Table) -> Iterator[Track]:
    """`modellist`: the file of a tissue's linear model, as its folder knows it, and the tissue."""
    for number, line in table.rows(header="ModelName\tTissue"):
        model, tissue = table.fields(number, line, "\t", (2,))
        if not tissue:
            raise table.error(number, "expected a model file and a tissue")
        yield Track(number - 2, tissue, "", f"ln expression in {tissue}", (("model", model.removeprefix("./")),))


_READERS: dict[str, Callable[[_Table], Iterator[Track]]] = {
    "basenji": _basenji,
    "basenji2018": _basenji2018,
    "basset": _basset,
    "beluga": _beluga,
    "deepsea": _deepsea,
    "expecto": _expecto,
    "sei": _sei,
}
