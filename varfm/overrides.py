"""`--weights`: which local files stand for which files of the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from varfm.checkpoints import Checkpoint, FileStatus, LocalWeights, joint_digest, status_of
from varfm.converted import VERSION, model_of, version_of
from varfm.download import RemoteFile
from varfm.errors import ModelError

logger = logging.getLogger(__name__)

_WEIGHT_SUFFIXES = frozenset(
    {".bin", ".cpu", ".h5", ".hdf5", ".index", ".keras", ".pt", ".pth", ".safetensors", ".t7", ".th"}
)
_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """The files under `--weights`.

    Attributes:
        main: The file with the tensors.
        shards: Its further pieces, by their order.
        auxiliaries: The other files that are there, by their names in the catalogue.
        config: The model's sizes, where a folder holds them.
    """

    main: Path
    shards: tuple[Path, ...]
    auxiliaries: Mapping[str, Path]
    config: Path | None


def local_copy(checkpoint: Checkpoint, override: Path) -> LocalCopy:
    """Find the files of a checkpoint in a folder, or beside a file that stands for the one with the tensors.

    A folder holds them under their names in the catalogue, with or without the folders of these; the file with the
    tensors may have another name if it is the only weight file.

    Raises:
        ModelError: If the file with the tensors is not there, or nothing may be read.
    """
    try:
        return _found(checkpoint, override)
    except OSError as error:
        raise ModelError(f"{override}: cannot be read ({error.strerror}). Give weights that you may read.") from error


def table_beside(checkpoint: Checkpoint, override: Path) -> Path | None:
    """Give the table of track names in a folder or beside a file; None if it is not there."""
    return _under(override if override.is_dir() else override.parent, checkpoint.tracks_file)


def needed_beside(checkpoint: Checkpoint, copy: LocalCopy) -> list[RemoteFile]:
    """Give the other files that a local copy needs: those that its own table does not list are not among them."""
    tables = [file for file in checkpoint.tables if file.name in copy.auxiliaries]
    own = any(status_of(copy.auxiliaries[file.name], [file]).state == "wrong" for file in tables)
    return [file for file in checkpoint.auxiliaries if not (own and file.role == "listed")]


def judge(
    checkpoint: Checkpoint, copy: LocalCopy, auxiliaries: Mapping[str, Path], require_published: bool
) -> LocalWeights:
    """Hash a local copy, warn where a file is not the published one, and put its files together.

    Args:
        auxiliaries: All that the checkpoint needs, those that do not lie under `--weights` included.

    Raises:
        ModelError: If a file cannot be read, was converted from another model, or is not the published one where
            that is required.
    """
    statuses = source_statuses(checkpoint, copy)
    _check_model(checkpoint, copy.main)
    by_name = {file.name: file for file in checkpoint.auxiliaries}
    others = [status_of(path, [by_name[name]]) for name, path in auxiliaries.items()]
    doubtful = [status for status in (*statuses, *others) if status.state != "ok"]
    if doubtful:
        _doubt(checkpoint, doubtful[0], require_published)
    names = [PurePosixPath(file.name).name for file in checkpoint.sources]
    digest = joint_digest(statuses, names if len(names) == len(statuses) else None)
    return LocalWeights(copy.main, digest, not doubtful, dict(auxiliaries), copy.config)


def source_statuses(checkpoint: Checkpoint, copy: LocalCopy) -> list[FileStatus]:
    """Hash the files with the tensors and compare them with the catalogue's, and with other published copies.

    Raises:
        ModelError: If one cannot be read.
    """
    if checkpoint.packaged:
        return [status_of(copy.main, [RemoteFile("", (), checkpoint.packaged_sha256, None)])]
    published, *shards = checkpoint.sources
    main = status_of(copy.main, [published, *(file for file in checkpoint.copies if file.role == "weights")])
    known: Sequence[RemoteFile] = shards + [file for file in checkpoint.copies if file.role == "shard"]
    return [main, *(status_of(path, known) for path in copy.shards)]


def _found(checkpoint: Checkpoint, override: Path) -> LocalCopy:
    in_folder = override.is_dir()
    if not override.exists():
        raise ModelError(f"{override}: there is no such file. Give a local copy of {checkpoint.name}.")
    if not in_folder and not override.is_file():  # a pipe could be read once only, and is read twice
        raise ModelError(f"{override}: is neither a file nor a folder. Give a local copy on the disk.")
    folder = override if in_folder else override.parent
    auxiliaries = {
        file.name: path for file in checkpoint.auxiliaries if (path := _under(folder, file.name)) is not None
    }
    main = _main_in(checkpoint, override, set(auxiliaries.values())) if in_folder else override
    config = override / _CONFIG
    return LocalCopy(main, _shards(main), auxiliaries, config if in_folder and config.is_file() else None)


def _under(folder: Path, name: str) -> Path | None:
    for path in (folder / name, folder / PurePosixPath(name).name):
        if path.is_file():
            return path
    return None


def _main_in(checkpoint: Checkpoint, folder: Path, taken: set[Path]) -> Path:
    name = PurePosixPath(checkpoint.packaged).name if checkpoint.packaged else checkpoint.files[0].name
    named = _under(folder, name)
    if named is not None:
        return named
    others = sorted(path for path in folder.iterdir() if path.suffix in _WEIGHT_SUFFIXES and path not in taken)
    if len(others) == 1:
        return others[0]
    found = ", ".join(path.name for path in others[:3]) + (", ..." if len(others) > 3 else "")
    raise ModelError(
        f"{folder}: {name} of {checkpoint.name} is not in this folder, and {found or 'nothing'} is there instead. "
        "Give the folder of that file, or the weight file itself."
    )


def _shards(main: Path) -> tuple[Path, ...]:
    """Find the data files of a TensorFlow bundle, which have their numbers in their names."""
    if main.suffix != ".index":
        return ()
    start = f"{main.stem}.data-"
    return tuple(sorted(path for path in main.parent.iterdir() if path.name.startswith(start)))


def _check_model(checkpoint: Checkpoint, path: Path) -> None:
    made_for, version = model_of(path), version_of(path)
    if made_for is not None and version != VERSION:
        raise ModelError(
            f"{path}: was converted by another version of varfm, whose names of tensors are not known here. "
            f"Convert it again with: varfm models convert {checkpoint.name} SOURCE TARGET.safetensors"
        )
    if made_for not in (None, checkpoint.name):
        raise ModelError(
            f"{path}: was converted from the weights of {made_for or 'another model'}, not of {checkpoint.name}. "
            f"Convert a file of {checkpoint.name}, or run the model that it belongs to."
        )


def _doubt(checkpoint: Checkpoint, status: FileStatus, require_published: bool) -> None:
    name = checkpoint.name
    if require_published:
        raise ModelError(
            f"{status.path}: not the published file of {name} (sha256 {status.sha256}). "
            "Give the published file, or leave out --require-published."
        )
    if model_of(status.path) is not None:
        logger.warning("%s: a converted file cannot prove what it was made from; not taken as published.", status.path)
    elif status.state == "unknown":
        logger.warning("%s: no digest of this file of %s was published; not taken as published.", status.path, name)
    else:
        logger.warning("%s: not the published file of %s; its scores are its own.", status.path, name)
