"""What is said of a run at its end, on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from varfm.cli.log import stderr_log
from varfm.digits import counted
from varfm.errors import printable

if TYPE_CHECKING:
    from varfm.account import Summary
    from varfm.session import Session

_FINISHED = "The output was finished before; nothing was left to score."


def notes_on(session: Session) -> list[str]:
    """What a user should know about how the input was understood."""
    notes = [
        f"length conflict: {printable(c.name)} has {counted(c.stated, 'base')} in the VCF, {c.length:,} in the FASTA"
        for c in session.contigs.length_conflicts
    ]
    unread = [engine.model.name for engine in session.engines if not engine.model.scorer.needs_genes]
    if session.options.genes.path is not None and unread:
        notes.append(f"--genes is not read by {', '.join(unread)}: scores of alleles, not of genes")
    for engine in session.engines:
        n_unknown, n_tokens = (getattr(engine.model.network, name, 0) for name in ("n_unknown", "n_tokens"))
        if n_unknown:
            notes.append(f"{engine.model.name}: {n_unknown:,} of {n_tokens:,} tokens are unknown to it, such as N")
    aliases = session.contigs.describe()
    return [*notes[:3], *([aliases] if aliases else [])]


def last_lines(summary: Summary, seconds: float) -> list[str]:
    """The last line of DESIGN, 5; one per model, named, if there are several."""
    n_new = summary.n_alleles - summary.n_earlier
    rate = f"{seconds:,.0f} s, {n_new / max(seconds, 1e-9):,.0f} alleles/s on {summary.device}."
    lines = []
    if summary.n_earlier:
        lines.append(f"{summary.n_earlier:,} of them were finished before." if n_new else _FINISHED)
    for model, counts in summary.counts.items():
        missing = ", ".join(f"{n:,} {status.name}" for status, n in sorted(counts.items()) if not status.is_scored)
        n_scored = summary.n_scored(model)
        reasons = f", {summary.n_alleles - n_scored:,} not ({missing})" if missing else ""
        name = f"{model}: " if len(summary.counts) > 1 else ""
        lines.append(f"{name}{counted(summary.n_alleles, 'allele')}: {n_scored:,} scored{reasons}. {rate}")
    return lines


def tell_summary(notes: list[str], summary: Summary, seconds: float) -> None:
    """Say all of it on stderr: a line each as text, an event each for programs."""
    log = stderr_log()
    for note in notes:
        log.tell("info", "note", note, message=note)
    if log.style == "text":
        for line in last_lines(summary, seconds):
            log.tell("info", "summary", line)
        return
    for model, counts in summary.counts.items():
        n_scored = summary.n_scored(model)
        numbers = {"records": summary.n_records, "alleles": summary.n_alleles, "scored": n_scored}
        numbers |= {status.name: n for status, n in sorted(counts.items())}
        rate = round((summary.n_alleles - summary.n_earlier) / max(seconds, 1e-9), 1)
        about = {"seconds": round(seconds, 3), "alleles_per_second": rate}
        log.tell("info", "summary", "", model=model, device=summary.device, **numbers, **about)
