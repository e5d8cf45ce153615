"""`varfm doctor`: words and options only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import rich_click as click

from varfm.cli.chosen import check_alone, session_options
from varfm.cli.score import score
from varfm.digits import counted
from varfm.errors import printable

if TYPE_CHECKING:
    from varfm.forecast import Forecast

DEVICE_OR_CACHE_MISSING = 5

_PANELS = frozenset({"Input", "Model", "Running"})
_ELSEWHERE: dict[str, Any] = {"regions": None, "shard": None, "overwrite": True, "resume": False}
"""Options of `varfm score` in these panels that do not apply, and what stands in their place."""

_LOGGING = [item for item in score.params if item.name == "log_format"]


def _of_score() -> Iterable[click.Parameter]:
    chosen = [item for item in score.params if getattr(item, "panel", None) in _PANELS]
    return [item for item in (*chosen, *_LOGGING) if item.name not in _ELSEWHERE]


@click.command(params=list(_of_score()), context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--plan",
    metavar="VCF",
    panel="Plan",
    help="Count VCF, score its first alleles for about 20 s, and say what scoring all of it would take.",
)
@click.pass_context
def doctor(ctx: click.RichContext, /, plan: str | None, **_: object) -> int:
    """Show versions, devices and caches, or what a run would take.

    Prints what a run on this machine would meet, a line each: on a terminal as
    a table, elsewhere as key and value separated by a tab. Exits with 5 if
    something stands in the way of every run. With --plan, prints instead
    records, alleles, network inputs, memory, speed and time of a run with the
    given options, and how many shards of half an hour it makes.

    Example:

        varfm doctor
        varfm doctor --plan example_data/ntng1.vcf -f example_data/ntng1.fa.gz -m mini
    """
    if plan is None:
        check_alone(ctx, "a run to plan: varfm doctor --plan VCF")
        return _show_findings()
    from varfm.forecast import forecast
    from varfm.session import Session

    defaults = {str(item.name): item.get_default(ctx) for item in score.params if item.name not in ctx.params}
    with Session(session_options(defaults | ctx.params | _ELSEWHERE | {"vcf": plan})) as session:
        found = forecast(session)
    _show(_described(found, plan))
    return 0


def _show_findings() -> int:
    from varfm.doctor import findings

    found = list(findings())
    _show((key, value if ok else f"PROBLEM: {value}") for key, value, ok in found)
    return 0 if all(ok for _, _, ok in found) else DEVICE_OR_CACHE_MISSING


def _show(lines: Iterable[tuple[str, str]]) -> None:
    for key, value in lines:
        click.echo(f"{key:<18}{printable(value)}" if sys.stdout.isatty() else f"{key}\t{printable(value)}")


def _described(found: Forecast, vcf: str) -> Iterator[tuple[str, str]]:
    from varfm.weights import readable_size

    yield "input", vcf
    yield "records", f"{found.n_records:,}"
    yield "alleles", f"{found.n_alleles:,}"
    inputs, measured = counted(found.n_windows, "network input"), counted(found.n_measured, "allele")
    yield "windows", f"{inputs}, judged by {measured}"
    yield "memory", readable_size(found.memory)
    if found.device_memory is not None:
        yield "device memory", readable_size(found.device_memory)
    yield "speed", f"{found.alleles_per_second:,.1f} alleles/s on {found.device}"
    yield "time", _readable_time(found.seconds)
    yield "shards", f"{found.n_shards:,} of at most half an hour each (--shard I/{found.n_shards})"


def _readable_time(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{seconds:,.0f} s" if seconds < 600 else f"{hours:,} h {minutes} min"
