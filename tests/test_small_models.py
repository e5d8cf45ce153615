"""The rules of `test_properties.py`, held by every supervised model in small sizes through its own classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import CONFIGS, small_folder, small_model
from test_properties import (
    Case,
    Mirrored,
    Subject,
    a_genome,
    by_allele,
    cases,
    few,
    model_of,
    output_scale,
    run,
    some_genes,
    some_records,
    spellings,
)
from toys import Toy, one, run_files, run_toy, vcf_text, write_fasta

from varfm.cli.main import run as varfm
from varfm.plan import make_plan
from varfm.protocols import Model
from varfm.runner import Runner
from varfm.scorers.placement import Centred

fewer = settings(few, max_examples=3)
BINNED = ("basenji", "basenji2", "enformer")
SMALL = [Subject(name, partial(small_model, name), 3 * CONFIGS[name].length) for name in CONFIGS]
ON_GENES = [
    Subject(f"{name} on genes", partial(small_model, name, on_genes=True), 3 * CONFIGS[name].length, has_genes=True)
    for name in BINNED
]
every = pytest.mark.parametrize("subject", [*SMALL, *ON_GENES], ids=lambda subject: subject.name)
placed_on_alleles = pytest.mark.parametrize("subject", SMALL, ids=lambda subject: subject.name)


def signed(subject: Subject, toy: Toy) -> list[float]:
    """Give the scores that turn with the alleles."""
    columns = model_of(subject).scorer.columns
    return [score for column, score in zip(columns, toy.scores, strict=bool(toy.scores)) if column.signed]


def scored(subject: Subject, case: Case) -> Toy:
    return one(run(subject, case))


def near(found: Toy, expected: Toy) -> bool:
    """Tell whether two scores differ by rounding alone: sums over bins run the other way on the other strand."""
    same_status = found.status == expected.status
    return same_status and found.scores == pytest.approx(expected.scores, rel=1e-9, abs=1e-9)


@fewer
@every
@given(data=st.data())
def test_an_alt_equal_to_ref_scores_zero(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases))
    same = case.bases[case.tss : case.tss + data.draw(st.integers(1, 4))]
    found = one(run(subject, case, [("c", case.tss + 1, same, same)]))
    assert found.status == "OK"
    assert set(signed(subject, found)) == {0.0}


@fewer
@every
@given(data=st.data())
def test_swapped_roles_give_minus_the_score(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases))
    if subject.has_genes and case.upstream.start <= case.tss < case.upstream.end:
        return  # a TSS that was lost is in no other genome
    there, back = (one(run(subject, one_case, exact_full=True)) for one_case in (case, case.swapped))
    assert back.status == there.status
    assert signed(subject, back) == [-score for score in signed(subject, there)]


@fewer
@every
@given(data=st.data())
def test_every_spelling_scores_alike_to_the_bit(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases))
    expected = scored(subject, case)
    written = [*spellings(case, data), case.record]
    assert [toy[2:] for toy in run(subject, case, written)] == [expected[2:]] * len(written)


@fewer
@placed_on_alleles
@given(data=st.data())
def test_every_allele_scores_alike_under_the_mirrored_rule(subject: Subject, data: st.DataObject) -> None:
    def mirrored() -> Model:
        model = subject.make()
        centred = model.scorer.placement  # type: ignore[attr-defined]
        assert isinstance(centred, Centred)
        anchored = replace(centred, indel_mode="anchor")
        placement = anchored if side == "left" else Mirrored(*(getattr(anchored, name) for name in FIELDS))
        return replace(model, scorer=replace(model.scorer, placement=placement))  # type: ignore[type-var]

    case = data.draw(cases(subject.n_bases))
    side = "left"
    expected = scored(subject._replace(name=f"{subject.name} left", make=mirrored), case)
    side = "right"
    found = scored(subject._replace(name=f"{subject.name} right", make=mirrored), case.mirrored)
    assert near(found, expected)


FIELDS = ("length", "index", "strands", "indel_mode", "shifts")


@fewer
@pytest.mark.parametrize("subject", [s for s in SMALL if s.name in BINNED], ids=lambda subject: subject.name)
@given(data=st.data())
def test_compensated_indels_score_alike_on_both_strands(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases, "indel"))
    assert near(scored(subject, case.mirrored), scored(subject, case))


@fewer
@pytest.mark.parametrize("subject", ON_GENES, ids=lambda subject: subject.name)
@given(data=st.data())
def test_a_gene_on_the_minus_strand_scores_as_the_mirrored_gene(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases))
    assert near(scored(subject, case.mirrored), scored(subject, case))


@every
def test_order_duplicates_and_blocks_change_no_bit(subject: Subject, tmp_path: Path) -> None:
    model, bases = model_of(subject), a_genome(subject.n_bases)
    genes, records = some_genes(subject, bases), some_records(subject, bases, 12)
    expected = by_allele(run_toy(model, bases, records, genes=genes), records)
    again = [*reversed(records), *records[3:6]]
    assert by_allele(run_toy(model, bases, again, genes=genes), again) == expected
    vcf = tmp_path / "in.vcf"
    vcf.write_text(vcf_text(records))
    small_blocks = run_files(model, write_fasta(tmp_path, {"c": bases}), vcf, genes=genes, block_records=3)
    assert by_allele(small_blocks, records) == expected


@every
def test_other_batch_sizes_change_at_most_the_last_digits(subject: Subject) -> None:
    model, bases = model_of(subject), a_genome(subject.n_bases)
    genes, records = some_genes(subject, bases), some_records(subject, bases, 8)
    expected = run_toy(model, bases, records, genes=genes)
    n_bins = 3 if subject.has_genes else getattr(model.network, "n_bins", 1)
    scale = output_scale(model, bases) * n_bins
    # Log odds of probabilities near 0 and 1 magnify their last digits.
    assert subject.has_genes or any(abs(value) > 1e-4 * scale for toy in expected for value in signed(subject, toy))
    for size in (1, 3):
        found = run_toy(model, bases, records, genes=genes, batch_size=size)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours[:4] == theirs[:4]
            assert signed(subject, ours) == pytest.approx(signed(subject, theirs), rel=0, abs=3e-5 * scale)


@pytest.mark.parametrize("threads", [1, 2])
@placed_on_alleles
def test_an_answer_depends_neither_on_its_place_in_the_batch_nor_on_its_companions(
    subject: Subject, threads: int
) -> None:
    model = model_of(subject)
    assert model.network is not None
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        plan = make_plan([model], device="cpu", batch_size=max(4, model.batch_rows[0]), threads=threads)
        rng = np.random.default_rng(3)
        plan = plan.with_rows({model.name: Runner(model, plan).probe()})
        rows = [rng.integers(0, 5, model.network.length).astype(np.uint8).tobytes() for _ in range(11)]
        expected = Runner(model, plan).outputs(rows)
        for order in (rows[::-1], rows[5:] + rows[:5], rows[-2:]):
            found = Runner(model, plan).outputs(order)
            assert all(torch.equal(found[row], expected[row]) for row in order)
    finally:
        torch.set_num_threads(before)


@placed_on_alleles
def test_the_network_is_on_no_meta_device_and_can_be_traced(subject: Subject) -> None:
    network = model_of(subject).network
    assert isinstance(network, torch.nn.Module)
    tensors = [*network.named_parameters(), *network.named_buffers()]
    assert not [name for name, tensor in tensors if tensor.is_meta]
    codes = torch.randint(0, 5, (2, network.length), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    traced = torch.fx.symbolic_trace(network)
    torch.testing.assert_close(traced(codes), network.forward(codes), rtol=0, atol=1e-6)


def files(subject: Subject, folder: Path) -> list[str]:
    bases = a_genome(subject.n_bases)
    vcf = folder / "in.vcf"
    vcf.write_text(vcf_text(some_records(subject, bases, 12)))
    fasta = write_fasta(folder, {"c": bases})
    weights = folder / "weights"
    weights.mkdir()
    small_folder(subject.name, weights)
    return ["score", str(vcf), "-f", str(fasta), "-m", subject.name, "--weights", str(weights), "--quiet"]


def table(arguments: list[str], output: Path, *more: str) -> dict[str, list[float | str | None]]:
    assert varfm([*arguments, "-o", str(output.with_suffix(".vcf")), "--table", str(output), *more]) == 0
    return pq.read_table(output).to_pydict()


@placed_on_alleles
def test_chosen_tracks_are_columns_of_the_full_run_to_the_bit(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    more = ("--scores", "DIFF") if subject.name == "sei" else ()
    arguments = files(subject, tmp_path)
    full = table(arguments, tmp_path / "full.parquet", *more)
    part = table(arguments, tmp_path / "part.parquet", *more, "--tracks", "4", "--tracks", "cell 1\\b")
    chosen = [name for name in full if name.rpartition("_T")[2] in ("1", "4")]
    assert [name for name in part if "_T" in name] == [name for name in chosen if "_T" in name]
    assert {name: part[name] for name in chosen} == {name: full[name] for name in chosen}
    assert any(any(full[name]) for name in chosen)


@placed_on_alleles
def test_the_headline_of_the_vcf_stands_in_the_matrix(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    if subject.name == "sei":
        pytest.skip("Sei's headline is a class: see test_classes.py")
    found = table(files(subject, tmp_path), tmp_path / "full.parquet")
    prefix = model_of(subject).prefix
    tracks = [field.key for field in model_of(subject).scorer.fields if field.key.endswith("_TRACK")]
    assert tracks
    values = list(info_values((tmp_path / "full.vcf").read_text(), prefix))
    assert len(values) == len(found["pos"])
    n_seen = 0
    for row, value in enumerate(values):
        for key in tracks:
            if value.get(key, ".") != ".":
                name = key.removesuffix("_TRACK")
                column = found[f"{name.partition('_')[0]}_T{value[key]}"]
                assert f"{float(column[row] or 0):.6g}" == value[name]
                n_seen += 1
    assert n_seen > 10


def info_values(vcf: str, prefix: str) -> Iterator[dict[str, str]]:
    """Give the values of a model's keys, ALT by ALT."""
    for line in vcf.splitlines():
        fields = line.split("\t")
        if line.startswith("#"):
            continue
        info = dict(entry.split("=") for entry in fields[7].split(";"))
        ours = {key.removeprefix(f"{prefix}_"): text.split(",") for key, text in info.items() if key.startswith(prefix)}
        for number in range(len(fields[4].split(","))):
            yield {key: texts[number] for key, texts in ours.items()}
