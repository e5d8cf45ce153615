"""`varfm tracks`: words and options only."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import rich_click as click

from varfm.errors import OptionError, printable
from varfm.tracks import Track, load_tracks


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", metavar="MODEL")
@click.argument("pattern", metavar="[PATTERN]", required=False)
@click.option(
    "--weights",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Take the table in this folder, or beside this file, as `varfm score --weights` does.",
)
@click.option("--offline", is_flag=True, envvar="VARFM_OFFLINE", help="Open no connection: say what is missing.")
def tracks(model: str, pattern: str | None, weights: Path | None, offline: bool) -> None:
    """Search the names of a model's tracks.

    Prints index, name, group and description of the tracks of MODEL; with PATTERN, a
    regular expression, those in whose name, description or identifier it is found,
    ignoring case. The index, the name and the pattern work in `varfm score --tracks`.
    Names are those of the authors; where two tracks have the same, the index tells them
    apart. The weights need not be here, only the small table of names, which is fetched.

    Example:

        varfm tracks mpra-dragonn HepG2
    """
    try:
        wanted = re.compile(pattern or "", re.IGNORECASE)
    except re.error as error:
        raise OptionError(f"PATTERN {pattern}: no regular expression ({error}).") from None
    found = [track for track in _tracks(model, weights, offline) if track.matches(wanted)]
    rows = [tuple(map(printable, (str(t.index), t.name, t.group or ".", t.description or "."))) for t in found]
    if sys.stdout.isatty():
        _show_table(rows)
    else:
        click.echo("index\tname\tgroup\tdescription")
        for row in rows:
            click.echo("\t".join(row))
    if not rows:
        raise OptionError(f"PATTERN {pattern}: no track of {model} matches. Leave it out to see all.")


def _tracks(model: str, weights: Path | None, offline: bool) -> Sequence[Track]:
    """Read the table of the checkpoint; models with few outputs have their names in varfm."""
    from varfm.models import catalog, tracks_of

    checkpoint = catalog.get(model)
    if checkpoint.tracks_file:
        return load_tracks(checkpoint, override=weights, offline=offline)
    return [
        Track(index, column.name, "", f"{column.description} Unit: {column.unit}.")
        for index, column in enumerate(tracks_of(model))
    ]


def _show_table(rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("index", "name", "group", "description")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
