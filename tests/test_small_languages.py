"""What must hold for every language model, in small sizes through its own classes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_languages import SMALL, small_language
from test_likelihood import sequence_of
from test_properties import Subject, a_genome, by_allele, cases, few, model_of, run, some_records
from toys import Toy, flipped, one, run_toy

from varfm.encoding.tokens import unpack
from varfm.genome import encode, reverse_complement
from varfm.models.language import LanguageNetwork
from varfm.normalise import normalise
from varfm.protocols import Model
from varfm.scorers.likelihood import LikelihoodScorer
from varfm.variants import Variant
from varfm.windows import Haplotype, Site, Window, reversed_strand

fewer = settings(few, max_examples=3)
SUBJECTS = [Subject(name, partial(small_language, name), 3 * small.window) for name, small in SMALL.items()]
FILLED = [
    Subject(f"{name} filled", partial(small_language, name, scores=("INFILL",)), 3 * SMALL[name].window)
    for name in SMALL
    if name.startswith(("gpn", "dnabert", "nt"))
]
PS = "caduceus-ps_seqlen-131k_d_model-256_n_layer-16"
FILLED_PS = Subject(f"{PS} filled", partial(small_language, PS, scores=("INFILL",)), 3 * SMALL[PS].window)
every = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
also_filled = pytest.mark.parametrize("subject", [*SUBJECTS, *FILLED], ids=lambda subject: subject.name)


def parts(subject: Subject) -> tuple[LikelihoodScorer, LanguageNetwork]:
    model = model_of(subject)
    assert isinstance(model.scorer, LikelihoodScorer) and isinstance(model.network, LanguageNetwork)
    return model.scorer, model.network


def named(subject: Subject, toy: Toy) -> dict[str, float]:
    """Give the scores by name, without those that are not there, and without counts."""
    columns = [column.name for column in model_of(subject).scorer.columns]
    found = dict(zip(columns, toy.scores, strict=bool(toy.scores)))
    return {name: value for name, value in found.items() if value == value and not name.startswith("N_")}


@fewer
@also_filled
@given(data=st.data())
def test_an_alt_equal_to_ref_scores_zero(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases))
    same = case.bases[case.tss : case.tss + data.draw(st.integers(1, 4))]
    found = one(run(subject, case, [("c", case.tss + 1, same, same)]))
    assert set(named(subject, found).values()) == {0.0}


@fewer
@also_filled
@given(data=st.data())
def test_swapped_roles_give_minus_the_score(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases))
    there, back = (one(run(subject, swapped)) for swapped in (case, case.swapped))
    assert there.status == back.status
    signed = {column.name for column in model_of(subject).scorer.columns if column.signed}
    assert signed or subject.name == "phylogpn", "which reads the reference allele"
    values = [{name: value for name, value in named(subject, toy).items() if name in signed} for toy in (there, back)]
    assert values[1] == pytest.approx({name: -value for name, value in values[0].items()}, abs=1e-6)


@also_filled
def test_order_duplicates_and_companions_change_no_bit(subject: Subject) -> None:
    model, bases = model_of(subject), a_genome(subject.n_bases)
    records = [record for record in some_records(subject, bases, 6) if record[3] != "."]
    expected = text(by_allele(run_toy(model, bases, records), records))
    again = [*reversed(records), *records[2:4]]
    assert text(by_allele(run_toy(model, bases, again), again)) == expected
    alone = [text(by_allele(run_toy(model, bases, [record]), [record])) for record in records[:2]]
    assert set().union(*alone) <= expected


def text(found: set[tuple[object, ...]]) -> set[str]:
    """NaN is not equal to itself."""
    return {repr(item) for item in found}


@every
def test_bases_outside_the_window_change_nothing(subject: Subject) -> None:
    bases = a_genome(subject.n_bases)
    at, reach = len(bases) // 2, parts(subject)[0].length
    other = flipped(bases)[: at - reach] + bases[at - reach : at + reach] + flipped(bases)[at + reach :]
    records = [("c", at + 1, bases[at], "ACGT"[bases[at] == "A"]), ("c", at + 1, bases[at], bases[at] + "GA")]
    here, there = (run_toy(model_of(subject), genome, records) for genome in (bases, other))
    assert [named(subject, toy) for toy in here] == [named(subject, toy) for toy in there]
    assert all(abs(value) > 1e-7 for toy in here for value in named(subject, toy).values())


@also_filled
def test_alleles_of_one_record_score_as_they_do_in_records_of_their_own(subject: Subject) -> None:
    bases = a_genome(subject.n_bases)
    at = len(bases) // 2
    first, second, _ = (base for base in "ACGT" if base != bases[at])
    alts = [first, second, bases[at] + "TG"]
    together = run_toy(model_of(subject), bases, [("c", at + 1, bases[at], ",".join(alts))])
    alone = run_toy(model_of(subject), bases, [("c", at + 1, bases[at], alt) for alt in alts])
    assert [text({(toy.status, *toy.scores)}) for toy in together] == [
        text({(toy.status, *toy.scores)}) for toy in alone
    ]
    assert len({toy.scores[0] for toy in alone[:2]}) == 2


@every
def test_only_the_logits_that_are_read_are_computed(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    _, network = parts(subject)
    given: list[tuple[int, ...]] = []
    language = network.network
    logits = language.logits
    monkeypatch.setattr(language, "logits", lambda hidden: given.append(tuple(hidden.shape)) or logits(hidden))
    wanted: list[tuple[int, ...]] = []
    forward = network.forward

    def watched(batch: torch.Tensor) -> torch.Tensor:
        wanted.append(tuple(unpack(batch)[1].shape))
        return forward(batch)

    monkeypatch.setattr(network, "forward", watched)
    bases = a_genome(subject.n_bases)
    run_toy(model_of(subject), bases, [("c", 150, bases[149], "ACGT".replace(bases[149], "")[0])])
    # Some take the rows apart and call themselves.
    assert [shape[:2] for shape in given if len(shape) == 3] == wanted
    assert sum(n for _, n in wanted) < 3 * SMALL[subject.name].window  # of hundreds of tokens


@every
def test_nothing_stays_on_meta_after_loading(subject: Subject) -> None:
    _, network = parts(subject)
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    assert tensors and not [name for name, value in tensors.items() if value.is_meta]
    assert all(value.isfinite().all() for value in tensors.values())


def mirrored(model: Model) -> Model:
    """Count the allele's place from the other end of the window, where the two strands are read in one window."""
    scorer = model.scorer
    assert isinstance(scorer, LikelihoodScorer)
    if scorer.method == "causal":  # each strand has its own window as it is
        return model
    return replace(model, scorer=replace(scorer, index=scorer.length - 1 - scorer.index))


@pytest.mark.parametrize("subject", [*SUBJECTS, *FILLED, FILLED_PS], ids=lambda subject: subject.name)
def test_a_snv_scores_alike_on_both_strands_under_the_mirrored_rule(subject: Subject) -> None:
    model, bases = model_of(subject), a_genome(subject.n_bases)
    at = len(bases) // 2
    alt = "ACGT"["ACGT".index(bases[at]) - 1]
    here = named(subject, one(run_toy(model, bases, [("c", at + 1, bases[at], alt)])))
    record = ("c", len(bases) - at, flipped(bases[at]), flipped(alt))
    there = named(subject, one(run_toy(mirrored(model), flipped(bases), [record])))
    strands = {"FORWARD": "REVERSE", "REVERSE": "FORWARD"}
    swapped = {strands.get(name, name) if "REVERSE" in here else name: value for name, value in here.items()}
    swapped |= {f"INFILL_{strands[name]}": here[f"INFILL_{name}"] for name in strands if f"INFILL_{name}" in here}
    # Both ask for the same rows; only those that read both strands alike are given others.
    assert there == (pytest.approx(swapped, abs=1e-5) if "REVERSE" not in here or FILLED_PS == subject else swapped)
    main = next(iter(here))
    if "REVERSE" in here:
        assert here[main] == (here["FORWARD"] + here["REVERSE"]) / 2
        assert here["FORWARD"] != here["REVERSE"]


@pytest.mark.parametrize("name", [name for name, small in SMALL.items() if "dnabert-2" in name or "gena" in name])
def test_byte_pair_tokens_that_are_compared_lie_near_the_allele(name: str) -> None:
    scorer, network = parts(next(subject for subject in SUBJECTS if subject.name == name))
    bases = "".join(np.random.default_rng(4).choice(list("ACGT"), 2000, p=(0.35, 0.25, 0.15, 0.25)))
    codes = np.frombuffer(encode(bases), np.uint8)
    n_read = []
    for at in range(100, 1900, 18):
        variant = Variant(
            "c",
            at,
            *[(bases[at], "ACGT"[("ACGT".index(bases[at]) + 1) % 4]), ("", "GAT"), (bases[at : at + 4], "")][at % 3],
        )
        for haplotype in scorer.haplotypes(Site(*normalise(variant, codes))):
            sequence = sequence_of(haplotype, bases)
            tokens = network.tokenizer.encode(sequence)
            start, end = haplotype.focus or (0, 0)
            for row in network.rows(sequence, haplotype):
                [place] = unpack(torch.tensor([list(row)], dtype=torch.uint8))[1].flatten().tolist()
                assert start - 32 < tokens.ends[place] and tokens.starts[place] < end + 32
            n_read.append(len(network.rows(sequence, haplotype)))
    assert 0 < np.mean(n_read) < 8


def test_caduceus_ps_answers_alike_on_both_strands_without_averaging() -> None:
    [subject] = [subject for subject in SUBJECTS if subject.name == PS]
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
