"""`varfm merge`: words and options only."""

from __future__ import annotations

import rich_click as click

from varfm.digits import counted


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shards", metavar="SHARD...", nargs=-1, required=True)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    default="-",
    help="Write to FILE, in the format of the shards; text may be compressed or not. Default: text on stdout.",
)
@click.option("--table", metavar="FILE", help="Also join the tables that the runs wrote with --table.")
@click.option(
    "--manifest",
    metavar="FILE",
    help="Write the manifest of the whole to FILE. Default: OUTPUT.varfm.json; none for stdout.",
)
@click.option("--force", is_flag=True, help="Replace output files that exist.")
@click.option("--quiet", is_flag=True, help="Show no summary.")
@click.pass_context
def merge(
    ctx: click.RichContext,
    /,
    shards: tuple[str, ...],
    output: str,
    table: str | None,
    manifest: str | None,
    force: bool,
    quiet: bool,
) -> int:
    """Join the outputs of the shards of a run.

    Each SHARD is what a run of varfm score with --shard I/N had as --output; the
    order does not matter. Their manifests must lie beside them: they tell that no
    shard is missing, doubled or of another run. The result is what the run without
    --shard would have written.

    Example:

        varfm merge -o out.vcf.gz s1.vcf.gz s2.vcf.gz s3.vcf.gz
    """
    from varfm.output import OutputOptions
    from varfm.shards import merge_shards

    whole = merge_shards(shards, OutputOptions(output, table, manifest, force, ctx.obj or ()))
    if not quiet:
        click.echo(
            f"{counted(len(shards), 'shard')}: {counted(whole.counts.records, 'record')}, "
            f"{counted(whole.counts.alleles, 'allele')}.",
            err=True,
        )
    return 0
