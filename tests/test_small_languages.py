"""What must hold for every language model, in small sizes through its own classes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_languages import SMALL, small_language
from test_properties import Subject, a_genome, by_allele, cases, few, model_of, run, some_records
from toys import Toy, flipped, one, run_toy

from varfm.genome import encode, reverse_complement
from varfm.models.language import LanguageNetwork
from varfm.variants import Variant
from varfm.windows import Haplotype, Window, reversed_strand

fewer = settings(few, max_examples=3)
SUBJECTS = [Subject(name, partial(small_language, name), 3 * small.window) for name, small in SMALL.items()]
every = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)


def named(subject: Subject, toy: Toy) -> dict[str, float]:
    """Give the scores by name, without those that are not there, and without counts."""
    columns = [column.name for column in model_of(subject).scorer.columns]
    found = dict(zip(columns, toy.scores, strict=bool(toy.scores)))
    return {name: value for name, value in found.items() if value == value and not name.startswith("N_")}


@fewer
@every
@given(data=st.data())
def test_an_alt_equal_to_ref_scores_zero(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases))
    same = case.bases[case.tss : case.tss + data.draw(st.integers(1, 4))]
    found = one(run(subject, case, [("c", case.tss + 1, same, same)]))
    assert set(named(subject, found).values()) == {0.0}


@fewer
@every
@given(data=st.data())
def test_swapped_roles_give_minus_the_score(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases))
    there, back = (one(run(subject, swapped)) for swapped in (case, case.swapped))
    assert there.status == back.status
    assert named(subject, back) == pytest.approx(
        {name: -value for name, value in named(subject, there).items()}, abs=1e-6
    )


@every
def test_order_duplicates_and_companions_change_no_bit(subject: Subject) -> None:
    model, bases = model_of(subject), a_genome(subject.n_bases)
    records = [record for record in some_records(subject, bases, 12) if record[3] != "."]
    expected = text(by_allele(run_toy(model, bases, records), records))
    again = [*reversed(records), *records[3:6]]
    assert text(by_allele(run_toy(model, bases, again), again)) == expected
    alone = [text(by_allele(run_toy(model, bases, [record]), [record])) for record in records[:2]]
    assert set().union(*alone) <= expected


def text(found: set[tuple[object, ...]]) -> set[str]:
    """NaN is not equal to itself."""
    return {repr(item) for item in found}


@every
def test_bases_outside_the_window_change_nothing(subject: Subject) -> None:
    bases = a_genome(subject.n_bases)
    at, reach = len(bases) // 2, SMALL[subject.name].window
    other = flipped(bases)[: at - reach] + bases[at - reach : at + reach] + flipped(bases)[at + reach :]
    records = [("c", at + 1, bases[at], "ACGT"[bases[at] == "A"]), ("c", at + 1, bases[at], bases[at] + "GA")]
    here, there = (run_toy(model_of(subject), genome, records) for genome in (bases, other))
    assert [named(subject, toy) for toy in here] == [named(subject, toy) for toy in there]
    assert all(abs(value) > 1e-7 for toy in here for value in named(subject, toy).values())


def test_caduceus_ps_answers_alike_on_both_strands_without_averaging() -> None:
    [subject] = [subject for subject in SUBJECTS if "caduceus-ps" in subject.name]
    network = model_of(subject).network
    assert isinstance(network, LanguageNetwork)
    variant = Variant("c", 48, "A", "G")
    window = Window("c", 0, 96)
    sequence = encode(a_genome(96)[:48] + "A" + a_genome(96)[49:])
    forward = Haplotype(window, None, "+", (48, 49), variant, "masked")
    answers = []
    for haplotype, bases in ((forward, sequence), (reversed_strand(forward), reverse_complement(sequence))):
        [row] = network.rows(bases, haplotype)
        output = network.forward(torch.tensor([list(row)], dtype=torch.uint8))[0]
        answers.append(network.reduce(haplotype, bases, [output]))
    assert abs(float(answers[0][0])) > 1e-3
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=1e-5)
    assert model_of(subject).scorer.strands == "forward"  # type: ignore[attr-defined]
