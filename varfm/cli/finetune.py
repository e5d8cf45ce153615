"""`varfm finetune`: words and options only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from varfm.cli.chosen import OneModelCommand, session_options
from varfm.cli.embed import FIXED
from varfm.cli.log import stderr_log
from varfm.cli.progress import Progress
from varfm.cli.score import option, options_without
from varfm.digits import counted

if TYPE_CHECKING:
    from varfm.finetune import Report

_FIXED: dict[str, Any] = FIXED | {
    "adapter": None,
    "regions": None,
    "batch_size": None,
    "resume": False,
    "escape_formulas": False,
    "multiqc": None,
    "precision": "float32",
}
"""The options of `varfm score` that do not apply, and what stands in their place."""

_NAMES = {"auroc": "AUROC", "auprc": "AUPRC", "pearson": "Pearson r", "spearman": "Spearman r"}


@click.command(
    cls=OneModelCommand,
    params=options_without(*_FIXED, "vcf", "model", "output", "manifest", "strict"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("table", metavar="TABLE")
@option(
    "Model", "--model", "-m", metavar="NAME", required=True, help="Language model to adapt; see `varfm models list`."
)
@option(
    "Learning",
    "--held-out",
    metavar="CONTIGS",
    help=(
        "Contigs, separated by commas and named as in TABLE, that nothing is learned from: at the end it is said how "
        "well their labels are predicted. Default: none."
    ),
)
@option(
    "Learning",
    "--validation",
    metavar="CONTIGS",
    help="Contigs, separated by commas, that say when to stop. Default: a tenth of the other positions, drawn.",
)
@option(
    "Learning",
    "--rank",
    metavar="N",
    type=click.IntRange(1),
    default=8,
    help="Rank of the change of each layer. Default: 8.",
)
@option(
    "Learning",
    "--alpha",
    metavar="N",
    type=click.IntRange(1),
    default=16,
    help="The change counts N / rank times. Default: 16.",
)
@option(
    "Learning",
    "--learning-rate",
    metavar="NUMBER",
    type=click.FloatRange(0, 1, min_open=True),
    default=1e-3,
    help="Step size of AdamW. Default: 0.001.",
)
@option(
    "Learning",
    "--epochs",
    metavar="N",
    type=click.IntRange(1),
    default=20,
    help="Read the training alleles N times at most. Default: 20.",
)
@option(
    "Learning",
    "--patience",
    metavar="N",
    type=click.IntRange(1),
    default=3,
    help="Stop after N epochs that do not predict the validation better. Default: 3.",
)
@option(
    "Learning",
    "--batch-size",
    metavar="N",
    type=click.IntRange(1),
    default=16,
    help="Alleles per step. Default: 16.",
)
@option(
    "Learning",
    "--seed",
    metavar="N",
    type=click.IntRange(0, 2**32 - 1),
    default=1,
    help="Of all that is drawn: equal seeds give equal adapters on a CPU. Default: 1.",
)
@option("Output", "--output", "-o", metavar="DIR", required=True, help="Folder of the adapter, for `score --adapter`.")
@click.pass_context
def finetune(ctx: click.RichContext, /, **_: object) -> None:
    """Fit a LoRA adapter for a language model to a table of labelled variants.

    TABLE is a TSV whose first line names the columns contig, pos, ref, alt and label,
    one allele per row, pos from 1 as in a VCF. Labels are 0 and 1, or numbers. DIR gets
    the adapter as peft writes it, a head that predicts the label, and a report: how
    well it predicts the labels on held-out contigs, beside a head on the model as it is.
    Needs: pip install 'varfm[finetune]'

    Example:

        varfm finetune example_data/labels.tsv -f example_data/ntng1.fa.gz -m hyenadna-tiny-1k-seqlen -o adapter
    """
    from varfm.finetune import FinetuneOptions
    from varfm.finetune import finetune as fit
    from varfm.fitting import Schedule

    chosen = ctx.params
    names = ("rank", "alpha", "learning_rate", "epochs", "patience", "seed")
    options = FinetuneOptions(
        table=chosen["table"],
        session=session_options(chosen | _FIXED | {"vcf": "", "model": (chosen["model"],)}),
        schedule=Schedule(batch=chosen["batch_size"], **{name: chosen[name] for name in names}),
        output=Path(chosen["output"]),
        held_out=_contigs(chosen["held_out"]),
        validation=_contigs(chosen["validation"]),
        force=chosen["force"],
        command=ctx.obj or (),
    )
    with Progress(quiet=chosen["quiet"], doing="training") as progress:
        report = fit(options, progress.advance)
    if not chosen["quiet"]:
        for line in _lines(report):
            stderr_log().tell("info", "summary", line, message=line)


def _contigs(text: str | None) -> tuple[str, ...]:
    return tuple(name for name in (text or "").split(",") if name)


def _lines(report: Report) -> Iterator[str]:
    for part, kinds in report.metrics.items():
        found = [
            f"{_NAMES[name]} {_number(value)} ({_number(kinds['frozen'][name])} without the adapter)"
            for name, value in kinds["adapted"].items()
        ]
        yield f"{part.replace('_', ' ')}: {', '.join(found)}"
    counts = ", ".join(f"{n:,} {part.replace('_', ' ')}" for part, n in report.alleles.items())
    missing = ", ".join(f"{n:,} {word}" for word, n in report.status.items())
    n_read, n_missing = sum(report.alleles.values()), sum(report.status.values())
    reasons = f"; {n_missing:,} not read ({missing})" if missing else ""
    epochs = f"epoch {report.best_epoch} of {len(report.losses) - 1}"
    yield f"{counted(n_read, 'allele')}: {counts}{reasons}. Kept {epochs}. {report.seconds:,.0f} s on {report.device}."


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
