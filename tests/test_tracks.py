"""Tests of varfm.tracks and `varfm tracks`: every published table, and what a user may ask of it."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from varfm.checkpoints import Checkpoint, TracksFormat
from varfm.cli.tracks import tracks as command
from varfm.download import RemoteFile
from varfm.errors import ModelError, OptionError
from varfm.models import catalog
from varfm.tracks import Track, choose, load_tracks, read_tracks

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the folder ../shared/data is not here")

CROSS2020 = (
    "index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription\n"
    "5313\t1\tENCFF1\t/authors/x.w5\t32\t2\tmean\tDNASE:B cell\n"
    "5314\t1\tCNhs2\t/authors/y.w5\t384\t1\tsum\tCAGE:liver, adult, pool1\n"
)
WIGS = "ENC1\t/authors/x.h5\tDNASE:GM12878\nCNhs1\t/authors/y.h5\tCAGE:liver\nENC2\t/authors/z.h5\n"
DEEPSEA = "8988T|DNase|None\nIshikawa|DNase|Estradiol_100nM_1hr\n"
UNDERSCORES = "8988T_DNase_None\nIshikawa_DNase_Estradiol_100nM_1hr\n"
BELUGA = (
    "\tCell type\tAssay\tTreatment\tAssay type\tSource\t\r\n"
    "1\t8988T\tDNase\t\tDNase\tENCODE\t./x.narrowPeak.gz\r\n"
    "2\tA549\tATF3\tEtOH_0.02pct\tTF\tENCODE\t./y.narrowPeak.gz"
)
BASSET = "8988T\tencode/x.gz\nPANC \troadmap/y.gz\n"
SEI = "HeLa | BTAF1 | ID:1\nHeLa | BTAF1 | ID:1 | 2\n"
EXPECTO = "ModelName\tTissue\n./models/a.save\tAdipose Subcutaneous\n./models/u.save\tUterus | ENCODE\n"
TABLES: dict[TracksFormat, str] = {
    "basenji": CROSS2020,
    "basenji2018": WIGS,
    "deepsea": DEEPSEA,
    "beluga": BELUGA,
    "basset": BASSET,
    "sei": SEI,
    "expecto": EXPECTO,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VARFM_OFFLINE", raising=False)
    return tmp_path / "cache" / "weights"


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)


def read(tmp_path: Path, format: TracksFormat, text: str | bytes, n: int | None = None) -> tuple[Track, ...]:
    path = tmp_path / "table"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_tracks(path, format, n)


def test_tracks_of_2020_count_from_0_and_have_the_assay_as_group(tmp_path: Path) -> None:
    first, second = read(tmp_path, "basenji", CROSS2020, 2)
    assert (first.index, first.name, first.group) == (0, "DNASE:B cell", "DNASE")
    assert (second.index, second.name, second.group) == (1, "CAGE:liver, adult, pool1", "CAGE")
    assert dict(second.facts) == {
        "identifier": "CNhs2",
        "clip": "384",
        "scale": "1",
        "sum_stat": "sum",
        "genome": "1",
    }


def test_path_on_the_authors_machine_is_not_shown(tmp_path: Path) -> None:
    for format in ("basenji", "basenji2018"):
        assert not any("/authors" in repr(track) for track in read(tmp_path, format, TABLES[format]))


def test_columns_of_2020_are_found_by_name(tmp_path: Path) -> None:
    [track] = read(tmp_path, "basenji", "description\tidentifier\tindex\nCHIP:CTCF:K562\tENC\t7\n")
    assert track == Track(0, "CHIP:CTCF:K562", "CHIP", "identifier ENC", (("identifier", "ENC"),))


def test_tracks_of_2018_have_their_label_or_else_their_identifier(tmp_path: Path) -> None:
    tracks = read(tmp_path, "basenji2018", WIGS)
    assert [(track.name, track.group) for track in tracks] == [
        ("DNASE:GM12878", "DNASE"),
        ("CAGE:liver", "CAGE"),
        ("ENC2", ""),
    ]
    assert tracks[1].facts == (("identifier", "CNhs1"),)


def test_deepsea_features_are_split_where_that_is_certain(tmp_path: Path) -> None:
    first, second = read(tmp_path, "deepsea", DEEPSEA)
    assert first == Track(0, "8988T|DNase|None", "DNase", "DNase in 8988T")
    assert second.description == "DNase in Ishikawa, Estradiol_100nM_1hr"
    first, second = read(tmp_path, "deepsea", UNDERSCORES)
    assert first == Track(0, "8988T_DNase_None", "DNase", "DNase in 8988T")
    assert second == Track(1, "Ishikawa_DNase_Estradiol_100nM_1hr", "", "")


def test_beluga_features_are_named_as_those_of_deepsea(tmp_path: Path) -> None:
    first, second = read(tmp_path, "beluga", BELUGA, 2)
    assert (first.name, first.group) == ("8988T|DNase|None", "DNase")
    assert (second.name, second.description) == ("A549|ATF3|EtOH_0.02pct", "ATF3 in A549, EtOH_0.02pct")
    assert second.facts == (("assay_type", "TF"), ("source", "ENCODE"))


def test_basset_names_are_shown_as_they_are(tmp_path: Path) -> None:
    assert [track.name for track in read(tmp_path, "basset", BASSET)] == ["8988T", "PANC "]


def test_sei_profiles_with_a_replicate_number_are_told_apart(tmp_path: Path) -> None:
    first, second = read(tmp_path, "sei", SEI)
    assert (first.name, first.group, first.facts) == ("HeLa | BTAF1 | ID:1", "BTAF1", (("source", "ID:1"),))
    assert second.facts == (("source", "ID:1"), ("replicate", "2"))


def test_expecto_tissues_know_their_model(tmp_path: Path) -> None:
    tracks = read(tmp_path, "expecto", EXPECTO)
    assert [track.name for track in tracks] == ["Adipose Subcutaneous", "Uterus | ENCODE"]
    assert tracks[0].facts == (("model", "models/a.save"),)


@pytest.mark.parametrize(
    ("format", "text", "line"),
    [
        ("basenji", "identifier\tdescription\nx\ty\n", 1),
        ("basenji", "index\tindex\tidentifier\tdescription\n", 1),
        ("basenji", CROSS2020 + "5316\t1\ta\tb\t1\t1\tsum\tCAGE:x\n", 4),
        ("basenji", CROSS2020 + "x\t1\ta\tb\t1\t1\tsum\tCAGE:x\n", 4),
        ("basenji", CROSS2020 + "5315\t1\ta\tb\t1\t1\tsum\t\n", 4),
        ("basenji", CROSS2020 + "\n5315\t1\ta\tb\t1\t1\tsum\tCAGE:x\n", 4),
        ("basenji2018", "one\n", 1),
        ("basenji2018", WIGS + "a\tb\tc\td\n", 4),
        ("deepsea", DEEPSEA + "a|b\n", 3),
        ("deepsea", DEEPSEA + "a|b|c|d\n", 3),
        ("deepsea", DEEPSEA + "|b|c\n", 3),
        ("deepsea", UNDERSCORES + "a_b\n", 3),
        ("beluga", BELUGA.replace("Cell type", "Cell"), 1),
        ("beluga", BELUGA.replace("\n2", "\n3"), 3),
        ("beluga", BELUGA.replace("A549", ""), 3),
        ("basset", BASSET + "\tx\n", 3),
        ("basset", BASSET + "x\n", 3),
        ("sei", SEI + "a | b\n", 3),
        ("expecto", EXPECTO.removeprefix("ModelName"), 1),
        ("expecto", EXPECTO + "./models/a.save\t\n", 4),
    ],
)
def test_line_that_does_not_fit_is_an_error_with_its_number(
    tmp_path: Path, format: TracksFormat, text: str, line: int
) -> None:
    with pytest.raises(ModelError, match=rf"table, line {line}: expected .*; the line is .*Fetch the table again\.$"):
        read(tmp_path, format, text)


@pytest.mark.parametrize(
    ("text", "said"), [(b"", "0 tracks"), (b"a\tb\n", "1 track, expected 2"), (b"\xff\tb\n", "byte 0 is not UTF-8")]
)
def test_table_that_is_empty_of_another_model_or_no_text_is_an_error(tmp_path: Path, text: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read(tmp_path, "basset", text, 2)
    with pytest.raises(ModelError, match="cannot be read"):
        read_tracks(tmp_path / "absent", "basset")


@needs_shared
@pytest.mark.parametrize(
    ("file", "format", "groups"),
    [
        ("targets_human.txt", "basenji", {"DNASE": 674, "ATAC": 10, "CHIP": 3991, "CAGE": 638}),
        ("targets_mouse.txt", "basenji", {"DNASE": 101, "ATAC": 127, "CHIP": 1058, "CAGE": 357}),
        ("basset_targets.txt", "basset", {"DNase": 164}),
    ],
)
def test_published_tables_have_the_groups_that_their_authors_counted(
    file: str, format: TracksFormat, groups: dict[str, int]
) -> None:
    assert Counter(track.group for track in read_tracks(SHARED / file, format, sum(groups.values()))) == groups


@needs_shared
def test_published_deepsea_table_with_underscores_is_read() -> None:
    tracks = read_tracks(SHARED / "deepsea_919_predictor_names.txt", "deepsea", 919)
    assert (tracks[918].index, tracks[918].name) == (918, "Osteoblasts_H3K9me3_None")


TRACKS = (
    Track(0, "CAGE:liver", "CAGE", "", (("identifier", "CNhs1"),)),
    Track(1, "CAGE:liver", "CAGE", "", (("identifier", "CNhs2"),)),
    Track(2, "2", "", "DNase in [K562]"),
    Track(3, "DNASE:K562", "DNASE", ""),
)


@pytest.mark.parametrize(
    ("asked", "indices"),
    [
        (["3", "0"], (0, 3)),
        (["CAGE:liver"], (0, 1)),
        (["2"], (2,)),
        (["cage.*LIVER"], (0, 1)),
        (["cnhs2"], (1,)),
        (["k562"], (2, 3)),
        (["CNhs1", "0", "DNASE"], (0, 2, 3)),
    ],
)
def test_tracks_are_chosen_by_index_name_or_pattern(asked: list[str], indices: tuple[int, ...]) -> None:
    assert choose("enformer", TRACKS, asked) == indices


@pytest.mark.parametrize("asked", ["brain", "4", "[", "", " "])
def test_choice_that_fits_nothing_is_an_error_that_says_what_to_do(asked: str) -> None:
    with pytest.raises(OptionError, match=r"^--tracks .*(varfm tracks enformer|regular expression)"):
        choose("enformer", TRACKS, [asked])


def toy(text: str = BASSET, name: str = "basset") -> Checkpoint:
    content = text.encode()
    weights = RemoteFile("w.pth", ("https://example.org/w.pth",), None, None)
    digest = hashlib.sha256(content).hexdigest()
    table = RemoteFile("t.txt", ("https://example.org/t.txt",), digest, len(content), role="table")
    return Checkpoint(
        name=name,
        module="toy",
        files=(weights, table),
        licence="MIT",
        commercial=True,
        paper="Toy 2020",
        source="https://example.org",
        assembly="",
        window=10,
        index=5,
        reads="nothing",
        scores="nothing",
        strands="both",
        n_outputs=2,
        tracks_file="t.txt",
        tracks_format="basset",
    )


def test_table_in_the_cache_is_read_without_the_weights(cache: Path) -> None:
    (cache / "basset").mkdir(parents=True)
    (cache / "basset" / "t.txt").write_text(BASSET)
    assert len(load_tracks(toy(), offline=True)) == 2
    (cache / "basset" / "t.txt").write_text(BASSET.replace("8988T", "9988T"))
    with pytest.raises(ModelError, match=r"is damaged.*varfm models download basset --tables"):
        load_tracks(toy(), offline=True)


def test_table_that_is_not_here_names_its_file_and_the_command() -> None:
    with pytest.raises(ModelError, match=r"basset needs t\.txt \(37 bytes\), not in the cache.*--offline.*--tables$"):
        load_tracks(toy(), offline=True)


def test_table_that_is_not_here_is_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(file: RemoteFile, folder: Path, **others: object) -> None:
        folder.mkdir(parents=True)
        (folder / file.name).write_text(BASSET)

    monkeypatch.setattr("varfm.weights.fetch", fetch)
    assert [track.name for track in load_tracks(toy())] == ["8988T", "PANC "]
    assert [path.name for path in (cache / "basset").iterdir()] == ["t.txt"]


def test_table_beside_local_weights_comes_first(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("only\tone\n")
    for override in (tmp_path, tmp_path / "w.pth"):
        assert [track.name for track in load_tracks(toy(), override=override, offline=True)] == ["only"]


def call(*args: str) -> str:
    result = CliRunner().invoke(command, args, catch_exceptions=False, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


@needs_shared
def test_command_prints_whole_names_as_tsv_without_any_weights() -> None:
    lines = call("enformer", "cage.*liver", "--weights", str(SHARED), "--offline").splitlines()
    assert lines[0] == "index\tname\tgroup\tdescription"
    assert [line.split("\t")[:3] for line in lines[1:]] == [
        ["4686", "CAGE:liver, adult, pool1", "CAGE"],
        ["4982", "CAGE:liver, fetal, pool1", "CAGE"],
    ]
    assert len(call("enformer-mouse", "--weights", str(SHARED)).splitlines()) == 1644


def test_command_serves_models_that_bring_their_names() -> None:
    lines = call("mpra-dragonn", "hepg2.*pooled").splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == ["8", "11"]


def test_command_says_which_small_file_is_missing() -> None:
    with pytest.raises(ModelError, match=r"enformer needs targets_human\.txt .*models download enformer --tables$"):
        call("enformer", "--offline")


def test_command_says_that_there_are_no_such_weights_before_any_table_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nosuch: there is no such file"):
        call("enformer", "--weights", str(tmp_path / "nosuch"))


def test_command_refuses_patterns_that_are_none_or_fit_nothing() -> None:
    with pytest.raises(OptionError, match=r"no regular expression"):
        call("mini", "[")
    with pytest.raises(OptionError, match=r"no track of mini matches"):
        call("mini", "liver")


def test_control_characters_of_a_table_never_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "get", lambda name: toy())
    (tmp_path / "t.txt").write_text("evil\x1b[31m\tx\n")
    assert "\x1b" not in call("toy", "--weights", str(tmp_path))
    assert "evil\\x1b[31m" in call("toy", "--weights", str(tmp_path))


def test_command_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "targets.txt").write_text(BASSET)
    code = (
        "import sys; from varfm.cli.tracks import tracks\n"
        f"tracks(['basset', '--weights', {str(tmp_path)!r}], standalone_mode=False)\n"
        "print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "8988T" in done.stdout
    for module in ("torch", "h5py", "pandas", "varfm.models.basset"):
        assert f"'{module}'" not in done.stderr
