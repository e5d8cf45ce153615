"""Scores as INFO text and the header lines that explain them. Knows numbers and names; reads and writes no file.

One rule for numbers in every output (`rounded`): a score is rounded to float32 once, -0 becomes 0, and what is not
finite is missing. Text shows 6 significant digits of that, so VCF and TSV equal the Parquet table rounded to 6 digits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from varfm.errors import OptionError
from varfm.protocols import Column, Model, Scored, Scorer, Value
from varfm.variants import Status

if TYPE_CHECKING:  # the module needs to know three of its arrays, not the genome behind them
    from varfm.alleles import Alleles

FLOAT_FORMAT = b"%.6g"
"""How a rounded score is printed, in VCF and TSV alike."""

STATUS_WORDS = tuple(status.name.encode() for status in Status)
"""The words of `VARFM_STATUS` as bytes, by number."""

_MISSING = b"."
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]")
# What a terminal obeys: C0, C1, and the marks that change the direction of text.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+")
_N_NAMED_COLUMNS = 8
# For each status number, its place among the best of several models: OK, PADDED, then the order of reasons.
_RANK = np.array([s + 2 if s < Status.PADDED else Status.OK - s for s in Status], np.uint8)
_BY_RANK = np.argsort(_RANK).astype(np.uint8)


def rounded(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round scores to what every output shows: float32, 0 for -0, NaN for whatever is not finite (or too large).

    Args:
        scores: Any shape.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        values = scores.astype(np.float32) + np.float32(0)  # -0 + 0 is 0
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def format_float(value: float) -> bytes:
    """Write one score with 6 significant digits, or `.` if it is not finite."""
    number = float(rounded(np.array([value], np.float64))[0])
    return FLOAT_FORMAT % number if number == number else _MISSING


def clean_text(text: str) -> str:
    """Keep `[A-Za-z0-9._+-]`; every other sign becomes `_`, and no text at all becomes `.`."""
    return _UNSAFE.sub("_", text) or "."


def best_status(statuses: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Give the best status per allele over several models: OK, PADDED, then the earliest reason.

    Args:
        statuses: At least one; (n_alleles,) each.
    """
    best = _RANK[statuses[0]]
    for status in statuses[1:]:
        best = np.minimum(best, _RANK[status])
    return _BY_RANK[best]


def header_lines(models: Sequence[Model], version: str, options: Sequence[tuple[str, str]]) -> list[bytes]:
    """Write the header lines that explain the INFO fields of a run, without newlines.

    Equal models and options give equal bytes: nothing here may depend on file names, time or machine.

    Args:
        models: In the order of their fields.
        version: Of varfm.
        options: The resolved options of the run that decide scores, in fixed order, name to value.

    Raises:
        OptionError: If two models would write the same INFO key, e.g. a model given twice.
    """
    _refuse_equal_keys(models)
    lines = [f"##varfm_version={_one_line(version)}"]
    lines += [f"##varfm_option=<ID={clean_text(name)},Value={_quoted(value)}>" for name, value in options]
    for model in models:
        lines.append(f"##varfm_model=<{_model_entries(model)}>")
        lines += [f"##varfm_{clean_text(key)}={_note(text)}" for key, text in model.origin.notes]
    lines.append(_info_line("VARFM_STATUS", "String", _status_description(len(models) > 1)))
    for model in models:
        if len(models) > 1:
            lines.append(
                _info_line(f"{model.prefix}_STATUS", "String", f"VARFM_STATUS of the model {model.name} alone")
            )
        for item in model.scorer.fields:
            lines.append(_info_line(f"{model.prefix}_{item.key}", item.type, item.description))
    return [line.encode("utf-8", "replace") for line in dict.fromkeys(lines)]


def info_texts(alleles: Alleles, scored: Sequence[tuple[Model, Scored]]) -> list[bytes]:
    """Write the text that each record's INFO gets, e.g. `VARFM_STATUS=OK,STAR;VARFM_MINI_CTCF=0.25,.`.

    A key without a value in any ALT of a record is left out; the status never is. Text values and gene names go through
    `clean_text`.

    Where the scorer has `plain_fields`, whole columns are formatted at once and `headline` is not called.

    Args:
        alleles: The ALTs of a block; every record has at least one.
        scored: At least one model, in the order of the header.

    Returns:
        One text per record of the block.
    """
    if alleles.n_records == 0:
        return []
    sheet = _sheet(scored)
    counts = np.bincount(alleles.record, minlength=alleles.n_records)
    first = np.cumsum(counts) - counts
    sizes = np.unique(counts).tolist()
    if len(sizes) == 1:
        return sheet.texts(first[:, None] + np.arange(sizes[0]))
    texts = [b""] * alleles.n_records
    for size in sizes:
        records = np.flatnonzero(counts == size)
        for record, text in zip(records.tolist(), sheet.texts(first[records, None] + np.arange(size)), strict=True):
            texts[record] = text
    return texts


@dataclass(frozen=True, slots=True)
class _Sheet:
    """All keys of a block, one row per ALT: statuses stand in `patterns`, values in `values`.

    Attributes:
        keys: (n_keys,) in the order of INFO.
        slots: Per key, None for a status, else the format of a value.
        patterns: (n_alleles, n_keys) uint8, never 0: 1 + status number; 1 for a value, 2 for none.
        values: (n_alleles, n_fields), float64, or object where some values are text.
        present: (n_alleles, n_fields), where there is a value.
    """

    keys: tuple[bytes, ...]
    slots: tuple[bytes | None, ...]
    patterns: NDArray[np.uint8]
    values: NDArray[Any]
    present: NDArray[np.bool_]

    def texts(self, rows: NDArray[np.int64]) -> list[bytes]:
        """Join the alleles of records that have equally many: rows is (n_records, n_alleles of each)."""
        patterns = np.ascontiguousarray(self.patterns[rows]).reshape(len(rows), -1)
        names = patterns.view(f"S{patterns.shape[1]}").ravel().tolist()
        templates = {
            name: self._template(np.frombuffer(name, np.uint8).reshape(rows.shape[1], -1)) for name in set(names)
        }
        # A block is formatted in one go: one call per value would cost as much as all the rest of writing.
        template = b"\n".join([templates[name] for name in names])
        values = self.values[rows].transpose(0, 2, 1)  # (n_records, n_fields, n_alleles)
        return (template % tuple(values[self.present[rows].transpose(0, 2, 1)].tolist())).split(b"\n")

    def _template(self, pattern: NDArray[np.uint8]) -> bytes:
        entries = []
        for key, slot, codes in zip(self.keys, self.slots, pattern.T.tolist(), strict=True):
            if slot is None:
                entries.append(key + b"=" + b",".join([STATUS_WORDS[code - 1] for code in codes]))
            elif 1 in codes:
                entries.append(key + b"=" + b",".join([slot if code == 1 else _MISSING for code in codes]))
        return b";".join(entries)


def _sheet(scored: Sequence[tuple[Model, Scored]]) -> _Sheet:
    best = best_status([result.status for _, result in scored])
    keys: list[bytes] = [b"VARFM_STATUS"]
    slots: list[bytes | None] = [None]
    patterns = [best[:, None] + np.uint8(1)]
    values: list[NDArray[Any]] = []
    present: list[NDArray[np.bool_]] = []
    for model, result in scored:
        if len(scored) > 1:
            keys.append(f"{model.prefix}_STATUS".encode())
            slots.append(None)
            patterns.append(result.status[:, None] + np.uint8(1))
        cells, shown = _cells(model.scorer, result)
        fields = model.scorer.fields
        keys += [f"{model.prefix}_{item.key}".encode() for item in fields]
        slots += [b"%b" if cells.dtype == object else FLOAT_FORMAT] * len(fields)
        patterns.append(np.where(shown, np.uint8(1), np.uint8(2)))
        values.append(cells)
        present.append(shown)
    return _Sheet(tuple(keys), tuple(slots), np.hstack(patterns), np.hstack(values), np.hstack(present))


def _cells(scorer: Scorer, result: Scored) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    # Values of the fields and where there are any, (n_alleles, n_fields): floats, or text as objects.
    shown = np.flatnonzero((result.headline_site >= 0) & (result.status >= Status.PADDED))
    plain = scorer.plain_fields
    if plain is None:
        return _text_cells(scorer, result, shown)
    values = np.full((len(result.status), len(plain)), np.nan)
    values[shown] = rounded(result.scores[result.headline_site[shown]][:, list(plain)])
    return values, ~np.isnan(values)


def _text_cells(scorer: Scorer, result: Scored, shown: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    cells = np.full((len(result.status), len(scorer.fields)), _MISSING, object)
    for allele, site in zip(shown.tolist(), result.headline_site[shown].tolist(), strict=True):
        gene = result.genes[site] if result.genes is not None else None
        cells[allele] = [_format_value(value) for value in scorer.headline(result.scores[site], gene)]
    return cells, cells != _MISSING


def _format_value(value: Value) -> bytes:
    if value is None:
        return _MISSING
    if isinstance(value, str):
        return clean_text(value).encode()
    return b"%d" % value if isinstance(value, int | np.integer) else format_float(value)


def _refuse_equal_keys(models: Sequence[Model]) -> None:
    owners: Counter[str] = Counter(
        f"{model.prefix}_{key}" for model in models for key in ("STATUS", *(f.key for f in model.scorer.fields))
    )
    for key, count in owners.items():
        if count > 1:
            names = ", ".join(model.name for model in models)
            raise OptionError(f"--model {names}: {key} would be written {count} times. Give each model once.")


def _info_line(key: str, type_: str, description: str) -> str:
    return f"##INFO=<ID={key},Number=A,Type={type_},Description={_quoted(description)}>"


def _status_description(several: bool) -> str:
    reasons = ", ".join(status.name for status in Status if not status.is_scored)
    whose = ", the best of the models" if several else ""
    return (
        f"Whether varfm scored the ALT{whose}: OK, PADDED (scored, but the window leaves the contig), "
        f"or why it did not: {reasons}"
    )


def _model_entries(model: Model) -> str:
    origin = model.origin
    entries = {"Weights": f"sha256:{origin.weights_sha256}" if origin.weights_sha256 else "none"}
    if origin.weights_sha256:
        entries["Published"] = "yes" if origin.published else "not the published file"
    if origin.licence:
        entries["Licence"] = origin.licence
    entries["Scores"] = _formulas(model.scorer.columns)
    options = _unique_names(origin.options, taken=entries)
    return ",".join([f"ID={model.name}", *(f"{key}={_quoted(text)}" for key, text in (entries | options).items())])


def _unique_names(options: Iterable[tuple[str, str]], taken: Mapping[str, str]) -> dict[str, str]:
    # Keys of a structured line are words, so `indel-mode` becomes `indel_mode`.
    named = {re.sub(r"\W", "_", name, flags=re.ASCII): value for name, value in options}
    return {name: value for name, value in named.items() if name not in taken}


def _formulas(columns: Sequence[Column]) -> str:
    # Thousands of tracks share a formula: it is written once, with the names only where they are few.
    names: dict[str, list[str]] = {}
    for column in columns:
        names.setdefault(column.formula, []).append(column.name)
    return "; ".join(
        f"{', '.join(group) if len(group) <= _N_NAMED_COLUMNS else f'{len(group)} columns'}: {formula}"
        for formula, group in names.items()
    )


def _note(text: str) -> str:
    # Models may leave out the brackets of a structured line.
    return _one_line(f"<{text}>" if text.startswith("ID=") else text)


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text)


def _quoted(text: str) -> str:
    escaped = _one_line(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
