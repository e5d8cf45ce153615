"""DeepSEA's e-values: tables worked out by hand, the package's layout of files, and damaged ones."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from varfm.errors import ModelError
from varfm.scorers.evalue import Background, evalue, read_background
from varfm.scorers.matrix import Group, MatrixScorer, TrackName
from varfm.scorers.placement import Centred
from varfm.variants import Variant
from varfm.windows import Site

STEPS = np.array([-np.inf, 0.5, 1.0])
LEVELS = np.array([0.0, 0.75, 1.0])


def write(folder: Path, n_tracks: int, steps: NDArray[Any] = STEPS, levels: NDArray[Any] = LEVELS) -> Path:
    """Lay out tables beside a weight file, the same for all tracks, and give the path of the weights."""
    ecdfs = folder / "resources" / "ecdfs"
    ecdfs.mkdir(parents=True, exist_ok=True)
    for number in range(1, 2 * n_tracks + 1):
        np.save(table(folder, number), levels if number % 2 else steps)
    return folder / "deepsea.cpu"


def table(folder: Path, number: int) -> Path:
    return folder / "resources" / "ecdfs" / f"ecdf_difflogdiff.rescaled.pkl_{number:02d}.npy"


@pytest.mark.parametrize(
    ("effect", "expected"), [(0.0, 1.0), (0.4, 1.0), (0.5, 0.25), (0.9, 0.25), (1.0, 1e-6), (7.0, 1e-6)]
)
def test_an_evalue_is_the_share_above_the_last_step_not_above_the_effect(effect: float, expected: float) -> None:
    background = Background(STEPS[None], LEVELS[None])
    assert background.evalues(np.array([effect])).tolist() == [expected]


def test_each_track_has_its_own_steps() -> None:
    background = Background(np.stack([STEPS, 10 * STEPS]), LEVELS[None])
    assert background.evalues(np.array([0.6, 0.6])).tolist() == [0.25, 1.0]


def test_an_effect_that_is_no_number_has_no_evalue() -> None:
    assert np.isnan(Background(STEPS[None], LEVELS[None]).evalues(np.array([np.nan]))).all()


def test_tables_are_numbered_levels_first_with_at_least_two_digits(tmp_path: Path) -> None:
    weights = write(tmp_path, 50)
    np.save(table(tmp_path, 100), 10 * STEPS)
    background = read_background(weights, 50)
    assert background.sizes.shape == (50, 3)
    assert background.evalues(np.full(50, 0.6)).tolist() == [0.25] * 49 + [1.0]


def test_tables_of_different_lengths_and_levels_are_read(tmp_path: Path) -> None:
    weights = write(tmp_path, 2)
    np.save(table(tmp_path, 3), np.array([0.0, 1.0]))
    np.save(table(tmp_path, 4), np.array([-np.inf, 2.0]))
    background = read_background(weights, 2)
    assert background.evalues(np.array([0.6, 0.6])).tolist() == [0.25, 1.0]
    assert background.evalues(np.array([9.0, 9.0])).tolist() == [1e-6, 1e-6]


def test_tables_that_are_missing_are_named_as_weights_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"EVALUE: .*resources.ecdfs.*_01\.npy is not there.*--weights"):
        read_background(tmp_path / "deepsea.cpu", 2)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "not readable"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "not readable"),
        (lambda path: path.write_bytes(b""), "not readable"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "not readable"),
        (lambda path: path.write_bytes(pickle.dumps(Canary(path.with_name("canary")))), "not readable"),
        (lambda path: np.save(path, np.array([Canary(path.with_name("canary"))])), "not readable"),
        (lambda path: np.save(path, STEPS[None]), "shape"),
        (lambda path: np.save(path, np.array([1, 2, 3])), "int64"),
        (lambda path: np.save(path, np.array([-np.inf, 1.0, 0.5])), "do not rise"),
        (lambda path: np.save(path, np.array([-np.inf, np.nan, 0.5])), "do not rise"),
        (lambda path: np.save(path, np.array([0.0, 0.5, 1.0])), "do not rise from -inf"),
        (lambda path: np.save(path, np.array([-np.inf, 0.5])), "2 values, its levels are 3"),
    ],
    ids=[
        "absent", "cut", "empty", "page", "pickle", "objects", "matrix", "integers", "falling", "nan", "start", "short",
    ],
)  # fmt: skip
def test_a_damaged_table_is_refused_by_name_and_nothing_is_unpickled(damage: Any, message: str, tmp_path: Path) -> None:
    weights = write(tmp_path, 2)
    damage(table(tmp_path, 4))
    with pytest.raises(ModelError, match=rf"_04\.npy: not a table.*{message}") as error:
        read_background(weights, 2)
    assert "\n" not in str(error.value)
    assert not table(tmp_path, 4).with_name("canary").exists()


def test_the_headline_is_the_smallest_evalue_and_no_change_is_one() -> None:
    measure = evalue(Background(np.stack([STEPS] * 3), LEVELS[None]))
    tracks = tuple(TrackName(n, f"track{n}") for n in range(3))
    scorer = MatrixScorer(Centred(5, 2, "forward"), (measure,), tracks, (Group("MAX", (0, 1, 2)),), measure)
    variant = Variant("c", 2, "A", "G")
    ref = torch.tensor([0.5, 0.5, 0.5])
    alt = torch.tensor([0.5, 0.7, 0.9])  # |DIFF x LOGODDS| is 0, 0.24 and 1.27
    found = scorer.score(Site(variant, variant), [ref, alt])
    assert found.tolist() == [1.0, 1.0, 1e-6, 1e-6, 2.0]
    assert scorer.unchanged().tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
