"""Write docs/models.md from the catalogue: python docs/make_models.py > docs/models.md"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from varfm.checkpoints import Checkpoint
from varfm.models import catalog, describe

HEAD = """# The models

Windows and indices are in bases; the index, from 0, is where the first changed base stands (for models of genes, the
TSS). *Verified* says how agreement with the authors' network was shown; the tests of `tests/parity` hold it, and the
scripts beside them say what was run. *Memory* is the peak of a whole run on a CPU (`benchmarks/full_size.py`). `varfm
models info MODEL` says all this, and where the files come from.
"""


def reference() -> str:
    """Give the text of docs/models.md."""
    return "\n".join([HEAD, *_tables(), *_scores()]).rstrip() + "\n"


def _tables() -> Iterator[str]:
    listed = catalog.listed()
    yield _table(
        ("model", "window / index", "outputs", "reads", "default scores", "strands"),
        [
            (
                f"`{c.name}`",
                f"{c.window:,} / {c.index:,}",
                f"{c.n_outputs:,}" if c.n_outputs else "",
                c.reads,
                c.scores,
                c.strands,
            )
            for c in listed
        ],
    )
    yield _table(
        ("model", "parameters", "download", "memory", "licence", "verified"),
        [
            (
                f"`{c.name}`",
                f"{c.parameters:,}" if c.parameters else "",
                c.readable_size,
                c.memory,
                _licence(c),
                c.verified,
            )
            for c in listed
        ],
    )
    yield _table(
        ("model", "paper", "trained on", "source"), [(f"`{c.name}`", c.paper, c.assembly, c.source) for c in listed]
    )


def _licence(checkpoint: Checkpoint) -> str:
    return checkpoint.licence if checkpoint.commercial else f"{checkpoint.licence} (not for commercial use)"


def _scores() -> Iterator[str]:
    yield "## Scores\n\n`--scores` chooses. A signed score turns its sign when REF and ALT change places.\n"
    seen: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for checkpoint in catalog.listed():
        rows = tuple(
            (f"`{c.name}`", c.description, f"`{c.formula}`", c.unit, "yes" if c.signed else "no")
            for c in describe(checkpoint.name)
        )
        seen.setdefault(rows, []).append(checkpoint.name)
    for rows, names in seen.items():
        yield f"### {', '.join(names)}\n"
        yield _table(("score", "meaning", "formula", "unit", "signed"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
