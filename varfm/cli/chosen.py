"""What was chosen on the command line, as the options of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from varfm.io.cut import Shard
from varfm.models import ModelOptions
from varfm.session import GeneOptions, SessionOptions

if TYPE_CHECKING:
    from varfm.output import OutputOptions


def session_options(chosen: dict[str, Any]) -> SessionOptions:
    """Sort the parameters of `varfm score`, by their names, into what a session is told."""
    gene_types = () if chosen["gene_types"] == "all" else tuple(chosen["gene_types"].split(","))
    return SessionOptions(
        vcf=chosen["vcf"],
        fasta=chosen["fasta"],
        models=tuple(chosen["model"]) or ("mini",),
        model_options=ModelOptions(
            indel_mode=chosen["indel_mode"],
            strands=chosen["strands"],
            tracks=tuple(chosen["tracks"]),
            scores=tuple(name.strip() for text in chosen["scores"] for name in text.split(",")),
            bins=chosen["bins"],
            shifts=chosen["shifts"],
            window=chosen["window"],
            max_distance=chosen["max_distance"],
            compat=chosen["compat"],
            adapter=Path(chosen["adapter"]) if chosen["adapter"] else None,
            embeddings=chosen.get("embeddings", False),
            model_config=Path(chosen["model_config"]) if chosen["model_config"] else None,
            weights=Path(chosen["weights"]) if chosen["weights"] else None,
            require_published=chosen["require_published"],
            offline=chosen["offline"],
            download=chosen["download"],
        ),
        genes=GeneOptions(chosen["genes"], gene_types, chosen["tss"]),
        regions=chosen["regions"],
        contig_map=chosen["contig_map"],
        stop_on_ref_mismatch=chosen["on_ref_mismatch"] == "error",
        max_ref_mismatch=chosen["max_ref_mismatch"],
        overwrite=chosen["overwrite"],
        escape_formulas=chosen["escape_formulas"],
        device=chosen["device"],
        batch_size=chosen["batch_size"],
        threads=chosen["threads"],
        shard=Shard.parse(chosen["shard"]) if chosen["shard"] else None,
        exact_full=chosen["exact_full"],
        precision=chosen["precision"],
    )


def check_alone(ctx: click.Context, needed: str) -> None:
    """See to it that no option was typed that has nothing to act on.

    Args:
        ctx: Of the command.
        needed: What options need, for the message.

    Raises:
        click.UsageError: If one was.
    """
    for parameter in ctx.command.params:
        typed = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if typed and not parameter.is_eager:  # such as --log-format, which acts on errors too
            raise click.UsageError(f"{parameter.opts[0]} needs {needed}", ctx)


def check_escaped(ctx: click.Context, outputs: OutputOptions) -> None:
    """See to it that `--escape-formulas`, where it was typed, has a table to act on; a setting may have none.

    Raises:
        click.UsageError: If there is none.
    """
    typed = ctx.get_parameter_source("escape_formulas") is ParameterSource.COMMANDLINE
    if typed and not outputs.is_table and outputs.table is None:
        raise click.UsageError("--escape-formulas acts on tables. Give --table FILE, or a table as --output.", ctx)


class OneModelCommand(click.RichCommand):
    """A command that runs one model: of several `--model`, click would take the last and say nothing."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read what was typed.

        Raises:
            click.UsageError: If a model is named twice.
        """
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        if [parameter.name for parameter in given].count("model") > 1:
            raise click.UsageError(f"--model is given twice, and {self.name} takes one. Run them one at a time.", ctx)
        return super().parse_args(ctx, args)
