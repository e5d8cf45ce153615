"""Xpresso against the numbers that its authors' code and the Kipoi project gave (real weights)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toys import SHARED, flipped, gene, needs_shared, one, run_toy

from varfm.errors import OptionError
from varfm.genome import Genome, encode
from varfm.models import ModelOptions, load
from varfm.models.xpresso import LENGTH, TSS_INDEX
from varfm.protocols import Model
from varfm.windows import Haplotype, tss_window

pytestmark = needs_shared


def model_of(species: str) -> Model:
    return load(f"xpresso-{species}", ModelOptions(weights=SHARED / f"xpresso_{species}_median.h5"))


def predicted(model: Model, codes: bytes) -> float:
    assert model.network is not None
    with torch.inference_mode():
        return float(model.network.forward(torch.frombuffer(bytearray(codes), dtype=torch.uint8)[None])[0, 0])


TEST_SEQUENCE = "".join("ACGT"[(7 * i + i * i // 11) % 4] for i in range(LENGTH))


@pytest.mark.parametrize(
    ("species", "expected"),
    [
        ("human", (-0.7819515, -1.3242226, -0.1738316, -0.1510122)),
        ("mouse", (-0.6513770, -0.1703153, -0.1676820, -0.0453155)),
    ],
)
def test_the_four_sequences_give_what_keras_gave(species: str, expected: tuple[float, ...]) -> None:
    assert TEST_SEQUENCE.startswith("ATGCCCCCCGTACGTCTCTCATGC")
    model = model_of(species)
    inputs = (TEST_SEQUENCE, flipped(TEST_SEQUENCE), "N" * LENGTH, "C" * LENGTH)
    found = [predicted(model, encode(bases)) for bases in inputs]
    assert found == pytest.approx(expected, rel=0, abs=1e-5)


@pytest.mark.parametrize(
    ("start", "strand", "expected"),
    [
        (32_036_261, "+", -0.5931182),
        (32_251_846, "-", -1.0425287),
        (32_199_977, "-", 0.5175527),
        (32_155_802, "-", -1.0414145),
    ],
)
def test_promoters_of_chromosome_22_give_the_published_predictions(
    start: int, strand: str, expected: float, tmp_path: Path
) -> None:
    first = start - 32_000_000
    tss = first + TSS_INDEX if strand == "+" else first + LENGTH - 1 - TSS_INDEX
    promoter = gene(tss, strand, contig="chr22")
    window = tss_window(promoter, LENGTH, TSS_INDEX)
    assert (window.start, window.end) == (first, first + LENGTH)
    with Genome(SHARED / "hg38_chr22_32000000_32300000.fa", tmp_path) as genome:
        codes = genome.sequence(Haplotype(window, None, promoter.strand))
    assert predicted(model_of("human"), codes) == pytest.approx(expected, rel=0, abs=1e-4)


def test_a_variant_scores_the_difference_of_two_predictions_for_every_gene_in_reach() -> None:
    model = model_of("human")
    bases = TEST_SEQUENCE + flipped(TEST_SEQUENCE)[:4_000]
    plus, minus = gene(7_100, "+", "ahead"), gene(7_000, "-", "back")
    far = gene(14_400, "+", "far")  # its window begins at 7,400
    changed = bases[:7_049] + "GATTACA" + bases[7_050:]
    found = run_toy(model, bases, [("c", 7_050, bases[7_049], "GATTACA")], genes=[plus, minus, far])
    assert [(toy.gene, toy.status) for toy in found] == [("back", "OK"), ("ahead", "OK")]
    by_gene = {toy.gene: toy.scores[0] for toy in found}

    # The plus gene's TSS moves 6 bases to the right with the insertion; its window is whole.
    ref = predicted(model, encode(bases[100 : 100 + LENGTH]))
    alt = predicted(model, encode(changed[106 : 106 + LENGTH]))
    assert by_gene["ahead"] == pytest.approx(alt - ref, rel=0, abs=1e-6)
    # The minus gene's stays; upstream is on the right.
    end = 7_000 + TSS_INDEX + 1
    ref, alt = (predicted(model, encode(flipped(text[end - LENGTH : end]))) for text in (bases, changed))
    assert by_gene["back"] == pytest.approx(alt - ref, rel=0, abs=1e-6)


def test_a_gene_that_the_variant_does_not_reach_gives_no_row() -> None:
    bases = TEST_SEQUENCE + TEST_SEQUENCE[:100]
    found = run_toy(
        model_of("human"), bases, [("c", 10_550, bases[10_549], "ACGT"[bases[10_549] == "A"])], genes=[gene(7_000)]
    )
    assert one(found).status == "NO_GENE"


@pytest.mark.parametrize("options", [{"indel_mode": "anchor"}, {"strands": "both"}, {"tracks": ("1",)}])
def test_options_that_a_tss_model_does_not_have_are_refused(options: dict[str, object]) -> None:
    weights = SHARED / "xpresso_human_median.h5"
    with pytest.raises(OptionError, match="xpresso-human"):
        load("xpresso-human", ModelOptions(weights=weights, **options))  # type: ignore[arg-type]
