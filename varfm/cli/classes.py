"""`varfm classes`: words and options only."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import rich_click as click

from varfm.cli.chosen import check_alone, check_escaped
from varfm.cli.score import options_without, write
from varfm.models.sei_classes import CLASSES, GROUPS, SequenceClass
from varfm.session import Session

_NOT_FOR_SEI: dict[str, Any] = {
    "model": ("sei",),
    "genes": None,
    "gene_types": "all",
    "tss": "representative",
    "bins": None,
    "shifts": None,
    "max_distance": None,
    "adapter": None,
}
"""The options of `varfm score` that do not apply, and what stands in their place."""

_COLOURS = {
    "P": "#D55E00",
    "E": "#E69F00",
    "CTCF": "#56B4E9",
    "TF": "#CC79A7",
    "TN": "#009E73",
    "PC": "#0072B2",
    "HET": "#8C8C8C",
    "L": "#BFBFBF",
}
"""Okabe and Ito's colours, which the colour-blind can tell apart, and two greys; the authors published none."""


@click.command(
    params=options_without(*_NOT_FOR_SEI, "vcf", "output"), context_settings={"help_option_names": ["-h", "--help"]}
)
@click.argument("vcf", metavar="[VCF]", required=False)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    default="-",
    panel="Output",
    envvar="VARFM_OUTPUT",
    help="Write to FILE; .tsv, .tsv.gz, .parquet, .vcf, .vcf.gz or .bcf names the format. Default: TSV on stdout.",
)
@click.pass_context
def classes(ctx: click.RichContext, /, **_: object) -> int:
    """Score variants by Sei's 40 sequence classes, or list these.

    Without VCF, prints id, name and group of the classes. With VCF, writes one row
    per allele: the change of each class score, the class that changes most with its
    score, and the class of the reference window. The model is sei.

    Example:

        varfm classes
    """
    from varfm.output import OutputOptions

    chosen = ctx.params | _NOT_FOR_SEI
    if chosen["vcf"] is None:
        check_alone(ctx, "a VCF to score: varfm classes VCF")
        _list_classes()
        return 0
    outputs = OutputOptions(
        chosen["output"], chosen["table"], chosen["manifest"], chosen["force"], ctx.obj or (), table_on_stdout=True
    )
    check_escaped(ctx, outputs)
    return write(chosen, outputs, Session)


def _list_classes() -> None:
    if sys.stdout.isatty():
        _show_table(CLASSES)
        return
    click.echo("id\tname\tgroup")
    for item in CLASSES:
        click.echo("\t".join(item))


def _show_table(rows: Iterable[SequenceClass]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "name", "group", box=box.SIMPLE_HEAD)
    for item in rows:
        colour = _COLOURS[item.group]
        table.add_row(Text(item.label, colour), item.name, Text(f"{item.group} ({GROUPS[item.group]})", colour))
    Console().print(table)
