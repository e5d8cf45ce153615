"""Text of records that a spreadsheet would take for formulas and run, made harmless for tables."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from varfm.io.block import ALT, CHROM, ID, REF, Block

_SUSPECT = re.compile(rb"(?:^|[\t,])[=+@-]", re.MULTILINE)
_START = re.compile(rb"^(?=[=+@-])")
_START_OF_ALT = re.compile(rb"(?:^|(?<=,))(?=[=+@-])")


def without_formulas(block: Block) -> Block:
    """Put an apostrophe before each CHROM, ID, REF and ALT that begins with `=`, `+`, `-` or `@`.

    Names of genes need none: nothing in them can call a function.
    """
    if not _SUSPECT.search(block.data):
        return block
    lines, shifts = [], np.zeros_like(block.ends)
    for record in range(block.n_records):
        line = block.line(record)
        rest = line[int(block.ends[record, ALT] - block.starts[record]) :]
        fields = [block.field(record, column) for column in range(ALT + 1)]
        safe = list(fields)
        for column, pattern in ((CHROM, _START), (ID, _START), (REF, _START), (ALT, _START_OF_ALT)):
            safe[column] = pattern.sub(b"'", fields[column])
        longer = np.cumsum([len(new) - len(old) for new, old in zip(safe, fields, strict=True)])
        shifts[record] = longer[np.minimum(np.arange(shifts.shape[1]), ALT)]
        lines.append(b"\t".join(safe) + rest)
    starts = np.cumsum([0, *map(len, lines)])
    moved = (starts - block.starts)[:-1, None]
    return replace(block, data=b"".join(lines), starts=starts, ends=block.ends + moved + shifts)
