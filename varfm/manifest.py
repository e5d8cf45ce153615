"""What a run says of itself: `OUT.varfm.json`, with inputs, options, counts and digests, as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from varfm.errors import InputError
from varfm.io.atomic import AtomicFile, disk_errors
from varfm.variants import Status

FORMAT = 1
"""Number of the layout of the file; a reader takes no other."""

_PACKAGES = ("torch", "numpy", "pysam")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file that was read or written.

    A FASTA of several gigabytes is hashed only by runs that can be resumed: else it is named by `size`, `modified` and
    `contigs_sha256`, and `sha256` is null. For stdin all of these are null.

    Attributes:
        role: `vcf` (or `region`), `fasta`, `genes`, `contig_map`, `regions`; `vcf`, `index`, `table`, `picture` for
            what was written.
        path: As the user gave it; `-` for stdin.
        size: In bytes.
        modified: UTC, ISO 8601.
        sha256: Of the whole file.
        contigs_sha256: Of the lines `name<TAB>length` of a FASTA's contigs, in order.
    """

    role: str
    path: str
    size: int | None = None
    modified: str | None = None
    sha256: str | None = None
    contigs_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One model of a run.

    Attributes:
        weights_sha256: Empty for models without weights.
        published: False where the weights are not the published file.
        options: Those that decide the scores.
    """

    name: str
    weights_sha256: str
    published: bool
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class Counts:
    """What was read and what became of it.

    Attributes:
        records: Records written.
        alleles: ALTs, those without a score included.
        status: Model name to status word to alleles; words without alleles are left out.
    """

    records: int
    alleles: int
    status: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A finished run.

    Attributes:
        format: `FORMAT`.
        versions: As `software_versions` gives them.
        command: The command line as typed, one item per argument.
        options: The resolved options of the run that decide scores.
        selection: What of the input was taken, where it was not all of it as it stood: `shard`, `regions`,
            `overwrite`, `escape_formulas`.
        plan: The numeric plan, JSON values only.
        started: UTC, ISO 8601; so is `ended`.
        threads: CPU threads.
        device: Where the networks ran.
    """

    versions: dict[str, str]
    command: list[str]
    inputs: list[FileRecord]
    models: list[ModelRecord]
    options: dict[str, str]
    selection: dict[str, str]
    plan: dict[str, object]
    counts: Counts
    outputs: list[FileRecord]
    started: str
    ended: str
    threads: int
    device: str
    format: int = FORMAT

    def to_json(self) -> bytes:
        """Give the file's bytes: keys sorted, two blanks of indent, ASCII, a newline at the end."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=2, allow_nan=False).encode() + b"\n"

    def write(self, path: Path, *, force: bool) -> None:
        """Write the manifest; it is there whole or not at all.

        Args:
            path: The final name.
            force: Replace a file that is there.

        Raises:
            OptionError: If the file exists and `force` is False, or its folder is missing.
            DiskError: If the disk refuses.
        """
        with AtomicFile(path, force) as target:
            with disk_errors(str(path)):
                target.file.write(self.to_json())
            target.seal()
            target.publish()


_MEASURED = "precision_error"
_DECISIVE = ("varfm", "torch", "numpy")
_TEXT_SUFFIXES = (".vcf", ".vcf.gz", ".tsv", ".tsv.gz")


def with_errors(plan: dict[str, object], errors: Mapping[str, float]) -> dict[str, object]:
    """Put what was measured in mixed precision into a plan, model name to relative error, if there is anything."""
    return {**plan, _MEASURED: dict(errors)} if errors else plan


def errors_of(plan: Mapping[str, object]) -> dict[str, float]:
    """Give what `with_errors` put into a plan."""
    found = plan.get(_MEASURED)
    errors = found if isinstance(found, dict) else {}
    return {name: value for name, value in errors.items() if isinstance(value, float)}


def largest_errors(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Give the largest error of each model among parts of a run."""
    largest: dict[str, float] = {}
    for errors in parts:
        largest |= {name: max(value, largest.get(name, 0.0)) for name, value in errors.items()}
    return largest


class Difference(NamedTuple):
    """Something that two runs have not in common: what it is, and its value in each."""

    what: str
    first: str
    second: str


def list_differences(found: Sequence[Difference], words: str) -> str:
    """Name differences, the first three of them.

    Args:
        found: In order.
        words: How to say one, with `{what}`, `{first}` and `{second}` in it.
    """
    return "; ".join(words.format(**item._asdict()) for item in found[:3]) + ("; ..." if len(found) > 3 else "")


def differences(
    first: Manifest, second: Manifest, *, with_times: bool, without: Sequence[str] = ()
) -> list[Difference]:
    """Compare all that decides what two runs write; nothing is found for runs whose outputs fit together.

    Paths, what was typed and when do not count. Of a device only its kind does.

    Args:
        first: One run.
        second: The other.
        with_times: A file without a digest in one of them must have the same time of change.
        without: Names of what may differ.
    """
    ours, theirs = _facts(first), _facts(second)
    inputs = [{entry.role: entry for entry in manifest.inputs} for manifest in (first, second)]
    for role in dict.fromkeys([*inputs[0], *inputs[1]]):
        ours[role], theirs[role] = _described(inputs[0].get(role), inputs[1].get(role), with_times)
    return [
        Difference(name, ours.get(name, "none"), theirs.get(name, "none"))
        for name in dict.fromkeys([*ours, *theirs])
        if name not in without and ours.get(name, "none") != theirs.get(name, "none")
    ]


def _facts(manifest: Manifest) -> dict[str, str]:
    facts = {f"version of {name}": manifest.versions.get(name, "none") for name in _DECISIVE}
    facts["models"] = ", ".join(model.name for model in manifest.models)
    for model in manifest.models:
        facts[f"weights of {model.name}"] = model.weights_sha256 or "none"
        facts |= {f"{name} of {model.name}": value for name, value in model.options.items()}
    facts |= manifest.options | manifest.selection
    for name, value in manifest.plan.items():
        if name == _MEASURED:  # of the records that happened to come first; nothing that is written depends on it
            continue
        facts |= (
            {f"{name} of {key}": str(n) for key, n in value.items()} if isinstance(value, dict) else {name: str(value)}
        )
    facts["device"] = manifest.device.partition(":")[0]
    facts["outputs"] = ", ".join(_kind(entry) for entry in manifest.outputs if entry.role != "index")
    return facts


def _kind(output: FileRecord) -> str:
    return f"{output.role} as {'text' if output.path.endswith(_TEXT_SUFFIXES) else Path(output.path).suffix}"


def _described(first: FileRecord | None, second: FileRecord | None, with_times: bool) -> tuple[str, str]:
    """Describe two files by what both know of them."""
    if first is None or second is None:
        return ("none" if first is None else first.path), ("none" if second is None else second.path)
    keys = ["sha256"] if first.sha256 and second.sha256 else ["size", "contigs_sha256", *(["modified"] * with_times)]
    texts = [", ".join(f"{key} {getattr(entry, key)}" for key in keys) for entry in (first, second)]
    return texts[0], texts[1]


def software_versions(varfm: str, more: Sequence[str] = ()) -> dict[str, str]:
    """Give the versions of varfm (as told), Python and the packages on which numbers and bytes depend, and of `more`.

    Nothing is imported for it; a package that is not installed says so.
    """
    versions = {"varfm": varfm, "python": platform.python_version()}
    for name in (*_PACKAGES, *more):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def utc_time(moment: datetime | None = None) -> str:
    """Write a moment (now, if none) as the manifest does: UTC, ISO 8601, whole seconds."""
    return (moment or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")


def describe_file(role: str, path: Path, *, digest: bool = True) -> FileRecord:
    """Describe a file by size, time and, where `digest`, the sha256 of its bytes; `-` and pipes by their name alone.

    Raises:
        InputError: If the file cannot be read.
    """
    if not path.is_file():
        return FileRecord(role, str(path))
    try:
        about = path.stat()
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest() if digest else None
    except OSError as error:
        raise InputError(f"{path}: cannot be read again for the manifest: {error.strerror or error}.") from error
    return FileRecord(role, str(path), about.st_size, utc_time(datetime.fromtimestamp(about.st_mtime, UTC)), sha256)


def describe_fasta(path: Path, contigs: Mapping[str, int], *, digest: bool = False) -> FileRecord:
    """Describe a FASTA by size, time and its contigs (name to length, in order), without `digest` not by its bases.

    Raises:
        InputError: If the file cannot be read.
    """
    lines = "".join(f"{name}\t{length}\n" for name, length in contigs.items())
    contigs_sha256 = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
    return dataclasses.replace(describe_file("fasta", path, digest=digest), contigs_sha256=contigs_sha256)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest and check all of it.

    Raises:
        InputError: If the file cannot be read, is no manifest of this format, has missing, unknown or doubled keys or
            values of another type, or its counts do not add up.
    """
    try:
        data = json.loads(path.read_bytes(), object_pairs_hook=_single_keys, parse_constant=_refuse_constant)
        if isinstance(data, dict) and data.get("format") != FORMAT:
            raise ValueError(f"format is {data.get('format')!r}, expected {FORMAT}")
        manifest = _decoded(Manifest, data, "the manifest")
        _check_counts(manifest)
    except OSError as error:
        raise InputError(f"{path}: the manifest cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not a manifest that this version of varfm wrote: {error}. Run varfm score again to make it."
        ) from error
    return manifest


def _single_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)} stands twice")
    return dict(pairs)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _decoded(kind: type[T], data: object, where: str) -> T:
    # A dataclass from a JSON object with exactly its keys.
    if not isinstance(data, dict):
        raise ValueError(f"{where} is {_name(data)}, expected an object")
    kinds = get_type_hints(kind)
    if kinds.keys() != data.keys():
        odd = sorted(kinds.keys() ^ data.keys())[0]
        raise ValueError(f"{where} {'has no' if odd in kinds else 'has the unknown'} key {odd}")
    return kind(**{key: _value(kinds[key], value, key) for key, value in data.items()})


def _value(kind: Any, data: object, where: str) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _decoded(kind, data, where)
    if kind is object:
        return data
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if data is None else _value(parts[0], data, where)
    if origin is list and isinstance(data, list):
        return [_value(parts[0], item, f"{where}[{index}]") for index, item in enumerate(data)]
    if origin is dict and isinstance(data, dict):
        return {key: _value(parts[1], item, f"{where}.{key}") for key, item in data.items()}
    if origin is None and type(data) is kind:  # True is an int for isinstance
        return data
    raise ValueError(f"{where} is {_name(data)}, expected {(origin or kind).__name__}")


def _name(data: object) -> str:
    return "null" if data is None else f"of type {type(data).__name__}"


def _check_counts(manifest: Manifest) -> None:
    counts = manifest.counts
    for model, by_word in counts.status.items():
        unknown = by_word.keys() - Status.__members__.keys()
        if unknown:
            raise ValueError(f"counts.status.{model} has the unknown word {min(unknown)}")
        if sum(by_word.values()) != counts.alleles:
            raise ValueError(f"counts.status.{model} adds up to {sum(by_word.values())} of {counts.alleles} alleles")
