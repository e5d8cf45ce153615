"""`varfm doctor`: words only."""

from __future__ import annotations

import sys

import rich_click as click

from varfm.errors import printable

DEVICE_OR_CACHE_MISSING = 5


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def doctor() -> int:
    """Show versions, devices and caches.

    Prints what a run on this machine would meet, a line each: on a terminal as
    a table, elsewhere as key and value separated by a tab. Exits with 5 if
    something stands in the way of every run.

    Example:

        varfm doctor
    """
    from varfm.doctor import findings

    width = 18 if sys.stdout.isatty() else 0
    all_ok = True
    for key, value, ok in findings():
        all_ok &= ok
        mark, value = "" if ok else "PROBLEM: ", printable(value)
        click.echo(f"{key:<{width}}{mark}{value}" if width else f"{key}\t{mark}{value}")
    return 0 if all_ok else DEVICE_OR_CACHE_MISSING
