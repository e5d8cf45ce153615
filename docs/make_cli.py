"""Write docs/cli.md from the commands themselves: python docs/make_cli.py > docs/cli.md"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator

import click

from varfm.cli.main import COMMANDS

HEAD = """# The command line

Every command answers `-h`. Settings come from the command line, else from the environment (`VARFM_<OPTION>`, such as
`VARFM_FASTA`), else from the settings file (`config.toml` in the user's configuration folder, or where `VARFM_CONFIG`
points; one table per command, such as `[score]`), else they are the defaults below. Data goes to stdout or `--output`,
everything else to stderr. Exit statuses stand in [output.md](output.md#exit-status).
"""


def reference() -> str:
    """Give the text of docs/cli.md: help, arguments and options of every command, as `--help` has them."""
    parts = [HEAD]
    for name, (module, _) in COMMANDS.items():
        command = getattr(importlib.import_module(module), name)
        parts += _sections(f"varfm {name}", command)
    return "\n".join(parts).rstrip() + "\n"


def _sections(path: str, command: click.Command) -> Iterator[str]:
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    words = [path, "[OPTIONS]", *(argument.make_metavar(click.Context(command)) for argument in arguments)]
    is_group = isinstance(command, click.Group)
    yield f"## {path}\n\n    {' '.join([path, 'COMMAND'] if is_group else words)}\n"
    yield _as_markdown(inspect.cleandoc(command.help or ""))
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if options:
        yield "| option | what |\n|---|---|"
        yield "\n".join(_row(option, command) for option in options) + "\n"
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _sections(f"{path} {name}", child)


def _as_markdown(text: str) -> str:
    """Indent the commands of an example as a code block."""
    text = text.replace("\b\n", "")
    return re.sub(r"^Example:\n+((?: +.*\n?)+)", lambda match: f"Example:\n\n{_indented(match[1])}\n", text, flags=re.M)


def _indented(lines: str) -> str:
    return "\n".join(f"    {line.strip()}" for line in lines.strip().splitlines())


def _row(option: click.Option, command: click.Command) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len, reverse=True))
    metavar = "" if option.is_flag else f" {option.make_metavar(click.Context(command))}"
    return f"| {names}{metavar.replace('|', chr(92) + '|')} | {option.help} |"


if __name__ == "__main__":
    print(reference(), end="")
