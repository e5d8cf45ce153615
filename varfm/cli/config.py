"""The settings file: defaults of options, below the environment and the command line."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

import click
import platformdirs

from varfm.errors import OptionError

Settings = dict[str, dict[str, object]]

_MEND = "Mend or remove the file; VARFM_CONFIG names another one."


def config_path() -> Path:
    """Give the path of the settings file, whether or not it is there; `VARFM_CONFIG` moves it."""
    stated = os.environ.get("VARFM_CONFIG")
    return Path(stated) if stated else Path(platformdirs.user_config_dir("varfm")) / "config.toml"


def default_map() -> Settings:
    """Read the settings file as click's defaults: one table per command, option names as on the command line.

    A file such as:

        [score]
        fasta = "/data/GRCh38.fa"
        device = "cpu"

    Raises:
        OptionError: If the file is not TOML, or holds something else than tables of plain values, or is not where
            `VARFM_CONFIG` says.
    """
    path = config_path()
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        if not os.environ.get("VARFM_CONFIG") and _is_absent(path):
            return {}
        raise OptionError(f"{path}: the settings cannot be read: {error.strerror or error}. {_MEND}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise OptionError(f"{path}: the settings are not TOML: {error}. {_MEND}") from None
    settings: Settings = {}
    for command, table in content.items():
        if not isinstance(table, dict):
            raise OptionError(
                f"{path}: {command} stands outside a table. Write it below the command's name, e.g. [score]."
            )
        settings[command] = {name.replace("-", "_"): value for name, value in table.items()}
    return settings


def _is_absent(path: Path) -> bool:
    # A home that this user may not enter is another user's, as in a container that runs under any number.
    return not path.exists() if os.access(path.parent, os.X_OK) else True


def fit_settings(name: str, command: click.Command, settings: Mapping[str, object]) -> None:
    """Fit settings to a command: refuse what no option of it, or no command of the group, has.

    Raises:
        OptionError: Naming the first unknown one.
    """
    known = {str(parameter.name) for parameter in command.params}
    if isinstance(command, click.Group):
        known |= set(command.commands)
    table = settings.get(name)
    unknown = sorted(set(table) - known) if isinstance(table, dict) else []
    if unknown:
        raise OptionError(
            f"{config_path()}: [{name}] {unknown[0]} is no option of varfm {name}. See: varfm {name} --help"
        )
    if isinstance(table, dict):
        several = {str(one.name) for one in command.params if isinstance(one, click.Option) and one.multiple}
        # What may be given several times may be given once, without brackets.
        table.update({key: [value] for key, value in table.items() if key in several and isinstance(value, str)})
