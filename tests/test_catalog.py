"""Tests of varfm.models.catalog: every entry is complete, and looking one up needs no torch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from varfm import weights
from varfm.download import RemoteFile
from varfm.errors import ModelError
from varfm.models import catalog, describe
from varfm.weights import Checkpoint

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LISTED = catalog.listed()


@pytest.mark.parametrize("checkpoint", LISTED, ids=lambda checkpoint: checkpoint.name)
def test_entry_is_complete(checkpoint: Checkpoint) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", checkpoint.name)
    assert 0 <= checkpoint.index < checkpoint.window
    texts = (checkpoint.licence, checkpoint.paper, checkpoint.source, checkpoint.reads, checkpoint.scores)
    assert all(text and text.isprintable() for text in texts)
    assert checkpoint.assembly in ("", "hg19", "GRCh38", "mm10")
    assert bool(checkpoint.files) != bool(checkpoint.packaged)
    assert describe(checkpoint.name)


@pytest.mark.parametrize("checkpoint", LISTED, ids=lambda checkpoint: checkpoint.name)
def test_files_have_https_addresses_plain_names_and_digests(checkpoint: Checkpoint) -> None:
    for file in checkpoint.files:
        assert file.urls or checkpoint.module == "dnagpt", "only DNAGPT is handed out by hand"
        assert all(url.startswith("https://") for url in file.urls)
        assert ".." not in PurePosixPath(file.name).parts and not file.name.startswith(("/", "."))
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.md5 is None or re.fullmatch(r"[0-9a-f]{32}", file.md5)
        assert file.role != "table" or not file.member, "a table must come without the archive of the weights"
        assert file.size is None or file.size > 0
    assert len({file.name for file in checkpoint.files}) == len(checkpoint.files)
    assert not checkpoint.files or checkpoint.files[0].role == "weights"
    assert "weights" not in [file.role for file in checkpoint.files[1:]]


@pytest.mark.parametrize("checkpoint", LISTED, ids=lambda checkpoint: checkpoint.name)
def test_table_of_tracks_is_one_of_the_files(checkpoint: Checkpoint) -> None:
    assert bool(checkpoint.tracks_file) == bool(checkpoint.tracks_format)
    if checkpoint.tracks_file:
        assert checkpoint.tracks_file in [file.name for file in checkpoint.tables]
        assert checkpoint.n_outputs > 0


def test_checkpoints_that_share_a_folder_agree_on_its_files() -> None:
    files: dict[tuple[str, str], RemoteFile] = {}
    for checkpoint in LISTED:
        for file in checkpoint.files:
            place = (checkpoint.folder or checkpoint.name, file.name)
            assert files.setdefault(place, file) == file


@pytest.mark.parametrize("name", ["beluga", "expecto", "sei"])
def test_licence_that_forbids_commercial_use_is_stamped(name: str) -> None:
    assert catalog.get(name).licence_line.count("NOT FOR COMMERCIAL USE") == 1


def test_expecto_lists_the_model_of_every_tissue() -> None:
    names = [file.name for file in catalog.get("expecto").files if file.name.startswith("models/")]
    assert len(set(names)) == 218
    assert all(name.endswith(".save") for name in names)


def test_names_are_unique() -> None:
    names = [checkpoint.name for checkpoint in LISTED]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "checkpoint", [entry for entry in LISTED if entry.packaged], ids=lambda checkpoint: checkpoint.name
)
def test_packaged_weights_are_those_of_the_catalogue(checkpoint: Checkpoint) -> None:
    [status] = weights.verify(checkpoint)
    assert status.state == "ok"
    assert status.path.stat().st_size < 500_000


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder ../shared/data is not here")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("xpresso-human", "xpresso_human_median.h5"),
        ("xpresso-mouse", "xpresso_mouse_median.h5"),
        ("mpra-dragonn", "mpra_dragonn_conv.hdf5"),
    ],
)
def test_published_files_have_the_digest_and_size_of_the_catalogue(name: str, file: str) -> None:
    checkpoint = catalog.get(name)
    found = weights.locate(checkpoint, override=SHARED / file, require_published=True)
    assert found.published
    assert checkpoint.size == (SHARED / file).stat().st_size


def test_name_is_found_in_any_case() -> None:
    assert catalog.get("Xpresso-Human").name == "xpresso-human"


def test_unknown_name_is_an_error_with_close_ones() -> None:
    with pytest.raises(ModelError, match=r"no model 'xpresso-humn'\. Did you mean xpresso-human.*varfm models list"):
        catalog.get("xpresso-humn")


@pytest.mark.parametrize("value", [None, "0", "yes", ""])
def test_null_is_hidden_and_refused_outside_tests(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VARFM_TESTING", raising=False)
    if value is not None:
        monkeypatch.setenv("VARFM_TESTING", value)
    assert "null" not in [checkpoint.name for checkpoint in LISTED]
    with pytest.raises(ModelError, match="VARFM_TESTING=1"):
        catalog.get("null")


def test_null_is_there_for_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARFM_TESTING", "1")
    assert not catalog.get("null").needs_weights


def test_catalogue_loads_neither_torch_nor_a_model() -> None:
    code = "import sys, varfm.models.catalog; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for module in ("torch", "h5py", "pandas", "rich", "varfm.models.xpresso", "varfm.models.mini"):
        assert f"'{module}'" not in loaded
