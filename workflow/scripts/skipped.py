"""Write a table and a page of the alleles that have no score, from the manifests of finished runs.

Run by Snakemake, which puts an object named `snakemake` before the first line.
"""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

SCORED = ("OK", "PADDED")

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Alleles without a score</title>
<style>
body {{ font-family: sans-serif; margin: 2em; }}
table {{ border-collapse: collapse; }}
th, td {{ border: 1px solid #bbb; padding: 0.3em 0.8em; text-align: left; }}
td.n {{ text-align: right; }}
</style>
</head>
<body>
<h1>Alleles without a score</h1>
<table>
<tr><th>file</th><th>model</th><th>alleles</th><th>scored</th><th>not scored</th><th>reasons</th></tr>
{rows}
</table>
</body>
</html>
"""


class Row(NamedTuple):
    """One model's account of one file; `reasons` are status words and their alleles, the most frequent first."""

    name: str
    model: str
    n_alleles: int
    n_scored: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def n_skipped(self) -> int:
        """Alleles without a score."""
        return sum(count for _, count in self.reasons)


def rows(names: Sequence[str], manifests: Sequence[Path]) -> Iterator[Row]:
    """Read the account of each file, in the order given, models in the order of the manifest.

    Raises:
        SystemExit: If a manifest's counts do not add up to its alleles.
    """
    for name, path in zip(names, manifests, strict=True):
        counts = json.loads(path.read_text("utf-8"))["counts"]
        for model, status in counts["status"].items():
            if sum(status.values()) != counts["alleles"]:
                raise SystemExit(f"{path}: {model} accounts for {sum(status.values())} of {counts['alleles']} alleles.")
            reasons = [(word, count) for word, count in status.items() if word not in SCORED]
            reasons.sort(key=lambda item: (-item[1], item[0]))
            n_scored = sum(status.get(word, 0) for word in SCORED)
            yield Row(name, model, counts["alleles"], n_scored, tuple(reasons))


def table(found: Sequence[Row]) -> str:
    """Write one line per file, model and reason; a file without skipped alleles has a line with reason `.` and 0."""
    lines = ["file\tmodel\talleles\tscored\treason\tskipped"]
    for row in found:
        for reason, count in row.reasons or ((".", 0),):
            lines.append(f"{row.name}\t{row.model}\t{row.n_alleles}\t{row.n_scored}\t{reason}\t{count}")
    return "\n".join(lines) + "\n"


def page(found: Sequence[Row]) -> str:
    """Write the same as a page of HTML; all text from outside is escaped."""
    return PAGE.format(rows="\n".join(map(_page_row, found)))


def _page_row(row: Row) -> str:
    numbers = "".join(f'<td class="n">{number:,}</td>' for number in (row.n_alleles, row.n_scored, row.n_skipped))
    reasons = ", ".join(f"{count:,} {escape(word)}" for word, count in row.reasons)
    return f"<tr><td>{escape(row.name)}</td><td>{escape(row.model)}</td>{numbers}<td>{reasons}</td></tr>"


if "snakemake" in globals():
    job = globals()["snakemake"]
    account = list(rows(job.params.names, [Path(path) for path in job.input]))
    Path(job.output.table).write_text(table(account), "utf-8")
    Path(job.output.page).write_text(page(account), "utf-8")
