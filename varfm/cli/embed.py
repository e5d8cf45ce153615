"""`varfm embed`: words and options only."""

from __future__ import annotations

from typing import Any

import rich_click as click

from varfm.cli.chosen import OneModelCommand
from varfm.cli.score import options_without, write
from varfm.io.embeddings import SUFFIXES
from varfm.session import Session

FIXED: dict[str, Any] = {
    "genes": None,
    "gene_types": "all",
    "tss": "representative",
    "tracks": (),
    "scores": (),
    "bins": None,
    "shifts": None,
    "indel_mode": None,
    "max_distance": None,
    "compat": None,
    "table": None,
    "shard": None,
    "exact_full": False,
    "overwrite": True,  # keys of an earlier run are not looked at
    "embeddings": True,
}
"""The options of `varfm score` that do not apply, and what stands in their place."""


@click.command(
    cls=OneModelCommand,
    params=options_without(*FIXED, "vcf", "model", "output", "precision"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("vcf", metavar="VCF")
@click.option(
    "--model",
    "-m",
    metavar="NAME",
    required=True,
    panel="Model",
    envvar="VARFM_MODEL",
    help="Language model to use; see `varfm models list`.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    panel="Running",
    envvar="VARFM_PRECISION",
    help="Numbers of the network: float32 (default), or bfloat16, which leaves two to three digits.",
)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    required=True,
    panel="Output",
    envvar="VARFM_OUTPUT",
    help="Write to FILE; .parquet or .npz names the format.",
)
@click.pass_context
def embed(ctx: click.RichContext, /, **_: object) -> int:
    """Write a language model's embeddings of both alleles.

    One row per allele of VCF, in order: contig, pos, id, ref, alt, status, and the
    embeddings of ref and alt as lists of numbers: the mean of the last hidden states,
    after the final norm, over the tokens within 64 bases of the allele, strands
    averaged. An allele that cannot be read has its reason in status and no numbers.

    Example:

        varfm embed example_data/ntng1.vcf -f example_data/ntng1.fa.gz -m hyenadna-tiny-1k-seqlen -o out.parquet
    """
    from varfm.output import OutputOptions

    chosen = ctx.params | FIXED | {"model": (ctx.params["model"],)}
    if not chosen["output"].endswith(SUFFIXES):
        raise click.BadParameter(f"{chosen['output']}: give a name that ends in {' or '.join(SUFFIXES)}.", ctx)
    outputs = OutputOptions(
        chosen["output"], None, chosen["manifest"], chosen["force"], ctx.obj or (), table_suffixes=SUFFIXES
    )
    return write(chosen, outputs, Session)
