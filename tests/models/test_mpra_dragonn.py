"""MPRA-DragoNN against a second evaluation of its published file, written in NumPy from the file's layers."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pysam
import pytest
from numpy.typing import NDArray
from toys import SHARED, flipped, needs_shared, vcf_text

import varfm
from varfm.errors import OptionError
from varfm.models import ModelOptions, load
from varfm.session import SessionOptions

pytestmark = needs_shared
WEIGHTS = SHARED / "mpra_dragonn_conv.hdf5"
OPTIONS = SessionOptions("", None, model_options=ModelOptions(weights=WEIGHTS), device="cpu", threads=1)

Array = NDArray[np.float64]


def layer(file: h5py.File, name: str) -> dict[str, Array]:
    root = file["model_weights"] if "model_weights" in file else file
    return {key.split(":")[0]: np.asarray(value, np.float64) for key, value in root[name][name].items()}


def evaluated(sequences: Sequence[str]) -> Array:
    """Run the published network in float64: (n, 12)."""
    x = np.stack([[[float(base == letter) for letter in "ACGT"] for base in bases] for bases in sequences])
    with h5py.File(WEIGHTS) as file:
        for number in (1, 2, 3):
            conv, norm = layer(file, f"conv1d_{number}"), layer(file, f"batch_normalization_{number}")
            width = conv["kernel"].shape[0]
            n_places = x.shape[1] - width + 1
            x = sum(x[:, k : k + n_places] @ conv["kernel"][k] for k in range(width)) + conv["bias"]
            x = np.maximum(x, 0)
            x = (x - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-3) * norm["gamma"] + norm["beta"]
        dense = layer(file, "dense_1")
    return np.asarray(x.reshape(len(x), -1) @ dense["kernel"] + dense["bias"])


def elements() -> dict[str, str]:
    with pysam.FastxFile(str(SHARED / "satmut_elements.fa")) as records:
        return {str(record.name): (record.sequence or "").upper() for record in records}


N_HEAVY = ("TCF7L2", 1)


def thirty_snvs() -> list[tuple[str, int, str, str]]:
    """Choose the first and the last measured SNV of every element, and some from between."""
    by_contig: dict[str, list[tuple[str, int, str, str]]] = {}
    with gzip.open(SHARED / "satmut_elements.vcf.gz", "rt") as lines:
        for line in lines:
            if not line.startswith("#"):
                contig, pos, _, ref, alt, *_ = line.split("\t")
                by_contig.setdefault(contig, []).append((contig, int(pos), ref, alt))
    ends = [snv for snvs in by_contig.values() for snv in (min(snvs, key=_pos), max(snvs, key=_pos))]
    between = [snvs[len(snvs) // 2] for snvs in by_contig.values()]
    # The window of TCF7L2's first base is N beyond the element and at one base inside, 73 of 145: too many to score.
    return [snv for snv in (*ends, *between) if snv[:2] != N_HEAVY][:30]


def _pos(snv: tuple[str, int, str, str]) -> int:
    return snv[1]


def windows_of(bases: str, pos: int, alt: str) -> list[str]:
    """Cut 145 bases around a position by hand, N beyond the element: ref, alt, and both turned."""
    padded = "N" * 72 + bases + "N" * 72
    ref = padded[pos - 1 : pos - 1 + 145]
    changed = ref[:72] + alt + ref[73:]
    return [ref, changed, flipped(ref), flipped(changed)]


def test_thirty_snvs_equal_hand_cut_windows_in_numpy(tmp_path: Path) -> None:
    snvs = thirty_snvs()
    contigs = elements()
    assert len(snvs) == 30
    vcf = tmp_path / "snvs.vcf"
    vcf.write_text(vcf_text(snvs))
    with varfm.score(str(vcf), str(SHARED / "satmut_elements.fa"), model="mpra-dragonn", options=OPTIONS) as results:
        found = list(results)
    answers = evaluated([w for contig, pos, _, alt in snvs for w in windows_of(contigs[contig], pos, alt)])
    ref, alt, ref_turned, alt_turned = answers.reshape(30, 4, 12).transpose(1, 0, 2)
    expected = (alt + alt_turned - ref - ref_turned) / 2
    assert {result.status for result in found} == {"OK", "PADDED"}
    assert np.abs(expected).max() > 0.1
    for result, (contig, pos, *_), row in zip(found, snvs, expected, strict=True):
        assert (result.contig, result.pos) == (contig, pos)
        headline, *outputs = result.scores.values()
        assert outputs == pytest.approx(row.tolist(), rel=0, abs=1e-5)
        assert headline == pytest.approx((row[8] + row[11]) / 2, rel=0, abs=1e-5)


def test_a_window_with_one_n_more_than_half_is_not_scored_and_one_with_less_is(tmp_path: Path) -> None:
    vcf = tmp_path / "snvs.vcf"
    first = {name: bases[0] for name, bases in elements().items() if name in ("TCF7L2", "RET")}
    vcf.write_text(vcf_text([(name, 1, ref, "G" if ref == "A" else "A") for name, ref in sorted(first.items())]))
    with varfm.score(str(vcf), str(SHARED / "satmut_elements.fa"), model="mpra-dragonn", options=OPTIONS) as results:
        assert [(result.contig, result.status) for result in results] == [("RET", "PADDED"), ("TCF7L2", "N_HEAVY")]


def test_columns_are_the_headline_and_the_twelve_outputs_in_order() -> None:
    model = load("mpra-dragonn", ModelOptions(weights=WEIGHTS))
    names = [column.name for column in model.scorer.columns]
    assert names[0] == "HEPG2"
    assert names[1:4] == ["K562_minP_rep1", "K562_minP_rep2", "K562_minP_pooled"]
    assert (names[1 + 8], names[1 + 11]) == ("HepG2_minP_pooled", "HepG2_SV40P_pooled")
    assert [field.key for field in model.scorer.fields] == ["HEPG2"]


def test_chosen_tracks_get_a_key_with_their_index() -> None:
    model = load("mpra-dragonn", ModelOptions(weights=WEIGHTS, tracks=("11", "k562_minp_pooled")))
    assert [field.key for field in model.scorer.fields] == ["HEPG2", "T2", "T11"]
    assert [column.name for column in model.scorer.columns] == ["HEPG2", "K562_minP_pooled", "HepG2_SV40P_pooled"]


def test_a_track_that_is_not_there_is_refused() -> None:
    with pytest.raises(OptionError, match="12"):
        load("mpra-dragonn", ModelOptions(weights=WEIGHTS, tracks=("12",)))
