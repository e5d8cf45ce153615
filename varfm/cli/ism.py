"""`varfm ism`: words and options only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from varfm.cli.chosen import OneModelCommand
from varfm.cli.log import stderr_log
from varfm.cli.score import option, score, write
from varfm.errors import OptionError
from varfm.session import SessionOptions

if TYPE_CHECKING:
    from varfm.ism import IsmSession
    from varfm.picture import PictureWriter

_OF_SCORE = frozenset(
    (
        *("genes", "gene_types", "tss", "contig_map"),
        *("tracks", "scores", "bins", "shifts", "strands", "window", "max_distance"),
        *("weights", "adapter", "model_config", "require_published", "download", "offline"),
        *("device", "batch_size", "threads", "exact_full", "precision"),
        *("escape_formulas", "manifest", "log_format", "force", "quiet", "strict"),
    )
)
"""The options of `varfm score` that mean the same here; all others stand at their defaults."""


def _with_options_of_score(command: click.Command) -> click.Command:
    command.params += [parameter for parameter in score.params if parameter.name in _OF_SCORE]
    return command


@_with_options_of_score
@click.command(cls=OneModelCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("where", metavar="REGION|VARIANT")
@option(
    "Input",
    "--fasta",
    "-f",
    metavar="FASTA",
    help="Reference; may be bgzipped. Default: VARFM_FASTA.",
)
@option(
    "Input",
    "--flank",
    metavar="BASES",
    type=click.IntRange(0),
    default=50,
    help="Bases on either side of a VARIANT that are mutated with it. Default: 50.",
)
@option(
    "Model",
    "--one-window",
    is_flag=True,
    help="Score all in one window around the VARIANT or the REGION's middle. Default: each in its own.",
)
@option(
    "Model",
    "--model",
    "-m",
    metavar="NAME",
    default="mini",
    help="Model to use; see `varfm models list`. Default: mini.",
)
@option(
    "Output",
    "--output",
    "-o",
    metavar="FILE",
    default="-",
    help="Write the table to FILE; .tsv, .tsv.gz or .parquet names the format. Default: TSV on stdout.",
)
@option(
    "Output",
    "--svg",
    metavar="FILE",
    help="Also draw a picture, .svg.",
)
@option(
    "Output",
    "--column",
    metavar="NAME",
    help="Score that the picture shows, by its name in the table. Default: the first one.",
)
@option(
    "Output",
    "--gene",
    metavar="NAME",
    help="Gene that the picture shows, for models of genes. Default: the one with the score of largest size.",
)
@click.pass_context
def ism(ctx: click.RichContext, /, **_: object) -> int:
    """Score every substitution of a region, as table and picture.

    REGION is contig:start-end, 1-based with both ends included. VARIANT is
    contig:position:REF:ALT or contig-position-REF-ALT: the region is then REF with
    --flank bases on either side. The reference is mutated in both forms; the
    variant is marked, in the table by the ID `variant`, but not put into the
    sequence around the others. One that is no single-base change stands in the
    first row. Scores are those that varfm score gives for the same alleles, each
    in a window of its own, or, faster, all in one with --one-window. At most
    100,000 positions, 3,000 with --svg.

    Example:

        varfm ism NTNG1:5321-5380 -f example_data/ntng1.fa.gz -o ism.tsv --svg ism.svg
    """
    from varfm.ism import IsmSession
    from varfm.output import OutputOptions

    own = ctx.params
    _check_outputs(own)
    if ctx.get_parameter_source("flank") is ParameterSource.COMMANDLINE:
        _check_flank(own["where"])
    outputs = OutputOptions(
        own["output"], None, own["manifest"], own["force"], ctx.obj or (), table_on_stdout=True, picture=own["svg"]
    )
    chosen = _defaults(ctx) | own | {"vcf": own["where"], "model": (own["model"],)}

    def opener(options: SessionOptions) -> IsmSession:
        return IsmSession(options, own["flank"], in_one_window=own["one_window"])

    def picture(session: IsmSession) -> PictureWriter | None:
        return _picture(session, own)

    return write(chosen, outputs, opener, picture)


def _defaults(ctx: click.RichContext) -> dict[str, Any]:
    """Give what `varfm score` would be run with, were none of its options given."""
    options = [parameter for parameter in score.params if isinstance(parameter, click.Option)]
    return {str(item.name): item.type_cast_value(ctx, item.to_info_dict()["default"]) for item in options}


def _check_outputs(own: dict[str, Any]) -> None:
    from varfm.io.table import SUFFIXES
    from varfm.picture import SUFFIX

    output, svg = own["output"], own["svg"]
    if output != "-" and not output.endswith(SUFFIXES):
        raise OptionError(f"{output}: the suffix names no table. Use {', '.join(SUFFIXES)}, or - for TSV on stdout.")
    if svg is not None and not svg.endswith(SUFFIX):
        raise OptionError(f"--svg {svg}: the name of a picture ends with {SUFFIX}.")
    for name in ("column", "gene"):
        if own[name] is not None and svg is None:
            raise OptionError(f"--{name} says what the picture shows. Give --svg FILE as well.")


def _check_flank(where: str) -> None:
    from varfm.ism import is_variant

    if not is_variant(where):
        raise OptionError("--flank belongs to a variant. Leave it out, or give the longer region.")


def _picture(session: IsmSession, own: dict[str, Any]) -> PictureWriter | None:
    from varfm.picture import PictureWriter

    if own["svg"] is None:
        return None
    picture = PictureWriter(Path(own["svg"]), session, column=own["column"], gene=own["gene"], force=own["force"])
    n_scores = len(session.models[0].scorer.columns)
    if own["column"] is None and n_scores > 1 and not own["quiet"]:
        shown = f"picture: {picture.column.name}, one of {n_scores:,} scores; --column NAME draws another"
        stderr_log().tell("info", "note", shown, message=shown)
    return picture
