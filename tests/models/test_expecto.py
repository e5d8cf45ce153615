"""ExPecto: small networks and linear models in the authors' formats, read and scored as the published ones are."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity.drawing import drawn
from toys import flipped, gene, one, run_toy
from writers import write_xgboost_linear

from varfm.errors import ModelError, OptionError
from varfm.genome import encode
from varfm.models import ModelOptions, catalog, deepsea
from varfm.models.deepsea import BelugaConfig
from varfm.models.expecto import ShiftedBeluga, build, config_of, network_of, read_tissues
from varfm.protocols import Model
from varfm.scorers.shifted import ShiftedScorer
from varfm.weights import LocalWeights

CONFIG = BelugaConfig(n_tracks=4, channels=(3, 3, 4), n_hidden=5)
N_INPUTS = 10 * CONFIG.n_tracks
TISSUES = ("Liver | GTEx", "Lung | GTEx", "HepG2 | ENCODE", "Liver | Roadmap")
SHIFTS = (0, -200, -400, -600, -800, 200, 400, 600, 800)
RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
LISTED = "resources/modellist"

GENOME = "".join(np.random.RandomState(3).choice(list("ACGT"), 8_000))
SNV = ("c", 4_001, GENOME[4_000], "ACGT"[GENOME[4_000] == "A"])


def beluga_tensors() -> dict[str, torch.Tensor]:
    """Draw a network of these sizes under upstream's keys."""
    outputs = [n for n in CONFIG.channels for _ in range(2)]
    shapes: dict[str, tuple[int, ...]] = {}
    for place, n_in, n_out in zip((0, 2, 6, 8, 12, 14), [4, *outputs], outputs, strict=False):
        shapes |= {f"model.0.{place}.weight": (n_out, n_in, 1, 8), f"model.0.{place}.bias": (n_out,)}
    for place, n_in, n_out in ((2, 4 * 106, CONFIG.n_hidden), (4, CONFIG.n_hidden, CONFIG.n_tracks)):
        shapes |= {f"model.1.{place}.1.weight": (n_out, n_in), f"model.1.{place}.1.bias": (n_out,)}
    return {key: torch.from_numpy(array) for key, array in drawn(shapes, seed=11).items()}


def linear_weights(number: int) -> NDArray[np.float32]:
    """Draw the weights of one tissue, (blocks, features)."""
    return np.random.RandomState(100 + number).normal(0, 1, (10, CONFIG.n_tracks)).astype(np.float32)


def with_slots(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put a number that must not count before each block, as the published models have a zero there."""
    return np.pad(weights, ((0, 0), (1, 0)), constant_values=1_000).ravel()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a clone of the authors' repository, in small."""
    for name in ("models", "resources"):
        (tmp_path / name).mkdir()
    torch.save(beluga_tensors(), tmp_path / "resources" / "deepsea.beluga.pth")
    for number in range(len(TISSUES)):
        write_xgboost_linear(tmp_path / "models" / f"{number}.save", with_slots(linear_weights(number)), 0.5, 2.0)
    write_list(tmp_path, [f"./models/{number}.save\t{tissue}" for number, tissue in enumerate(TISSUES)])
    (tmp_path / "config.json").write_text(json.dumps(asdict(CONFIG)))
    return tmp_path


def write_list(folder: Path, rows: Sequence[str], header: str = "ModelName\tTissue") -> None:
    (folder / LISTED).write_text("\n".join([header, *rows]) + "\n")


def model_of(folder: Path, **options: object) -> Model:
    weights = LocalWeights(
        folder / "resources" / "deepsea.beluga.pth", "0" * 64, False, {LISTED: folder / LISTED}, folder / "config.json"
    )
    return build(catalog.get("expecto"), weights, ModelOptions(**options))  # type: ignore[arg-type]


def scorer_of(model: Model) -> ShiftedScorer:
    assert isinstance(model.scorer, ShiftedScorer)
    return model.scorer


def expected(model: Model, bases: str, start: int, ref: str, alt: str, tss: int, strand: str) -> NDArray[np.float64]:
    """Work out the score of every tissue from windows cut as strings."""
    assert isinstance(model.network, torch.nn.Module)
    beluga = deepsea.network_of(CONFIG)
    beluga.load_state_dict(model.network.state_dict())
    changed = bases[:start] + alt + bases[start + len(ref) :]
    inputs = np.zeros((10, CONFIG.n_tracks))
    for shift in SHIFTS:
        first = start - 999 + shift
        windows = [text[first : first + 2_000] for text in (bases, changed)]
        codes = [list(encode(text)) for window in windows for text in (window, flipped(window))]
        with torch.inference_mode():
            ref_forward, ref_back, alt_forward, alt_back = beluga(torch.tensor(codes, dtype=torch.uint8)).double()
        effect = ((alt_forward + alt_back) / 2 - (ref_forward + ref_back) / 2).numpy()
        sign = 1 if strand == "+" else -1
        place = (start - tss) * sign + shift * sign
        for block, rate in enumerate(RATES):
            weight = math.exp(-rate * math.floor(abs(place / 200)))
            inputs[block] += weight * effect * (place <= 0)
            inputs[block + 5] += weight * effect * (place >= 0)
    return np.array([(linear_weights(number) * inputs).sum() for number in range(len(TISSUES))])


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("tss", [4_000, 3_800, 7_321])
@pytest.mark.parametrize(
    ("ref", "alt"),
    [(SNV[2], SNV[3]), (GENOME[4_000:4_003], "TTATT"), (GENOME[4_000:4_004], GENOME[4_000])],
    ids=["SNV", "delins", "deletion"],
)
def test_a_score_is_worked_out_as_the_authors_do(folder: Path, tss: int, strand: str, ref: str, alt: str) -> None:
    model = model_of(folder)
    found = one(run_toy(model, GENOME, [("c", 4_001, ref, alt)], genes=[gene(tss, strand)]))
    start, ref, alt = trimmed(4_000, ref, alt)
    wanted = expected(model, GENOME, start, ref, alt, tss, strand)
    # Probabilities near 0.5 in float32, from batches of other sizes.
    np.testing.assert_allclose(found.scores, wanted, rtol=0, atol=2e-6)
    assert np.abs(wanted).max() > 1e-3


def trimmed(start: int, ref: str, alt: str) -> tuple[int, str, str]:
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while ref and alt and ref[0] == alt[0]:
        start, ref, alt = start + 1, ref[1:], alt[1:]
    return start, ref, alt


def test_models_with_and_without_unused_slots_are_one(folder: Path) -> None:
    published = model_of(folder)
    for number in range(len(TISSUES)):
        write_xgboost_linear(folder / "models" / f"{number}.save", linear_weights(number).ravel(), -1.0, 0.5)
    trained = model_of(folder)
    assert scorer_of(trained).linear.equal(scorer_of(published).linear)
    assert scorer_of(trained).linear.dtype == torch.float64
    assert trained.origin.options == published.origin.options


@pytest.mark.parametrize(
    ("asked", "indices"),
    [((), (0, 1, 2, 3)), (("1",), (1,)), (("Liver | GTEx",), (0,)), (("liver",), (0, 3)), (("3", "lung"), (1, 3))],
)
def test_tracks_are_chosen_by_index_name_or_pattern(folder: Path, asked: tuple[str, ...], indices: list[int]) -> None:
    scorer = scorer_of(model_of(folder, tracks=asked))
    assert [column.name for column in scorer.columns] == [f"DLNE_T{index}" for index in indices]
    shown = [f"DLNE_T{index}" for index in indices] if asked else []
    assert [field.key for field in scorer.fields] == ["DLNE", "TISSUE", "GENE", *shown]
    assert dict(scorer.columns[0].facts)["name"] == TISSUES[indices[0]]
    assert scorer.columns[0].unit == "natural-log fold change"
    assert scorer.columns[0].signed


def test_chosen_tracks_are_columns_of_the_whole(folder: Path) -> None:
    whole = one(run_toy(model_of(folder), GENOME, [SNV], genes=[gene(4_500)]))
    chosen = one(run_toy(model_of(folder, tracks=("liver",)), GENOME, [SNV], genes=[gene(4_500)]))
    assert chosen.scores == (whole.scores[0], *whole.scores[3:])


@pytest.mark.parametrize(("n", "n_shown"), [(64, 64), (65, 0)])
def test_more_than_64_chosen_tracks_stand_in_tables_only(folder: Path, n: int, n_shown: int) -> None:
    write_list(folder, [f"./models/0.save\tTissue {number}" for number in range(n)])
    scorer = scorer_of(model_of(folder, tracks=("tissue",)))
    assert (len(scorer.columns), len(scorer.fields)) == (n, 3 + n_shown)


def test_the_greatest_distance_is_an_option(folder: Path) -> None:
    records, genes = [SNV], [gene(4_000 + 10), gene(4_000 + 11, name="h")]
    assert one(run_toy(model_of(folder, max_distance=10), GENOME, records, genes=genes)).gene == "g"
    assert scorer_of(model_of(folder)).placement.max_distance == 20_000
    assert one(run_toy(model_of(folder, max_distance=0), GENOME, records, genes=genes)).status == "NO_GENE"


def test_alleles_up_to_200_bases_fit_every_window(folder: Path) -> None:
    model = model_of(folder)
    for n, status in ((200, "OK"), (201, "TOO_LONG")):
        ref = GENOME[3_999 : 4_000 + n]
        assert one(run_toy(model, GENOME, [("c", 4_000, ref, ref[0])], genes=[gene(4_000)])).status == status


def test_the_header_says_what_decides_the_scores(folder: Path) -> None:
    options = dict(model_of(folder, indel_mode="compensate", max_distance=500).origin.options)
    assert options["shifts"] == "0,-200,-400,-600,-800,200,400,600,800"
    assert (options["window"], options["index"], options["max_distance"]) == ("2000", "999 - shift", "500")
    assert (options["indels"], options["strands"]) == ("compensate", "both")
    changed = folder / "models" / "2.save"
    changed.write_bytes(changed.read_bytes()[:-5] + b"\x01" + changed.read_bytes()[-4:])
    assert dict(model_of(folder).origin.options)["linear_models_sha256"] != options["linear_models_sha256"]


def test_nothing_is_left_on_the_meta_device(folder: Path) -> None:
    network = model_of(folder).network
    assert isinstance(network, torch.nn.Module)
    assert not any(value.is_meta for value in (*network.parameters(), *network.buffers()))


def test_the_published_network_is_beluga() -> None:
    checkpoint = catalog.get("expecto")
    with torch.device("meta"):
        network = network_of(config_of(checkpoint))
    assert sum(value.numel() for value in network.parameters()) == 149_536_251
    assert (network.length, network.window) == (3_600, 2_000)
    assert (checkpoint.window, checkpoint.index) == (2_000, 999)


@pytest.mark.parametrize("shifts", [SHIFTS, (0, 3, 7, 10), (-20, 0, 20), (0,)])
def test_overlapping_windows_are_answered_as_if_each_were_read_alone(shifts: tuple[int, ...]) -> None:
    config = BelugaConfig(length=340, n_tracks=4, channels=(3, 4, 5), n_hidden=6)
    network = ShiftedBeluga(config, shifts).double()
    single = deepsea.network_of(config).double()
    single.load_state_dict(network.state_dict())
    codes = torch.randint(0, 5, (2, network.length), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = network.requires_grad_(False)(codes)
    single.requires_grad_(False)
    for number, start in enumerate(sorted(shift - min(shifts) for shift in shifts)):
        assert float((found[:, number] - single(codes[:, start : start + 340])).abs().max()) < 1e-12


def test_one_window_with_more_n_than_bases_is_enough_not_to_score() -> None:
    network = ShiftedBeluga(BelugaConfig(length=340, n_tracks=4, channels=(3, 4, 5), n_hidden=6), (0, 100))
    assert not network.is_n_heavy(b"\4" * 170 + b"\1" * 270)
    assert network.is_n_heavy(b"\4" * 171 + b"\1" * 269)
    assert network.is_n_heavy(b"\1" * 269 + b"\4" * 171)


def test_an_unknown_tissue_is_refused(folder: Path) -> None:
    with pytest.raises(OptionError, match="--tracks spleen: expecto has no such track"):
        model_of(folder, tracks=("spleen",))


def test_a_missing_model_is_named(folder: Path) -> None:
    (folder / "models" / "2.save").unlink()
    with pytest.raises(ModelError, match=r"2\.save: cannot be read \(No such file or directory\)"):
        model_of(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><title>Not Found</title>", "a web page"),
        (b"binf" + b"\0" * 400, "not a linear regression"),
    ],
)
def test_a_damaged_model_is_named(folder: Path, content: bytes, message: str) -> None:
    (folder / "models" / "1.save").write_bytes(content)
    with pytest.raises(ModelError, match=rf"1\.save: .*{message}"):
        model_of(folder)


def test_a_model_of_other_features_is_named(folder: Path) -> None:
    write_xgboost_linear(folder / "models" / "1.save", np.zeros(N_INPUTS + 1), 0.0, 2.0)
    with pytest.raises(ModelError, match=r"1\.save: .*10 blocks of 4 features, found weight \(41,\)"):
        model_of(folder)


def test_a_weight_file_of_another_kind_is_no_linear_model(folder: Path) -> None:
    (folder / "models" / "1.save").write_bytes((folder / "resources" / "deepsea.beluga.pth").read_bytes())
    with pytest.raises(ModelError, match=r"1\.save: .*10 blocks of 4 features, found model\.0\.0\.bias"):
        model_of(folder)


@pytest.mark.parametrize("place", ["../elsewhere.save", "/elsewhere.save", "models/../../elsewhere.save"])
def test_models_outside_the_folder_are_refused(folder: Path, place: str) -> None:
    write_list(folder, [f"{place}\tLiver"])
    with pytest.raises(ModelError, match=rf"modellist: names {place}, which lies elsewhere"):
        model_of(folder)


def test_another_list_is_refused(folder: Path) -> None:
    write_list(folder, ["liver,0.save"], header="Tissue,File")
    with pytest.raises(ModelError, match=r"modellist.*ModelName"):
        model_of(folder)


def test_a_missing_list_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match="expecto: its list of linear models, resources/modellist, was not found"):
        build(
            catalog.get("expecto"),
            LocalWeights(folder / "resources" / "deepsea.beluga.pth", "", False, {}, folder / "config.json"),
            ModelOptions(),
        )


def test_another_network_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(asdict(CONFIG) | {"n_hidden": 6}))
    with pytest.raises(ModelError, match=r"deepsea\.beluga\.pth: .*model\.1\.2\.1\.weight"):
        model_of(folder)


def test_windows_too_short_for_the_shifts_are_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(asdict(CONFIG) | {"length": 1_600}))
    with pytest.raises(ModelError, match=r"config\.json: length is 1600, .*Give a length of 1602 or more"):
        model_of(folder)


def test_files_of_the_catalogue_may_lie_apart(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    apart = tmp_path_factory.mktemp("apart") / "first.save"
    (folder / "models" / "0.save").rename(apart)
    tissues = read_tissues(folder / LISTED, {"models/0.save": apart}, CONFIG.n_tracks)
    np.testing.assert_array_equal(tissues.linear[0], linear_weights(0).ravel())
