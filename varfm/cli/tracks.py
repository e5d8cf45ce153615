"""`varfm tracks`: words and options only."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import rich_click as click

from varfm.errors import OptionError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", metavar="MODEL")
@click.argument("pattern", metavar="[PATTERN]", required=False)
def tracks(model: str, pattern: str | None) -> None:
    """Search the names of a model's tracks.

    Prints index, name, unit and description of the tracks of MODEL; with PATTERN, a
    regular expression, those whose name or description it is found in, ignoring case.
    The index and the name work in `varfm score --tracks`.

    Example:

        varfm tracks mpra-dragonn HepG2
    """
    from varfm.models import tracks_of

    try:
        wanted = re.compile(pattern or "", re.IGNORECASE)
    except re.error as error:
        raise OptionError(f"PATTERN {pattern}: no regular expression ({error}).") from None
    rows = [
        (str(index), column.name, column.unit, column.description)
        for index, column in enumerate(tracks_of(model))
        if wanted.search(column.name) or wanted.search(column.description)
    ]
    if sys.stdout.isatty():
        _show_table(rows)
    else:
        click.echo("index\tname\tunit\tdescription")
        for row in rows:
            click.echo("\t".join(row))
    if not rows:
        raise OptionError(f"PATTERN {pattern}: no track of {model} matches. Leave it out to see all.")


def _show_table(rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("index", "name", "unit", "description")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
