"""What a published set of weights is, and what is found of it on this machine."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from varfm.cache import cache_root
from varfm.download import RemoteFile, digests_of
from varfm.errors import DiskError, ModelError

Likelihood = Literal["", "masked", "frames", "seen", "tokens", "causal"]
TracksFormat = Literal["", "basenji", "basenji2018", "basset", "beluga", "deepsea", "expecto", "sei"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One published set of weights.

    Attributes:
        name: The published name in lower case.
        module: The module of `varfm.models` that holds `build`.
        variant: Which of the module's networks or heads it is (`beluga`, `mouse`); empty where there is only one.
        files: What is fetched, the file with the tensors first; empty where weights are packaged or there are none.
        copies: Other published files with the same weights: a local copy of one of them is the published one too.
        folder: Folder in the cache, where several checkpoints share files; empty: the name.
        about_bytes: What must be fetched, about, where exact sizes were not published: what the authors state, or
            the float32 numbers of the network; 0 where neither tells.
        converts: True if `download` also writes the tensors as safetensors in varfm's own names.
        licence: Of the weights, an SPDX identifier where there is one.
        commercial: False where the licence forbids commercial use.
        paper: Citation with DOI.
        source: Address of the authors' code.
        assembly: Whose sequence trained the model (`hg19`, `GRCh38`, `mm10`); empty where it does not matter.
        window: Bases that the model reads.
        index: 0-based position in the window of the first changed base, or of the TSS for models placed on genes.
        reads: What the network answers, in a phrase.
        scores: The default scores, in a phrase.
        strands: How the two strands enter, in a phrase.
        parameters: Learned numbers of the published network; 0 where nobody counted.
        n_outputs: Outputs of the network, each a track; for binned networks, per bin.
        memory: What a run needs, measured; empty where nobody did.
        verified: How agreement with the authors' network was shown, in a phrase; empty where it was not.
        tracks_file: The file of `files` that names the outputs; empty where their names are part of varfm.
        tracks_format: How that file is written.
        likelihood: How a language model scores: `masked`, `frames` (masked, tokens in a fixed frame, so that it takes
            no indels), `seen` (nothing hidden, no indels), `tokens` (those that differ), `causal`; else empty.
        adaptable: False where a LoRA adapter does not fit a language model, as its weights are tied in another way.
        needs_genes: True if scores belong to genes, so that a run needs an annotation.
        hidden: Only for tests of varfm: not listed, and refused without VARFM_TESTING=1.
        packaged: Path of the weights inside the package `varfm`, with its sha256 in `packaged_sha256`.
    """

    name: str
    module: str
    licence: str
    commercial: bool
    paper: str
    source: str
    assembly: str
    window: int
    index: int
    reads: str
    scores: str
    strands: str
    variant: str = ""
    files: tuple[RemoteFile, ...] = ()
    copies: tuple[RemoteFile, ...] = ()
    folder: str = ""
    about_bytes: int = 0
    converts: bool = False
    parameters: int = 0
    n_outputs: int = 0
    memory: str = ""
    verified: str = ""
    tracks_file: str = ""
    tracks_format: TracksFormat = ""
    likelihood: Likelihood = ""
    adaptable: bool = True
    needs_genes: bool = False
    hidden: bool = False
    packaged: str | None = None
    packaged_sha256: str | None = None

    @property
    def needs_weights(self) -> bool:
        """True unless the model has no parameters at all."""
        return bool(self.files or self.packaged)

    @property
    def size(self) -> int | None:
        """Bytes of all files; None where one of them is not known."""
        if self.packaged:
            path = packaged_path(self)
            return path.stat().st_size if path.is_file() else None
        return total_size(self.files)

    @property
    def readable_size(self) -> str:
        """The size for people, e.g. `121 MB` or `about 3.1 GB`."""
        if self.size is None and self.about_bytes:
            return f"about {readable_size(self.about_bytes)}"
        return readable_size(self.size)

    @property
    def sources(self) -> tuple[RemoteFile, ...]:
        """The files that hold the tensors: the first one, and its further pieces where it has any."""
        return tuple(file for file in self.files if file.role in ("weights", "shard"))

    @property
    def auxiliaries(self) -> tuple[RemoteFile, ...]:
        """The other files."""
        return tuple(file for file in self.files if file.role not in ("weights", "shard"))

    @property
    def tables(self) -> tuple[RemoteFile, ...]:
        """The small files that say what the outputs are called."""
        return tuple(file for file in self.files if file.role == "table")

    @property
    def licence_line(self) -> str:
        """The licence in one line, stamped where commercial use is forbidden."""
        stamp = "" if self.commercial else " - NOT FOR COMMERCIAL USE"
        return f"{self.name}: licence {self.licence}{stamp}; please cite {self.paper}"


@dataclass(frozen=True, slots=True)
class LocalWeights:
    """Weights on this machine, hashed just now.

    Attributes:
        path: The file with the tensors: the published one (the index, where it has shards) or varfm's conversion of it
            in the cache; the null device where the model has no weights.
        sha256: Of the published file, or of the lines `sha256  name` of the index and its shards; empty for none.
        published: False where a file is not the one in the catalogue, or nobody can tell.
        files: The other files of the checkpoint by their names in the catalogue.
        config: Sizes of the network that came with the weights, a JSON file; None: those of the published network.
    """

    path: Path
    sha256: str
    published: bool
    files: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    config: Path | None = None


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What was found of one file. `unknown`: it is here, but no digest was published for it."""

    path: Path
    state: Literal["ok", "missing", "wrong", "unknown"]
    sha256: str | None


def total_size(files: Sequence[RemoteFile]) -> int | None:
    """Give the bytes of some files; None where one of them is not known."""
    sizes = [file.size for file in files]
    return None if None in sizes else sum(size or 0 for size in sizes)


def readable_size(n_bytes: int | None) -> str:
    """Give a size for people, e.g. `1.4 MB` (10^6 bytes); `unknown size` for None."""
    if n_bytes is None:
        return "unknown size"
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    value = float(n_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"


def cache_folder(checkpoint: Checkpoint) -> Path:
    """Give the folder of a checkpoint in the cache, below VARFM_CACHE or the user's cache folder; it need not exist."""
    return cache_root() / "weights" / (checkpoint.folder or checkpoint.name)


def packaged_path(checkpoint: Checkpoint) -> Path:
    """Give the path of weights that ship with varfm.

    Raises:
        ModelError: If the checkpoint does not ship with varfm.
    """
    if checkpoint.packaged is None:
        raise ModelError(f"{checkpoint.name} does not ship with varfm; see varfm models info {checkpoint.name}.")
    return Path(str(resources.files("varfm").joinpath(checkpoint.packaged)))


def is_here(checkpoint: Checkpoint, file: RemoteFile) -> bool:
    """Say whether a file is in the cache, by name and size alone."""
    try:
        found = os.stat(cache_folder(checkpoint) / file.name).st_size
    except OSError:
        return False
    return file.size is None or found == file.size


def status_of(path: Path, expected: Sequence[RemoteFile]) -> FileStatus:
    """Hash a file and compare it with the digests of a published file, or of its copies, of which any will do.

    Args:
        expected: The published file, then its copies. Without a digest of the first one, a file that is none of the
            copies is `unknown`.

    Raises:
        ModelError: If it cannot be read.
        DiskError: If the disk fails.
    """
    known = [file for file in expected if file.digest]
    try:
        sha256, md5 = digests_of(path, md5=any(file.sha256 is None for file in known))
    except FileNotFoundError:
        return FileStatus(path, "missing", None)
    except OSError as error:
        if error.errno == errno.EIO:
            raise DiskError(f"{path}: the disk cannot read it ({error.strerror}).") from error
        raise ModelError(f"{path}: cannot be read ({error.strerror}). Give a file that you may read.") from error
    if any(file.digest == (sha256 if file.sha256 else md5) for file in known):
        return FileStatus(path, "ok", sha256)
    return FileStatus(path, "wrong" if expected and expected[0].digest else "unknown", sha256)


def joint_digest(statuses: Sequence[FileStatus], names: Sequence[str] | None = None) -> str:
    """Give the sha256 of one file, or of the lines `sha256  name` of several.

    Args:
        names: What the lines call the files, so that equal content under other names is equal; None: their own names.
    """
    if len(statuses) == 1:
        return statuses[0].sha256 or ""
    names = names or [status.path.name for status in statuses]
    lines = (f"{status.sha256}  {name}\n" for status, name in zip(statuses, names, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
