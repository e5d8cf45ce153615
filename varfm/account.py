"""What a run says of itself: its summary, and what goes into its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from varfm import __version__
from varfm.errors import VarfmError
from varfm.session import Session, count_alleles
from varfm.variants import Status

if TYPE_CHECKING:
    from varfm.manifest import FileRecord, Manifest


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    Attributes:
        n_records: Records written.
        n_alleles: ALTs accounted for.
        counts: Alleles by status, per model name.
        device: Where the networks ran.
        n_earlier: Of the alleles, how many an earlier run of the same command had finished.
    """

    n_records: int
    n_alleles: int
    counts: dict[str, Counter[Status]] = field(default_factory=dict)
    device: str = "cpu"
    n_earlier: int = 0

    def n_scored(self, model: str) -> int:
        """Alleles that carry a score of the model."""
        return sum(n for status, n in self.counts[model].items() if status.is_scored)

    @property
    def everything_scored(self) -> bool:
        """True if every allele carries a score of every model."""
        return all(self.n_scored(model) == self.n_alleles for model in self.counts)


def summarise(session: Session) -> Summary:
    """Count what a session scored.

    Raises:
        VarfmError: If models disagree about the number of alleles, a fault of varfm.
    """
    n_alleles = count_alleles(session.counts)
    if any(sum(counter.values()) != n_alleles for counter in session.counts):
        raise VarfmError("internal error: an allele was lost between models. Please report this.")
    counts = {model.name: counter for model, counter in zip(session.models, session.counts, strict=True)}
    return Summary(session.n_records, n_alleles, counts, session.plan.device)


def run_options(session: Session) -> list[tuple[str, str]]:
    """The options of the run that decide scores, apart from those of each model, in fixed order."""
    options = session.options
    resolved = [
        ("on_ref_mismatch", "error" if options.stop_on_ref_mismatch else "skip"),
    ]
    if session.plan.precision != "float32":
        resolved.append(("precision", session.plan.precision))
    if session.genes is not None:
        resolved += [
            ("genes", session.gene_source),
            ("gene_types", ",".join(options.genes.gene_types)),
            ("tss", options.genes.tss),
        ]
    return resolved


def describe_run(
    session: Session, command: Sequence[str], started: datetime, *, with_fasta_digest: bool = False
) -> Manifest:
    """Give what is known of a run before its first record: all but counts and outputs.

    Args:
        session: Open.
        command: As typed.
        started: When it began.
        with_fasta_digest: Read all of the reference for its sha256.

    Raises:
        InputError: If an input cannot be read again.
    """
    from varfm.manifest import Counts, Manifest, ModelRecord, software_versions, utc_time

    return Manifest(
        versions=software_versions(__version__),
        command=list(command),
        inputs=_inputs(session, with_fasta_digest),
        models=[
            ModelRecord(model.name, model.origin.weights_sha256, model.origin.published, dict(model.origin.options))
            for model in session.models
        ],
        options=dict(run_options(session)),
        selection=_selection(session),
        plan={**session.plan.as_dict(), "halved": dict.fromkeys(halvings(session), 0)},
        counts=Counts(0, 0, {model.name: {} for model in session.models}),
        outputs=[],
        started=utc_time(started),
        ended=utc_time(started),
        threads=session.plan.threads,
        device=session.plan.device,
    )


def complete(
    run: Manifest,
    summary: Summary,
    outputs: list[FileRecord],
    halved: Mapping[str, int],
    errors: Mapping[str, float],
) -> Manifest:
    """Fill in what is known at the end of a run.

    Args:
        run: As `describe_run` gave it.
        summary: What was done.
        outputs: Files with their digests.
        halved: As `halvings` gives it.
        errors: As `measured_errors` gives it.
    """
    from varfm.manifest import Counts, utc_time, with_errors

    counts = Counts(summary.n_records, summary.n_alleles, status_words(summary.counts))
    plan = with_errors({**run.plan, "halved": dict(halved)}, errors)
    return replace(run, plan=plan, counts=counts, outputs=outputs, ended=utc_time())


def status_words(counts: Mapping[str, Counter[Status]]) -> dict[str, dict[str, int]]:
    """Give alleles by status, per model, as the manifest holds them."""
    return {model: {status.name: counter[status] for status in sorted(counter)} for model, counter in counts.items()}


def halvings(session: Session) -> dict[str, int]:
    """Count, per model, how often memory ran out so far, so that it goes on with half the rows per batch."""
    return {engine.model.name: engine.runner.halved for engine in session.engines if engine.runner}


def measured_errors(session: Session) -> dict[str, float]:
    """Give, per model in mixed precision, by how much differences of its first batch were off, as a part of them."""
    runners = {engine.model.name: engine.runner for engine in session.engines if engine.runner}
    return {name: runner.precision_error for name, runner in runners.items() if runner.precision_error is not None}


def _selection(session: Session) -> dict[str, str]:
    options = session.options
    taken = {"shard": str(options.shard or "")}
    taken |= {name: "yes" for name in ("overwrite", "escape_formulas") if getattr(options, name)}
    if options.regions:
        taken["regions"] = "of a file" if Path(options.regions).is_file() else options.regions
    return {name: value for name, value in taken.items() if value}


def _inputs(session: Session, with_fasta_digest: bool) -> list[FileRecord]:
    from varfm.manifest import describe_fasta, describe_file

    given = session.options
    records = [
        describe_file(session.input_role, Path(given.vcf)),
        describe_fasta(session.genome.path, session.genome.contigs, digest=with_fasta_digest),
    ]
    for role, path in (("genes", given.genes.path), ("contig_map", given.contig_map), ("regions", given.regions)):
        if path and Path(path).is_file():
            records.append(describe_file(role, Path(path)))
    return records
