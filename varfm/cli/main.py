"""The entry point: the group of commands, loaded one at a time, and the one place where errors become exit statuses."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import rich_click as click

from varfm import __version__
from varfm.errors import VarfmError

COMMANDS = {
    "score": ("varfm.cli.score", "Score the variants of a VCF with DNA sequence models."),
    "models": ("varfm.cli.models", "List, download and verify models."),
    "tracks": ("varfm.cli.tracks", "Search the names of a model's tracks."),
    "doctor": ("varfm.cli.doctor", "Show versions, devices and caches, and what would run."),
    "completion": ("varfm.cli.completion", "Print the completion script of a shell."),
}
"""Name -> module and one-line help. The help stands here so that listing the commands imports none of them."""


class LazyGroup(click.RichGroup):
    """A group that imports a command's module when the command is called, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names in the order in which users meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and give the command; for the group's own help, a stand-in with its first line."""
        if cmd_name not in COMMANDS:
            return None
        module, short_help = COMMANDS[cmd_name]
        if ctx.resilient_parsing or "--help" in ctx.args or _is_listing(ctx):
            return click.RichCommand(cmd_name, short_help=short_help)
        command: click.Command = getattr(importlib.import_module(module), cmd_name)
        return command


def _is_listing(ctx: click.Context) -> bool:
    return ctx.invoked_subcommand is None and not ctx.protected_args
