"""`varfm score`: words and options only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from varfm.cli.chosen import check_escaped, session_options
from varfm.cli.log import STYLES, choose_style
from varfm.cli.progress import Progress
from varfm.cli.summary import notes_on, tell_summary
from varfm.session import Session, SessionOptions

if TYPE_CHECKING:
    from varfm.output import OutputOptions, Picture

NOT_ALL_SCORED = 1

Command = TypeVar("Command", bound=Callable[..., Any])
AnySession = TypeVar("AnySession", bound=Session)


def option(panel: str, *names: str, **settings: Any) -> Callable[[Command], Command]:
    """An option whose default may also come from `VARFM_<NAME>`."""
    variable = "VARFM_" + names[0].lstrip("-").upper().replace("-", "_")
    return click.option(*names, panel=panel, envvar=variable, **settings)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("vcf", metavar="VCF")
@option(
    "Input",
    "--fasta",
    "-f",
    metavar="FASTA",
    help=(
        "Reference the VCF was called on; may be bgzipped. Default: VARFM_FASTA, else the VCF's ##reference= "
        "if that file exists."
    ),
)
@option(
    "Input",
    "--regions",
    "-r",
    metavar="REGIONS",
    help=("Only records that overlap REGIONS: chr1:1000-2000,chr2 (1-based, ends included) or a BED file."),
)
@option(
    "Input",
    "--genes",
    metavar="FILE",
    help=(
        "Gene annotation, GTF, GFF3, BED or ExPecto's table. Needed by expecto and xpresso; models with bins then "
        "score genes instead of alleles."
    ),
)
@option(
    "Input",
    "--gene-types",
    metavar="TYPES",
    default="protein_coding",
    help="Gene types to keep, separated by commas, or all. Default: protein_coding.",
)
@option(
    "Input",
    "--tss",
    type=click.Choice(["representative", "all"]),
    default="representative",
    help="Start sites per gene: the representative one (default) or all.",
)
@option(
    "Input",
    "--contig-map",
    metavar="FILE",
    help=("Two columns, name in the VCF or gene file and name in the FASTA, for contigs that no common alias covers."),
)
@option(
    "Model",
    "--model",
    "-m",
    metavar="NAME",
    multiple=True,
    help=(
        "Model to use, may be repeated; see `varfm models list`. Default: mini, a small CTCF and PU.1 binding "
        "model that ships with varfm."
    ),
)
@option(
    "Model",
    "--tracks",
    metavar="TRACK",
    multiple=True,
    help=(
        "Track to write, may be repeated: 0-based index, exact name, or regular expression; see `varfm "
        "tracks`. Default: the model's headline in VCF, every track in tables."
    ),
)
@option(
    "Model",
    "--scores",
    metavar="SCORE",
    multiple=True,
    help=(
        "Score to compute, may be repeated or separated by commas; see `varfm models info`. Default: the model's own."
    ),
)
@option(
    "Model",
    "--bins",
    metavar="BINS",
    help=(
        "Output bins that count, from 0: 446-448 (ends included), 440,447 or all. For models with bins. Default: all; "
        "with --genes, the bin of the TSS and one on either side."
    ),
)
@option(
    "Model",
    "--shifts",
    metavar="BASES",
    callback=lambda ctx, parameter, value: _numbers(value),
    help=(
        "Bases by which the allele is moved right in the window, separated by commas, e.g. 1,0,-1; answers are "
        "averaged. For models with bins. Default: 0."
    ),
)
@option(
    "Model",
    "--strands",
    type=click.Choice(["both", "forward"]),
    help=("Strands to read: both, averaged, or forward only. Default: the model's own rule."),
)
@option(
    "Model",
    "--indel-mode",
    type=click.Choice(["anchor", "compensate"]),
    help=(
        "Windows for alleles of unequal length: anchor keeps the left flank in place; compensate reads each flank "
        "where it is kept in place. Default: the model's own rule."
    ),
)
@option(
    "Model",
    "--window",
    metavar="BASES",
    type=click.IntRange(2),
    help="Read windows of BASES. For language models. Default: the model's own; see `varfm models info`.",
)
@option(
    "Model",
    "--compat",
    type=click.Choice(["selene"]),
    help="Place indels as the authors' own tool does, faults included: selene, for sei. Default: the right way.",
)
@option(
    "Model",
    "--max-distance",
    metavar="BASES",
    type=click.IntRange(0),
    help="Score genes whose TSS is within BASES of the allele. For expecto. Default: 20000.",
)
@option(
    "Model",
    "--weights",
    metavar="PATH",
    help=(
        "Local weights, in the format that the authors published, instead of the catalogue's: a file, or a folder "
        "that holds everything the model needs."
    ),
)
@option(
    "Model",
    "--adapter",
    metavar="DIR",
    help=(
        "Folder of a LoRA adapter that peft or `varfm finetune` wrote, for a language model. Default: the model as it "
        "was published."
    ),
)
@option(
    "Model",
    "--model-config",
    metavar="FILE",
    help="JSON file with the sizes of a network that is not the published one. Default: config.json in that folder.",
)
@option("Model", "--require-published", is_flag=True, help="Refuse weights that are not the published file.")
@option(
    "Model",
    "--download",
    is_flag=True,
    help="Fetch missing weights whatever their size. Default: only those known to take up to 50 MB.",
)
@option("Model", "--offline", is_flag=True, help="Open no network connection.")
@option(
    "Running",
    "--shard",
    metavar="I/N",
    help="Score part I of N of a file, I from 1 to N; `varfm merge` joins the outputs. Default: the whole file.",
)
@option(
    "Running",
    "--resume",
    is_flag=True,
    help=(
        "Keep what is finished in OUTPUT.varfm-partial/, and go on from there if an earlier run of the same command "
        "was stopped; do nothing if it was finished."
    ),
)
@option(
    "Running",
    "--device",
    metavar="NAME",
    default="auto",
    help="Where to compute: auto, cpu, cuda, cuda:N or mps. Default: auto.",
)
@option(
    "Running",
    "--batch-size",
    metavar="N",
    type=click.IntRange(1),
    help=("Run N sequences per forward pass. Default: the model's own value; halved when memory runs out."),
)
@option(
    "Running",
    "--threads",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    help="Use N CPU threads; 0 for all. Default: 0.",
)
@option(
    "Running",
    "--exact-full",
    is_flag=True,
    help="Compute every window whole. Default: alternate windows of models of tracks from what changes in them.",
)
@option(
    "Running",
    "--precision",
    type=click.Choice(["float32", "mixed", "bfloat16"]),
    default="float32",
    help=(
        "Numbers of the networks: float32 (default); mixed: reference windows in bfloat16, what changes in float32 for "
        "both alleles, and a stop where the first batch's differences are off by more than 10 %; bfloat16: everything."
    ),
)
@option(
    "Output",
    "--output",
    "-o",
    metavar="FILE",
    default="-",
    help=("Write to FILE; .vcf, .vcf.gz, .bcf, .tsv, .tsv.gz or .parquet names the format. Default: VCF on stdout."),
)
@option(
    "Output",
    "--table",
    metavar="FILE",
    help="Also write a table, .tsv, .tsv.gz or .parquet, one row per allele (and gene).",
)
@option(
    "Output",
    "--escape-formulas",
    is_flag=True,
    help="In tables, put ' before text that begins with = + - or @, so that no spreadsheet runs it; numbers stay.",
)
@option(
    "Output",
    "--manifest",
    metavar="FILE",
    help="Write the run's manifest to FILE. Default: OUTPUT.varfm.json; none for stdout.",
)
@option(
    "Output",
    "--multiqc",
    metavar="FILE",
    help="Also write alleles by status for MultiQC; the name ends with _mqc.json.",
)
@option(
    "Output",
    "--log-format",
    type=click.Choice(STYLES),
    default="text",
    is_eager=True,
    callback=choose_style,
    help="What stderr holds: text (default), or a line of key-value pairs or JSON per event.",
)
@option("Output", "--overwrite", is_flag=True, help="Replace VARFM_ keys that the VCF already has.")
@option("Output", "--force", is_flag=True, help="Replace output files that exist.")
@option("Output", "--quiet", is_flag=True, help="Show no progress and no summary.")
@option(
    "Checks",
    "--on-ref-mismatch",
    type=click.Choice(["skip", "error"]),
    default="skip",
    help=("When REF differs from the reference: skip the allele, with a status (default), or stop with an error."),
)
@option(
    "Checks",
    "--max-ref-mismatch",
    metavar="PERCENT",
    type=click.FloatRange(0, 100),
    default=10.0,
    help=(
        "Stop at the start if more than PERCENT of the first 2,000 comparable alleles mismatch; 100 never "
        "stops. Default: 10."
    ),
)
@option(
    "Checks",
    "--strict",
    is_flag=True,
    help=("Exit with status 1 if an allele was not scored; the output is complete all the same."),
)
@click.pass_context
def score(ctx: click.RichContext, /, **_: object) -> int:
    """Score the variants of VCF with DNA sequence models.

    Writes the input records, in order, with one INFO field per score. A variant
    that cannot be scored keeps its record and gets a reason in VARFM_STATUS.
    VCF may be plain, gzipped, bgzipped or BCF; - is stdin.

    Example:

        varfm score example_data/ntng1.vcf -f example_data/ntng1.fa.gz -o out.vcf
    """
    from varfm.output import OutputOptions

    chosen = ctx.params
    outputs = OutputOptions(chosen["output"], chosen["table"], chosen["manifest"], chosen["force"], ctx.obj or ())
    check_escaped(ctx, outputs)
    return write(chosen, outputs, Session)


def options_without(*names: str) -> list[click.Parameter]:
    """Give the parameters of `varfm score` that another command has too: all but those that are named."""
    return [parameter for parameter in score.params if parameter.name not in names]


def write(
    chosen: dict[str, Any],
    outputs: OutputOptions,
    opener: Callable[[SessionOptions], AnySession],
    picture: Callable[[AnySession], Picture | None] = lambda session: None,
) -> int:
    """Score and write, and tell of it on stderr.

    Args:
        chosen: The parameters of `varfm score` by their names.
        outputs: Where to write.
        opener: Opens the run.
        picture: Begins the picture of an open run, if there is to be one.

    Returns:
        The exit status.
    """
    from varfm.apart import check_apart, fasta_paths, input_paths
    from varfm.multiqc import check_target, write_content
    from varfm.output import all_paths, check_targets, write_scores
    from varfm.resume import check_resumable, resume_scores

    quiet = chosen["quiet"]
    options = session_options(chosen)
    outputs = replace(outputs, multiqc=chosen["multiqc"])
    if chosen["resume"]:
        check_resumable(options, outputs)
    else:
        check_targets(outputs, options.models, input_paths(options))
    may_replace = chosen["force"] or chosen["resume"]  # a run that goes on, or was finished, writes its report again
    if chosen["multiqc"]:
        check_target(Path(chosen["multiqc"]), force=may_replace)
    with opener(options) as session, Progress(quiet=quiet) as progress:
        check_apart(all_paths(outputs, options.models), fasta_paths(session.genome.path))  # the VCF may have named it
        if chosen["resume"]:
            summary = resume_scores(session, outputs, progress.advance)
        else:
            summary = write_scores(session, outputs, progress.advance, picture(session))
        notes = notes_on(session)
    if chosen["multiqc"]:
        write_content(Path(chosen["multiqc"]), summary, chosen["vcf"], force=may_replace)
    if not quiet:
        tell_summary(notes, summary, progress.seconds)
    return NOT_ALL_SCORED if chosen["strict"] and not summary.everything_scored else 0


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text}: give whole numbers separated by commas, e.g. 1,0,-1.") from None
