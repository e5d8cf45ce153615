"""Tests of the picture of a saturation mutagenesis: what is drawn where, and that the file stands alone."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from varfm.svg import BASES, CELL, ROW_LENGTH, Effects, draw, text

SVG = "{http://www.w3.org/2000/svg}"
NAN = float("nan")


def effects(reference: str = "ACGT", **changes: object) -> Effects:
    """Make a picture's content: every substitution scores -1 but those of the first position, which score 2."""
    scores = np.full((len(reference), 4), -1.0)
    scores[0] = 2.0
    for place, base in enumerate(reference):
        scores[place, BASES.find(base)] = NAN
    made = Effects("toy: SUM in c:1-4", ("A note.",), "c", 0, reference, scores, "SUM", "counts")
    return replace(made, **changes)  # type: ignore[arg-type]


def parsed(content: Effects) -> ElementTree.Element:
    return ElementTree.fromstring(draw(content))


def letters(content: Effects) -> list[tuple[str, float, float, float]]:
    """Give base, x, y and height of every letter that is drawn."""
    found = []
    for use in parsed(content).iter(f"{SVG}use"):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", use.attrib["transform"])]
        found.append((use.attrib["href"].removeprefix("#"), numbers[0], numbers[1], numbers[3]))
    return found


def cells(content: Effects) -> dict[str, str]:
    """Give the colour of every substitution by its label."""
    return {title.text or "": rect.attrib["fill"] for rect in parsed(content).iter(f"{SVG}rect") for title in rect}


def test_height_is_minus_the_mean_of_the_scores_that_are_there() -> None:
    scores = np.array([[NAN, -1, -2, -6], [1, NAN, NAN, 2], [NAN] * 4])
    content = effects("ACG", scores=scores)
    assert content.heights[:2].tolist() == [3.0, -1.5]
    assert np.isnan(content.heights[2])
    assert content.strongest == [0, 1]


def test_height_of_scores_without_direction_is_their_mean() -> None:
    content = effects("A", scores=np.array([[NAN, 1, 2, 6]]), signed=False)
    assert content.heights.tolist() == [3.0]


def test_letters_stand_above_the_line_where_the_reference_base_raises_and_below_where_it_lowers() -> None:
    (first, x, y, height), second, *_ = letters(effects("AC"))
    zero = y  # the first letter hangs from the line
    assert (first, x) == ("A", 0.5)
    assert second[0] == "C" and second[1] == CELL + 0.5
    assert second[2] + second[3] == pytest.approx(zero, abs=0.02)
    assert height == pytest.approx(2 * second[3], abs=0.02)


def test_position_without_scores_has_no_letter_and_says_so() -> None:
    scores = np.array([[NAN, -1, -1, -1], [NAN] * 4])
    content = effects("AN", scores=scores)
    assert [letter for letter, *_ in letters(content)] == ["A"]
    assert cells(content)["c:2 N>G: not scored"] == "#BDBDBD"
    assert ">not scored</text>" in draw(content)
    assert ">not scored</text>" not in draw(effects())


def test_colour_tells_sign_and_size() -> None:
    found = cells(effects("AC", scores=np.array([[NAN, 2, -2, 0], [1, NAN, 0, 0]])))
    assert found["c:1 A>C: 2"] == "#B2182B"
    assert found["c:1 A>G: -2"] == "#2166AC"
    assert found["c:1 A>T: 0"] == "#F7F7F7"
    assert found["c:2 C>A: 1"] == "#D48891"


def test_every_substitution_has_one_cell_and_every_reference_base_a_dot() -> None:
    content = effects("ACGT" * 40)
    assert len(cells(content)) == 3 * 160
    n_dots = sum(1 for _ in parsed(content).iter(f"{SVG}circle"))
    assert n_dots == 160 + 1  # one in the legend


def test_long_region_goes_on_below_in_rows_of_one_length() -> None:
    short, long = parsed(effects("ACGTA" * 24)), parsed(effects("ACGTA" * 25))
    assert ROW_LENGTH == 120
    rows = [group for group in long.iter(f"{SVG}g") if group.attrib.get("font-family") == "monospace"]
    assert [len(list(row)) for row in rows] == [63, 62]
    assert int(long.attrib["width"]) < int(short.attrib["width"])
    assert int(long.attrib["height"]) > int(short.attrib["height"])


def test_axis_has_round_positions_of_the_contig() -> None:
    tick = r"v4\".*>([\d,]+)</text>"
    assert re.findall(tick, draw(effects("ACGT" * 6, start=1_233_995))) == ["1,234,000", "1,234,010"]
    assert re.findall(tick, draw(effects("ACG", start=11))) == ["12"]


def test_region_without_any_effect_is_drawn_all_the_same() -> None:
    content = effects("AC", scores=np.array([[NAN, 0, 0, 0], [0, NAN, 0, 0]]))
    assert letters(content) == []
    assert set(cells(content).values()) == {"#F7F7F7"}
    assert "No position has an effect." in draw(content)


def test_variant_has_a_band_and_its_own_cell_an_outline() -> None:
    drawn = draw(effects(marked=frozenset({(1, "T")}), band=(1, 2)))
    assert re.search(rf'<rect x="{CELL}" y="\d+" width="{CELL}" height="\d+" fill="#FFE08A"/>', drawn)
    assert drawn.count('stroke-width="2"') == 1
    assert ">variant</text>" in drawn


def test_insertion_is_a_line_between_two_bases() -> None:
    assert re.search(rf'<rect x="{2 * CELL - 2}" y="\d+" width="4" ', draw(effects(band=(2, 2))))


def test_text_of_users_is_escaped() -> None:
    evil = '"><script>alert(1)</script>&\x1b\ud800'
    root = parsed(effects(title=evil, notes=(evil,), contig=evil, name=evil, unit=evil))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg", "title", "desc", "defs", "path", "rect", "text", "g", "use", "circle",
    }  # fmt: skip
    assert root[0].text == '"><script>alert(1)</script>&\ufffd\ufffd'


def test_text_keeps_what_xml_allows() -> None:
    assert text("Ä\t\n\U0001f9ec") == "Ä\t\n\U0001f9ec"
    assert text("a<b>&\"'") == "a&lt;b&gt;&amp;&quot;&#x27;"
    assert text("\x00\x0b\ufffe") == "\ufffd" * 3


def test_file_points_at_nothing_outside_itself() -> None:
    drawn = draw(effects(band=(0, 1)))
    assert re.findall(r"\w+://[^\"]*", drawn) == ["http://www.w3.org/2000/svg"]
    targets = re.findall(r'href="([^"]*)"', drawn)
    assert targets and all(re.search(f'id="{target[1:]}"', drawn) for target in targets)
    assert not re.search(r"url\(|@import|<(?:style|script|image|foreignObject)", drawn)


def test_picture_is_told_in_words() -> None:
    root = parsed(effects())
    assert root.attrib["role"] == "img"
    named = {element.attrib.get("id"): element.text for element in root}
    assert root.attrib["aria-labelledby"].split() == ["title", "description"]
    assert named["title"] == "toy: SUM in c:1-4"
    assert "Tallest letters: 1 A (-2), 2 C (1), 3 G (1), 4 T (1)." in (named["description"] or "")
    assert "A note." in (named["description"] or "")


def test_equal_content_gives_equal_text() -> None:
    assert draw(effects()) == draw(effects())


@pytest.mark.parametrize(("reference", "shape"), [("", (0, 4)), ("AC", (2, 3)), ("AC", (3, 4))])
def test_scores_that_do_not_fit_the_bases_are_refused(reference: str, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="scores for"):
        draw(Effects("", (), "c", 0, reference, np.zeros(shape), "SUM", "counts"))
