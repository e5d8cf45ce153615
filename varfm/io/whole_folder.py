"""Output folders that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from varfm.errors import DiskError, OptionError
from varfm.io.atomic import disk_errors


def check_folder(path: Path, names: frozenset[str], force: bool) -> None:
    """See to it that a folder can be written.

    Args:
        path: Where it shall be.
        names: The files that it will hold; with `force`, a folder that holds these and nothing else is replaced.
        force: Replace what is there.

    Raises:
        OptionError: If something else is there, or the folder above does not exist.
        DiskError: If nothing can be written there.
    """
    if os.path.lexists(path):
        if not path.is_dir() or path.is_symlink():
            raise OptionError(f"{path} is no folder. Name another one.")
        others = sorted({file.name for file in path.iterdir()} - names)
        if others:
            raise OptionError(f"{path} holds {others[0]}, which is not varfm's. Name another folder.")
        if not force:
            raise OptionError(f"{path} exists. Use --force to replace it, or another name.")
    above = path.absolute().parent
    if not above.is_dir():
        raise OptionError(f"{path}: the folder {above} does not exist. Create it first.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise DiskError(f"{path}: cannot write in the folder {above}. Choose a folder that you may write in.")


@contextmanager
def whole_folder(path: Path, names: frozenset[str], force: bool) -> Iterator[Path]:
    """Give a temporary folder beside the path, which takes its name at the end, unless an error comes first.

    Args:
        path: Where it shall be; see `check_folder`.
        names: The files that it will hold.
        force: Replace what is there.

    Raises:
        OptionError: If something else is there.
        DiskError: If it cannot be written.
    """
    check_folder(path, names, force)
    final = path.absolute()
    unique = f".{final.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.varfm-tmp"
    temporary, old = final.with_name(unique), final.with_name(f"{unique}-old")
    with disk_errors(str(path)):
        temporary.mkdir()
    try:
        yield temporary
        check_folder(path, names, force)
        with disk_errors(str(path)):
            if final.is_dir():
                final.rename(old)
            temporary.rename(final)
    except BaseException:
        if old.is_dir() and not final.exists():
            old.rename(final)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
