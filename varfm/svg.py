"""A picture of a saturation mutagenesis as one SVG: letters sized by effect above a heat map of the substitutions.

Knows coordinates and colours, no file and no model. The text stands alone: nothing in it points elsewhere, letters of
the sequence are outlines, and whatever is given as text is escaped. Equal input gives equal text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

BASES = "ACGT"
CELL = 10  # px a position
ROW_LENGTH = 120
"""Positions side by side; longer regions go on below."""

_COLOURS = {"A": "#009E73", "C": "#0072B2", "G": "#E69F00", "T": "#D55E00"}  # Okabe and Ito: the colour-blind see them
_OUTLINES = {
    "A": "M0 1 .39 0H.61L1 1H.79L.71 .77H.29L.21 1ZM.5 .19 .355 .6H.645Z",
    "C": "M1 .821A.566 .5 0 1 1 1 .179L.816 .294A.326 .32 0 1 0 .816 .706Z",
    "G": "M1 .821A.566 .5 0 1 1 1 .179L.816 .294A.326 .32 0 1 0 .816 .706V.61H.58V.45H1Z",
    "T": "M0 0H1V.19H.605V1H.395V.19H0Z",
}  # in a box of 1 x 1, y downwards
_LOWER, _MIDDLE, _UPPER = (33, 102, 172), (247, 247, 247), (178, 24, 43)
_NOT_SCORED, _BAND = "#BDBDBD", "#FFE08A"
_LEFT, _RIGHT, _MARGIN = 64, 28, 16
_MIN_WIDTH = 760
_LOGO, _LETTERS, _HEAT_CELL, _AXIS, _GAP = 96, 18, 12, 22, 18
_TITLE_SIZE, _TEXT_SIZE, _LINE = 16, 12, 16
_WIDTH_OF_SIGN = {_TITLE_SIZE: 0.72, _TEXT_SIZE: 0.58}  # as a share of the size, in a wide font; titles are bold
_BAR, _BAR_STEPS = 160, 32
_N_STRONGEST = 5


@dataclass(frozen=True, slots=True)
class Effects:
    """What a picture shows.

    Attributes:
        title: One sentence.
        notes: Further sentences, shown below the title.
        contig: For labels.
        start: 0-based position of the first base in the contig.
        reference: Bases of the region, A, C, G, T or N.
        scores: (length, 4) scores of A, C, G, T in place of the reference base; NaN where there is none.
        name: Of the score.
        unit: Of the score.
        signed: Scores have a direction, and 0 in the middle.
        marked: Cells to outline: place in the region, and base.
        band: Places in the region, first and after the last, that the variant of interest replaces; None: no variant.
    """

    title: str
    notes: tuple[str, ...]
    contig: str
    start: int
    reference: str
    scores: NDArray[np.float64]
    name: str
    unit: str
    signed: bool = True
    marked: frozenset[tuple[int, str]] = frozenset()
    band: tuple[int, int] | None = None

    @property
    def heights(self) -> NDArray[np.float64]:
        """Height of the letter at each position, (length,), NaN where nothing was scored.

        Minus the mean of the position's scores: positive where substitutions lower the score, that is where the
        reference base stands for more of what the score measures than the others do. Of scores without a direction,
        the mean.
        """
        known = np.isfinite(self.scores)
        counts = known.sum(axis=1)
        sums = np.where(known, self.scores, 0).sum(axis=1)
        means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
        return -means if self.signed else means

    @property
    def strongest(self) -> list[int]:
        """Up to five places with the tallest letters, up or down, the tallest first."""
        sizes = np.nan_to_num(np.abs(self.heights), nan=0)
        order = np.argsort(-sizes, kind="stable")[:_N_STRONGEST]
        return [place for place in order.tolist() if sizes[place] > 0]


def draw(effects: Effects) -> str:
    """Draw a picture.

    Returns:
        The text of an SVG file, ending with a newline.

    Raises:
        ValueError: If there are not four scores for every base of the reference, or no base.
    """
    if not effects.reference or effects.scores.shape != (len(effects.reference), len(BASES)):
        raise ValueError(f"{effects.scores.shape} scores for {len(effects.reference)} bases")
    return "\n".join(_Drawing(effects).lines()) + "\n"


def text(value: str) -> str:
    """Escape text for XML, between tags and in attributes; signs that XML does not allow become U+FFFD."""
    return escape("".join(sign if _is_allowed(sign) else "\ufffd" for sign in value))


def _is_allowed(sign: str) -> bool:
    code = ord(sign)
    return code in (9, 10, 13) or 32 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or code > 0xFFFF


class _Drawing:
    """Works out where things stand."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        length = len(effects.reference)
        n_rows = -(-length // ROW_LENGTH)
        self.row_length = -(-length // n_rows)  # rows of one length, not a full one and a rest
        self.width = max(_LEFT + self.row_length * CELL + _RIGHT, _MIN_WIDTH)
        self.heights = effects.heights
        finite = self.heights[np.isfinite(self.heights)]
        self.low, self.high = min(0.0, finite.min(initial=0.0)), max(0.0, finite.max(initial=0.0))
        sizes = np.abs(effects.scores[np.isfinite(effects.scores)])
        self.limit = float(sizes.max(initial=0.0))

    def lines(self) -> Iterator[str]:
        """Give the lines of the file: what is drawn first lies below."""
        body, bottom = self._body()
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{bottom}" '
            f'viewBox="0 0 {self.width} {bottom}" role="img" aria-labelledby="title description" '
            f'font-family="sans-serif" font-size="{_TEXT_SIZE}" fill="#222222">'
        )
        yield f'<title id="title">{text(self.effects.title)}</title>'
        yield f'<desc id="description">{text(self._description())}</desc>'
        outlines = "".join(f'<path id="{base}" d="{path}" fill-rule="evenodd"/>' for base, path in _OUTLINES.items())
        yield f"<defs>{outlines}</defs>"
        yield f'<rect width="{self.width}" height="{bottom}" fill="#FFFFFF"/>'
        yield from body
        yield "</svg>"

    def _description(self) -> str:
        effects = self.effects
        parts = [*effects.notes, self._letter_rule()]
        strongest = [
            f"{effects.start + place + 1:,} {effects.reference[place]} ({self.heights[place]:.3g})"
            for place in effects.strongest
        ]
        parts.append("Tallest letters: " + ", ".join(strongest) + "." if strongest else "No position has an effect.")
        return " ".join(parts)

    def _letter_rule(self) -> str:
        if self.effects.signed:
            return "Letters: minus the mean of the position's three scores; up: substitutions lower the score."
        return "Letters: the mean of the position's three scores."

    def _body(self) -> tuple[list[str], int]:
        """Give everything below the head, and where it ends."""
        top = _MARGIN
        body = list(self._paragraph(self.effects.title, top, _TITLE_SIZE))
        top += (_LINE + 4) * len(body)
        for note in self.effects.notes:
            lines = list(self._paragraph(note, top))
            body += lines
            top += _LINE * len(lines)
        top += _GAP
        for first in range(0, len(self.effects.reference), self.row_length):
            body += self._row(first, top)
            top += _LOGO + _LETTERS + len(BASES) * _HEAT_CELL + _AXIS + _GAP
        legend, bottom = self._legend(top)
        return body + legend, bottom + _MARGIN

    def _paragraph(self, line: str, top: int, size: int = _TEXT_SIZE) -> Iterator[str]:
        """Write a sentence, as many lines as it needs."""
        bold, step = (' font-weight="bold"', _LINE + 4) if size == _TITLE_SIZE else ("", _LINE)
        for number, part in enumerate(self._wrapped(line, size)):
            y = top + size + number * step
            yield f'<text x="{_MARGIN}" y="{y}" font-size="{size}"{bold}>{text(part)}</text>'

    def _wrapped(self, line: str, size: int) -> list[str]:
        n_signs = int((self.width - 2 * _MARGIN) / (size * _WIDTH_OF_SIGN[size]))
        return textwrap.wrap(line, n_signs, break_on_hyphens=False) or [""]

    def _row(self, first: int, top: int) -> Iterator[str]:
        places = range(first, min(first + self.row_length, len(self.effects.reference)))
        letters, heat = top + _LOGO, top + _LOGO + _LETTERS
        yield f'<g transform="translate({_LEFT} 0)">'
        yield from self._band(places, top, heat + len(BASES) * _HEAT_CELL)
        yield from self._logo(places, top)
        yield from self._reference(places, letters)
        yield from self._heat_map(places, heat)
        yield from self._axis(places, heat + len(BASES) * _HEAT_CELL)
        yield "</g>"

    def _band(self, places: range, top: int, bottom: int) -> Iterator[str]:
        if self.effects.band is None:
            return
        start, end = (place - places.start for place in self.effects.band)
        left, right = max(start * CELL, 0), min(end * CELL, len(places) * CELL)
        if start == end and 0 <= start <= len(places):  # an insertion, between two bases
            left, right = left - 2, left + 2
        if left < right:
            yield f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="{_BAND}"/>'

    def _logo(self, places: range, top: int) -> Iterator[str]:
        span = self.high - self.low or 1.0
        zero = top + _LOGO * self.high / span if self.high > self.low else top + _LOGO / 2
        for index, place in enumerate(places):
            base, height = self.effects.reference[place], self.heights[place]
            size = abs(height) / span * _LOGO
            if base in BASES and size >= 0.05:  # nothing to see below, nor for NaN
                y = zero - size if height > 0 else zero
                yield (
                    f'<use href="#{base}" fill="{_COLOURS[base]}" '
                    f'transform="translate({index * CELL + 0.5:g} {y:.2f}) scale({CELL - 1} {size:.2f})"/>'
                )
        yield f'<path d="M0 {zero:.2f}H{len(places) * CELL}M0 {top}V{top + _LOGO}" stroke="#222222" fill="none"/>'
        for value in dict.fromkeys((self.high, 0.0, self.low)):
            y = zero - value / span * _LOGO
            if value == 0 or abs(y - zero) > _TEXT_SIZE:
                yield (
                    f'<text x="-6" y="{y + 3.5:.2f}" font-size="10" text-anchor="end">{_number(value)}</text>'
                    f'<path d="M-4 {y:.2f}H0" stroke="#222222"/>'
                )

    def _reference(self, places: range, top: int) -> Iterator[str]:
        letters = []
        for index, place in enumerate(places):
            base = self.effects.reference[place]
            letters.append(f'<text x="{(index + 0.5) * CELL:g}" y="{top + 14}">{base}</text>')
        yield f'<g font-size="10" text-anchor="middle" font-family="monospace">{"".join(letters)}</g>'
        yield f'<text x="-6" y="{top + 14}" font-size="10" text-anchor="end">reference</text>'

    def _heat_map(self, places: range, top: int) -> Iterator[str]:
        for number, base in enumerate(BASES):
            y = top + number * _HEAT_CELL
            yield f'<text x="-6" y="{y + 10}" font-size="10" text-anchor="end" font-family="monospace">{base}</text>'
            yield "".join(self._cell(index, place, number, y) for index, place in enumerate(places))
        for place, base in sorted(self.effects.marked):
            if place in places and base in BASES:
                x, y = (place - places.start) * CELL, top + BASES.index(base) * _HEAT_CELL
                yield (
                    f'<rect x="{x}" y="{y}" width="{CELL}" height="{_HEAT_CELL}" fill="none" stroke="#000000" '
                    f'stroke-width="2"/>'
                )

    def _cell(self, index: int, place: int, number: int, y: int) -> str:
        effects, base, x = self.effects, BASES[number], index * CELL
        if effects.reference[place] == base:
            return f'<circle cx="{x + CELL / 2:g}" cy="{y + _HEAT_CELL / 2:g}" r="1.5" fill="#888888"/>'
        score = float(effects.scores[place, number])
        colour = self._colour(score) if np.isfinite(score) else _NOT_SCORED
        shown = _number(score) if np.isfinite(score) else "not scored"
        label = f"{effects.contig}:{effects.start + place + 1:,} {effects.reference[place]}>{base}: {shown}"
        size = f'width="{CELL - 0.5}" height="{_HEAT_CELL - 0.5}"'
        return f'<rect x="{x}" y="{y}" {size} fill="{colour}"><title>{text(label)}</title></rect>'

    def _colour(self, score: float) -> str:
        share = score / self.limit if self.limit else 0.0
        end = _UPPER if share > 0 else _LOWER
        mixed = [round(m + (e - m) * abs(share)) for m, e in zip(_MIDDLE, end, strict=True)]
        return "#{:02X}{:02X}{:02X}".format(*mixed)

    def _axis(self, places: range, top: int) -> Iterator[str]:
        positions = [self.effects.start + place + 1 for place in places]
        labelled = [position for position in positions if position % 10 == 0] or positions[:1]
        for position in labelled:
            x = (position - positions[0] + 0.5) * CELL
            yield (
                f'<path d="M{x:g} {top}v4" stroke="#222222"/>'
                f'<text x="{x:g}" y="{top + 15}" font-size="10" text-anchor="middle">{position:,}</text>'
            )

    def _legend(self, top: int) -> tuple[list[str], int]:
        effects = self.effects
        title = list(self._paragraph(f"Heat map: {effects.name} of each substitution, {effects.unit}", top))
        top += _LINE * len(title)
        bar = [f'<g transform="translate({_MARGIN} {top + 4})">', *self._colour_bar(), *self._keys(), "</g>"]
        rule = list(self._paragraph(self._letter_rule(), top + 34))
        return title + bar + rule, top + 34 + _LINE * len(rule)

    def _colour_bar(self) -> Iterator[str]:
        lowest = -self.limit if self.effects.signed or (self.effects.scores < 0).any() else 0.0
        step = _BAR / _BAR_STEPS
        for index in range(_BAR_STEPS):
            value = lowest + (self.limit - lowest) * (index + 0.5) / _BAR_STEPS
            yield f'<rect x="{index * step:g}" width="{step + 0.5:g}" height="12" fill="{self._colour(value)}"/>'
        middle = (_BAR / 2, (lowest + self.limit) / 2, "middle")
        for x, value, anchor in ((0, lowest, "start"), middle, (_BAR, self.limit, "end")):
            yield f'<text x="{x:g}" y="24" font-size="10" text-anchor="{anchor}">{_number(value)}</text>'

    def _keys(self) -> Iterator[str]:
        """Explain the signs of the heat map, side by side."""
        signs = [('<circle cx="5" cy="6" r="1.5" fill="#888888"/>', "reference base")]
        if np.isnan(self.effects.scores).sum() > sum(base in BASES for base in self.effects.reference):
            signs.append((f'<rect width="10" height="12" fill="{_NOT_SCORED}"/>', "not scored"))
        if self.effects.band is not None:
            signs.append((f'<rect width="10" height="12" fill="{_BAND}"/>', "variant"))
        for number, (sign, meaning) in enumerate(signs):
            x = _BAR + 24 + 120 * number
            yield f'<g transform="translate({x} 0)">{sign}<text x="16" y="10">{meaning}</text></g>'


def _number(value: float) -> str:
    return f"{value + 0.0:.3g}"  # + 0: no minus before a zero
