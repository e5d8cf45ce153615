"""Tests of `varfm models` and `varfm completion`, called in this process."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from varfm import weights
from varfm.cli import models as commands
from varfm.cli.completion import completion
from varfm.cli.main import run
from varfm.cli.models import models
from varfm.errors import ModelError
from varfm.https import Progress
from varfm.models import catalog, describe

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
HEADER = "name\twindow\tindex\toutputs\treads\tscores\tlicence\tsize_bytes\tparameters\there"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path))
    monkeypatch.delenv("VARFM_OFFLINE", raising=False)
    return tmp_path / "weights"


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.fixture
def mpra_file(cache: Path) -> Path:
    """Put the published file of mpra-dragonn into the cache."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared/data is not here")
    (cache / "mpra-dragonn").mkdir(parents=True)
    return Path(shutil.copyfile(SHARED / "mpra_dragonn_conv.hdf5", cache / "mpra-dragonn" / "pretrained.hdf5"))


def call(*args: str) -> tuple[str, str]:
    """Give what a call writes to stdout and to stderr; its errors are raised."""
    result = CliRunner().invoke(models, args, catch_exceptions=False, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout, result.stderr


def test_list_off_a_terminal_is_tsv_with_one_header_line() -> None:
    lines = call("list")[0].splitlines()
    assert lines[0] == HEADER
    assert [line.split("\t")[0] for line in lines[1:]] == [checkpoint.name for checkpoint in catalog.listed()]
    assert {line.count("\t") for line in lines} == {9}
    [xpresso] = [line for line in lines if line.startswith("xpresso-human\t")]
    assert xpresso.split("\t")[1:4] == ["10500", "7000", "1"]
    assert xpresso.split("\t")[6:] == ["MIT", "1392384", "112357", "no"]


def test_list_shows_what_is_here(mpra_file: Path) -> None:
    here = {line.split("\t")[0]: line.split("\t")[-1] for line in call("list")[0].splitlines()}
    assert (here["mpra-dragonn"], here["xpresso-human"]) == ("yes", "no")


def test_list_on_a_terminal_is_a_table_that_folds_and_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    commands._print_table([commands._row(checkpoint) for checkpoint in catalog.listed()])
    shown = capsys.readouterr().out
    assert "\t" not in shown and "…" not in shown
    assert all(checkpoint.name in shown for checkpoint in catalog.listed())


def test_info_gives_addresses_digest_and_every_score() -> None:
    lines = call("info", "xpresso-human")[0].splitlines()
    fields = dict(line.split("\t") for line in lines)
    assert fields["sha256"] == "15a383648008df5f843ec8651e78be5faf82609c88fb068da890aa7a89387bb0"
    assert fields["address"].startswith("https://raw.githubusercontent.com/vagarwal87/Xpresso/")
    assert fields["licence"] == "MIT" and "10.1016/j.celrep.2020.107663" in fields["paper"]
    assert [line.split("\t")[1] for line in lines if line.startswith("score\t")] == [
        column.name for column in describe("xpresso-human")
    ]
    assert {"meaning", "formula", "sign", "unit"} <= fields.keys()


def test_info_gives_every_file_md5_and_copies_of_a_model_with_several() -> None:
    lines = [tuple(line.split("\t")) for line in call("info", "deepsea")[0].splitlines()]
    assert ("file", "deepsea_predict.pth") in lines and ("file", "predictor.names") in lines
    assert ("md5", "89e640bf6bdbe1ff165f484d9796efc7") in lines
    assert ("same weights", "deepsea.cpu") in lines and ("member", "DeepSEA-v0.94b/deepsea.cpu") in lines
    assert {"outputs", "parameters", "memory", "verified"} <= {line[0] for line in lines}


def test_info_shows_one_of_many_files_of_a_folder() -> None:
    lines = [line.split("\t") for line in call("info", "expecto")[0].splitlines()]
    assert ["files", "218 in models/, of which the first is"] in lines
    assert sum(line[0] == "file" for line in lines) == 3


@pytest.mark.parametrize("words", [("list",), ("info", "enformer"), ("verify", "mini"), ("path", "mini")])
def test_commands_that_load_nothing_need_no_torch(words: tuple[str, ...]) -> None:
    code = (
        "import sys; from varfm.cli.models import models\n"
        f"models({list(words)!r}, standalone_mode=False); print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout
    for module in ("torch", "pandas", "h5py", "safetensors", "varfm.models.enformer", "varfm.models.mini"):
        assert f"'{module}'" not in done.stderr


def test_info_prints_quantiles_in_order_where_they_were_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = describe("xpresso-mouse")[0].name
    measured = {"set": "toy set", "n": 3, "scores": {column: {"99": 1.5, "5": -0.25, "50": 0}}}
    folder = tmp_path / "models" / "data"
    folder.mkdir(parents=True)
    (folder / "xpresso-mouse_quantiles.json").write_text(json.dumps(measured))
    monkeypatch.setattr(commands.resources, "files", lambda package: tmp_path)
    assert "quantiles\t5% -0.25, 50% 0, 99% 1.5 (n = 3, toy set)" in call("info", "xpresso-mouse")[0].splitlines()


@pytest.mark.parametrize("command", ["info", "path", "download", "verify"])
def test_unknown_model_is_a_model_error(command: str) -> None:
    with pytest.raises(ModelError, match="There is no model 'nope'"):
        call(command, "nope")


def test_download_keeps_what_is_right_and_says_where_it_is(mpra_file: Path, no_sockets: None) -> None:
    out, err = call("download", "mpra-dragonn")
    assert out == ""
    assert err.splitlines()[0].startswith("mpra-dragonn: licence MIT; please cite Movva")
    assert err.splitlines()[1] == f"mpra-dragonn: 1.4 MB, sha256 as published, in {mpra_file}"


@pytest.mark.parametrize("way", ["option", "environment"])
def test_download_offline_opens_no_socket(way: str, no_sockets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "environment":
        monkeypatch.setenv("VARFM_OFFLINE", "1")
    with pytest.raises(ModelError, match="--offline forbids"):
        call("download", "xpresso-human", *(["--offline"] if way == "option" else []))


def test_download_of_a_packaged_model_has_nothing_to_do(no_sockets: None) -> None:
    assert call("download", "mini") == ("", "mini ships with varfm; there is nothing to download.\n")


def test_tables_alone_are_downloaded_for_the_search_of_tracks(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    monkeypatch.setattr("varfm.weights.fetch", lambda file, folder, **others: fetched.append(file.name))
    out, err = call("download", "sei", "--tables")
    assert (out, fetched) == ("", ["target.names", "seqclass.names"])
    assert "NOT FOR COMMERCIAL USE" in err.splitlines()[0]
    assert err.splitlines()[1:] == [f"sei: {cache / 'sei' / name}" for name in fetched]
    assert "no table to download" in call("download", "mpra-dragonn", "--tables")[1]


def test_tables_are_named_where_no_connection_may_be_opened(no_sockets: None) -> None:
    with pytest.raises(ModelError, match=r"basenji2 needs targets_human\.txt \(801 kB\).*--offline forbids"):
        call("download", "basenji2", "--tables", "--offline")


def test_progress_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with commands._shown_progress() as transport:
        assert transport.progress is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with commands._shown_progress() as transport:
        assert transport.progress is not None
        transport.progress(Progress("[w].h5", 1, 2))
        transport.progress(Progress("[w].h5", 2, 2))


def test_verify_prints_the_state_of_each_file(mpra_file: Path) -> None:
    lines = call("verify", "mpra-dragonn")[0].splitlines()
    digest = "27eb5aee40317b012a17a6a409f545825292eb1787c2ad506d6d37b97990f006"
    assert lines == ["name\tfile\tstate\tsha256", f"mpra-dragonn\t{mpra_file}\tok\t{digest}"]


def test_verify_without_names_looks_at_what_is_here(mpra_file: Path) -> None:
    names = {line.split("\t")[0] for line in call("verify")[0].splitlines()[1:]}
    assert "mpra-dragonn" in names and "xpresso-human" not in names


def test_verify_ends_with_an_error_that_names_the_cure(mpra_file: Path) -> None:
    with open(mpra_file, "r+b") as file:
        file.seek(700_000)
        file.write(b"\xff")
    with pytest.raises(ModelError, match=r"mpra-dragonn are not right.*varfm models download mpra-dragonn"):
        call("verify", "mpra-dragonn")
    with pytest.raises(ModelError, match="xpresso-human are not right"):
        call("verify", "xpresso-human")


def test_verify_judges_by_md5_where_no_sha256_was_published(cache: Path) -> None:
    (cache / "basset").mkdir(parents=True)
    (cache / "basset" / "pretrained_model_reloaded_th.pth").write_bytes(b"other")
    (cache / "basset" / "targets.txt").write_bytes(b"other")
    with pytest.raises(ModelError, match="basset are not right"):
        call("verify", "basset")
    assert [status.state for status in weights.verify(catalog.get("basset"))] == ["wrong", "wrong"]


def test_path_prints_the_file_alone(mpra_file: Path) -> None:
    assert call("path", "mpra-dragonn") == (f"{mpra_file}\n", "")
    with pytest.raises(ModelError, match="varfm models download xpresso-mouse"):
        call("path", "xpresso-mouse")


def test_model_names_are_completed() -> None:
    context = click.Context(models)
    items = commands._complete_name(context, commands.info.params[0], "Xp")
    assert [item.value for item in items] == ["xpresso-human", "xpresso-mouse"]


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete -o"), ("zsh", "#compdef varfm"), ("fish", "--command varfm")]
)
def test_completion_prints_the_script_of_the_shell(shell: str, mark: str) -> None:
    result = CliRunner().invoke(completion, [shell])
    assert result.exit_code == 0
    assert mark in result.stdout and f"_VARFM_COMPLETE={shell}_complete" in result.stdout


def test_completion_of_an_unknown_shell_is_a_usage_error() -> None:
    assert CliRunner().invoke(completion, ["tcsh"]).exit_code == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_bash_accepts_the_script() -> None:
    script = CliRunner().invoke(completion, ["bash"]).stdout
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_convert_does_not_speak_of_an_option_that_it_lacks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.pth"
    assert run(["models", "convert", "basset", str(missing), str(tmp_path / "out.safetensors")]) == 4
    expected = f"varfm: error: {missing}: there is no such file. Give a local copy of basset.\n"
    assert capfd.readouterr().err == expected
