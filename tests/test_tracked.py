"""What users may ask of a model with many tracks, and what its header then says."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from types import MappingProxyType

import pytest
from toys import MatrixNet, PointNet

from varfm.checkpoints import LocalWeights
from varfm.errors import ModelError, OptionError
from varfm.models import CHOICES, ModelOptions, catalog, load
from varfm.models.deepsea import DeepSeaConfig
from varfm.models.loading import sizes
from varfm.models.tracked import Bins, Layout, track_model
from varfm.protocols import Model
from varfm.scorers.matrix import MatrixScorer
from varfm.scorers.placement import Centred, OnGenes

BINNED = Layout(
    length=2048, index=1023, n_tracks=70, default=("SAR", "SAD"), bins=Bins(512, 128, 8), indel_mode="compensate"
)
POINT = Layout(length=1000, index=499, n_tracks=3, default=("DIFF", "LOGODDS"), strands_scored=True)


def binned(tmp_path: Path, **options: object) -> Model:
    table = tmp_path / "targets_human.txt"
    lines = ["index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription"]
    for n in range(70):
        assay = "CAGE" if n >= 60 else "DNASE"
        lines.append(f"{n}\t0\tID{n}\t/far/away.w5\t32\t2\tmean\t{assay}:cell {n}")
    table.write_text("\n".join(lines) + "\n")
    checkpoint = catalog.get("basenji2")
    weights = LocalWeights(tmp_path / "w.h5", "0" * 64, False, MappingProxyType({checkpoint.tracks_file: table}))
    return track_model(checkpoint, weights, ModelOptions(**options), MatrixNet(2048, 8), BINNED)  # type: ignore[arg-type]


def point(tmp_path: Path, **options: object) -> Model:
    checkpoint = catalog.get("deepsea")
    table = tmp_path / "names"
    table.write_text("a|DNase|None\nb|CTCF|None\nc|H3K4me3|None\n")
    weights = LocalWeights(tmp_path / "w.cpu", "0" * 64, True, MappingProxyType({checkpoint.tracks_file: table}))
    return track_model(checkpoint, weights, ModelOptions(**options), PointNet(1000), POINT)  # type: ignore[arg-type]


def scorer(model: Model) -> MatrixScorer:
    assert isinstance(model.scorer, MatrixScorer)
    return model.scorer


def test_a_binned_model_reports_every_track_and_a_headline_per_assay(tmp_path: Path) -> None:
    model = binned(tmp_path)
    assert len(model.scorer.columns) == 140
    assert [field.key for field in model.scorer.fields] == [
        "SAR_DNASE", "SAR_DNASE_TRACK", "SAR_CAGE", "SAR_CAGE_TRACK",
    ]  # fmt: skip
    assert dict(model.origin.options) == {
        "window": "2048", "index": "1023", "indels": "compensate", "strands": "both", "strands_averaged": "answers",
        "bins": "all", "shifts": "0", "scores": "SAD,SAR",
    }  # fmt: skip
    assert dict(model.scorer.columns[65].facts)["name"] == "CAGE:cell 65"


def test_a_point_model_has_one_headline_and_averages_scores_of_strands(tmp_path: Path) -> None:
    model = point(tmp_path, on_genes=True)
    assert [field.key for field in model.scorer.fields] == ["DIFF_MAX", "DIFF_MAX_TRACK"]
    assert scorer(model).strands_scored and not model.scorer.needs_genes
    assert dict(model.origin.options)["strands_averaged"] == "scores"


def test_on_genes_the_window_lies_on_the_tss_and_three_bins_count(tmp_path: Path) -> None:
    model = binned(tmp_path, on_genes=True)
    assert scorer(model).placement == OnGenes(2048, 1023, "both")
    assert scorer(model).bins == (2, 3, 4)  # base 1,023 lies in bin (1,023 - 512) // 128 = 3
    keys = [field.key for field in model.scorer.fields]
    assert (keys[0], keys[-1]) == ("SAR_CAGE", "GENE")


def test_bins_shifts_and_scores_are_what_was_asked_for(tmp_path: Path) -> None:
    model = binned(tmp_path, bins="1-3, 6", shifts=(1, 0, -1), scores=("sad", "D2"), strands="forward")
    assert scorer(model).bins == (1, 2, 3, 6)
    assert scorer(model).placement == Centred(2048, 1023, "forward", "compensate", (1, 0, -1))
    assert [measure.name for measure in scorer(model).measures] == ["SAD", "D2"]
    assert scorer(model).headline_measure.name == "SAD"
    assert dict(model.origin.options)["bins"] == "1,2,3,6"
    assert scorer(binned(tmp_path, bins="all", on_genes=True)).bins is None


def test_tracks_stand_in_info_where_they_are_few(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    few = binned(tmp_path, tracks=("cell 6$", "66"), scores=("SAR",))
    assert [column.name for column in few.scorer.columns] == ["SAR_T6", "SAR_T66"]
    assert [field.key for field in few.scorer.fields][4:] == ["SAR_T6", "SAR_T66"]
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        many = binned(tmp_path, tracks=(".",))
    assert len(many.scorer.fields) == 4
    assert "70 tracks are more than the 64" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": ("SADX",)}, "--scores SADX: basenji2 has SAD, SAR"),
        ({"bins": "3-1"}, "--bins 3-1: give bins from 0 to 7"),
        ({"bins": "8"}, "--bins 8: give bins from 0 to 7"),
        ({"bins": "x"}, "--bins x"),
        ({"shifts": (0, 0)}, "--shifts 0,0"),
        ({"shifts": (1001,)}, "--shifts 1001"),
        ({"tracks": ("liver",)}, "varfm tracks basenji2"),
        ({"on_genes": True, "indel_mode": "anchor"}, "--indel-mode does not apply to basenji2 with --genes"),
        ({"on_genes": True, "shifts": (1,)}, "--shifts does not apply"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        binned(tmp_path, **options)


GIVEN: dict[str, object] = {
    "indel_mode": "anchor", "strands": "forward", "tracks": ("a",), "scores": ("SAR",), "bins": "1", "shifts": (0,),
    "max_distance": 0, "window": 100, "compat": "selene", "model_config": Path("sizes.json"),
    "adapter": Path("adapter"),
}  # fmt: skip


@pytest.mark.parametrize("name", [checkpoint.name for checkpoint in catalog.listed()])
def test_an_option_that_a_model_does_not_have_is_refused_before_its_weights_are_looked_for(name: str) -> None:
    assert GIVEN.keys() == CHOICES
    module = importlib.import_module(f"varfm.models.{catalog.get(name).module}")
    assert module.OPTIONS <= CHOICES
    for option in CHOICES - module.OPTIONS:
        with pytest.raises(OptionError, match=f"--{option.replace('_', '-')} does not apply to {name}"):
            load(name, ModelOptions(offline=True, **{option: GIVEN[option]}))  # type: ignore[arg-type]


def test_a_table_of_another_network_is_refused(tmp_path: Path) -> None:
    checkpoint = catalog.get("deepsea")
    table = tmp_path / "names"
    table.write_text("a|DNase|None\n")
    weights = LocalWeights(tmp_path / "w.cpu", "", True, MappingProxyType({checkpoint.tracks_file: table}))
    with pytest.raises(ModelError, match="has 1 track, expected 3"):
        track_model(checkpoint, weights, ModelOptions(), PointNet(1000), POINT)


def test_sizes_come_from_the_users_file_but_not_from_that_of_a_model_hub(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    weights = LocalWeights(tmp_path / "w.h5", "", False, MappingProxyType({}), config)
    config.write_text('{"n_tracks": 3, "channels": [1, 2, 3]}')
    assert sizes(DeepSeaConfig(), weights, ModelOptions()) == DeepSeaConfig(n_tracks=3, channels=(1, 2, 3))
    config.write_text('{"model_type": "deepsea", "dim": 7}')
    assert sizes(DeepSeaConfig(), weights, ModelOptions()) == DeepSeaConfig()
    huge = '{"length": 999999999999999999999}'
    for text, message in (
        ('{"dim": 7}', "found dim"), ('{"n_tracks": "3"}', "n_tracks is"), ("[1]", "no object"),
        (huge, "length is 9999"),
    ):  # fmt: skip
        config.write_text(text)
        with pytest.raises(ModelError, match=message):
            sizes(DeepSeaConfig(), weights, ModelOptions())
    other = tmp_path / "other.json"
    other.write_text('{"n_tracks": 3, "model_type": "deepsea"}')
    with pytest.raises(ModelError, match="found model_type"):
        sizes(DeepSeaConfig(), weights, ModelOptions(model_config=other))
