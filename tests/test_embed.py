"""`varfm embed`: every allele accounted for, in order, with the embeddings that distances are made of."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from small_languages import SMALL, small_folder
from toys import vcf_text, write_fasta

from varfm.cli.embed import embed
from varfm.cli.main import run as varfm
from varfm.io.table import open_table, pack_rows
from varfm.models import ModelOptions
from varfm.session import Session, SessionOptions

BASES = "GATTACAGGTACCATGCAATTGCCGATAACGTTAGCATGCCTAGGATCCAATGCAAGT" * 12
HYENA = "hyenadna-tiny-1k-seqlen"
DNABERT = "dnabert-3"


def other(base: str) -> str:
    return "ACGT"[base == "A"]


RECORDS = [
    ("c", 301, BASES[300], other(BASES[300])),
    ("c", 301, BASES[300], f"{BASES[300]}GA,*,{other(BASES[300])}"),
    ("c", 30, BASES[29], other(BASES[29])),
    ("d", 5, "A", "C"),
    ("c", 310, BASES[309:312], BASES[309]),
    ("c", 400, other(BASES[399]), BASES[399]),
    ("c", 410, BASES[409], BASES[409]),
    ("c", 420, BASES[419], "<DEL>"),
]
WORDS = ["OK", "OK", "STAR", "OK", "PADDED", "NO_CONTIG", "OK", "REF_MISMATCH", "OK", "SYMBOLIC"]


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    fasta = write_fasta(tmp_path, {"c": BASES})
    (tmp_path / "in.vcf").write_text(vcf_text(RECORDS))
    return [str(tmp_path / "in.vcf"), "-f", str(fasta)]


def language(name: str) -> list[str]:
    return ["-m", name, "--weights", str(small_folder(name)), "--window", str(SMALL[name].window), "--threads", "1"]


def numbers(column: pd.Series[Any], width: int) -> NDArray[np.float32]:
    """Stack a column of lists; NaN where there is none."""
    none = np.full(width, np.nan, np.float32)
    return np.stack([none if value is None else value for value in column])


def test_every_allele_has_its_row_in_order_with_its_status(given: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert varfm(["embed", *given, *language(DNABERT), "-o", str(out)]) == 0
    table = pd.read_parquet(out)
    assert table["status"].tolist() == WORDS
    assert table["pos"].tolist() == [301, 301, 301, 301, 30, 5, 310, 400, 410, 420]
    assert table["alt"].tolist()[1:4] == [f"{BASES[300]}GA", "*", other(BASES[300])]
    read = [word in ("OK", "PADDED") for word in WORDS]
    for name in ("ref_embedding", "alt_embedding"):
        assert [value is not None and len(value) == 24 for value in table[name]] == read
    assert np.array_equal(table["ref_embedding"][8], table["alt_embedding"][8])  # ALT equal to REF
    assert np.array_equal(table["alt_embedding"][0], table["alt_embedding"][3])
    assert not np.array_equal(table["ref_embedding"][0], table["alt_embedding"][0])
    counts = json.loads((tmp_path / "out.parquet.varfm.json").read_text())["counts"]
    assert (counts["records"], counts["alleles"]) == (8, 10)


@pytest.mark.parametrize(
    "name", [HYENA, DNABERT, "dnabert-2-117m", "phylogpn", "caduceus-ps_seqlen-131k_d_model-256_n_layer-16"]
)
def test_distances_of_embeddings_are_the_scores(name: str, given: list[str], tmp_path: Path) -> None:
    out, scores = tmp_path / "out.npz", tmp_path / "out.tsv"
    common = [*given, *language(name)]
    if "caduceus" not in name:
        common += ["--strands", "forward"]
    assert varfm(["embed", *common, "-o", str(out)]) == 0
    assert varfm(["score", *common, "-o", str(scores), "--scores", "L2,COSINE"]) == 0
    table, found = pd.read_csv(scores, sep="\t", na_values="."), np.load(out)
    ref, alt = (found[f"{allele}_embedding"].astype(np.float64) for allele in ("ref", "alt"))
    assert found["status"].tolist() == WORDS
    unsupported = (table["status"] == "UNSUPPORTED_KIND").to_numpy()  # to its score, but not to embed
    assert [*table["status"][~unsupported]] == [word for word, no in zip(WORDS, unsupported, strict=True) if not no]
    assert np.array_equal(np.isnan(ref).all(1), [word not in ("OK", "PADDED") for word in WORDS])
    ref[unsupported] = np.nan
    cosine = 1 - (ref * alt).sum(1) / np.linalg.norm(ref, axis=1) / np.linalg.norm(alt, axis=1)
    scale = np.nanmax(np.abs(ref))
    assert np.allclose(np.linalg.norm(alt - ref, axis=1), table["L2"], rtol=1e-4, atol=1e-5 * scale, equal_nan=True)
    assert np.allclose(cosine, table["COSINE"], rtol=1e-3, atol=1e-6, equal_nan=True)
    assert table["L2"].iloc[0] > 1e-3


def test_both_strands_are_averaged(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    flipped = write_fasta(tmp_path / "other", {"c": BASES[::-1].translate(str.maketrans("ACGT", "TGCA"))})
    at = len(BASES) - 301
    complement = str.maketrans("ACGT", "TGCA")
    ref, alt = BASES[300].translate(complement), other(BASES[300]).translate(complement)
    (tmp_path / "other.vcf").write_text(vcf_text([("c", at + 1, ref, alt)]))
    there = [str(tmp_path / "other.vcf"), "-f", str(flipped)]
    found = {}
    for name, inputs, strands in (("both", given, "both"), ("plus", given, "forward"), ("minus", there, "forward")):
        out = tmp_path / f"{name}.npz"
        # An odd window, so that the allele is in its middle on either strand.
        options = ["--window", "95", "--strands", strands, "-o", str(out)]
        assert varfm(["embed", *inputs, *language(DNABERT), *options]) == 0
        found[name] = np.load(out)["alt_embedding"][0]
    assert np.allclose(found["both"], (found["plus"] + found["minus"]) / 2, atol=1e-5)


def test_both_formats_hold_the_same_and_equal_runs_give_equal_bytes(given: list[str], tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz", "a.parquet", "b.parquet"):
        assert varfm(["embed", *given, *language(HYENA), "-o", str(tmp_path / name)]) == 0
    for kind in ("npz", "parquet"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    arrays, table = np.load(tmp_path / "a.npz"), pd.read_parquet(tmp_path / "a.parquet")
    for name in ("contig", "pos", "ref", "alt", "status"):
        assert arrays[name].tolist() == table[name].tolist()
    for name in ("ref_embedding", "alt_embedding"):
        assert np.array_equal(arrays[name], numbers(table[name], 16), equal_nan=True)


def test_row_groups_do_not_depend_on_blocks(given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    from varfm.io import embeddings

    monkeypatch.setattr(embeddings, "_GROUP_VALUES", 1)
    records = [("c", 100 + n, BASES[99 + n], other(BASES[99 + n])) for n in range(300)]
    Path(given[0]).write_text(vcf_text(records))
    options = ["--strands", "forward", "--window", "24"]
    for name, more in (("a", []), ("b", ["--batch-size", "1"])):
        out = tmp_path / f"{name}.parquet"
        assert varfm(["embed", *given, *language(HYENA), *options, *more, "-o", str(out)]) == 0
        about = parquet.read_metadata(out)
        assert [about.row_group(n).num_rows for n in range(about.num_row_groups)] == [256, 44]
    assert pd.read_parquet(out)["pos"].tolist() == [record[1] for record in records]


def test_an_empty_input_gives_an_empty_file(given: list[str], tmp_path: Path) -> None:
    Path(given[0]).write_text(vcf_text([]))
    for name in ("out.npz", "out.parquet"):
        assert varfm(["embed", *given, *language(HYENA), "-o", str(tmp_path / name)]) == 0
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 0
    assert np.load(tmp_path / "out.npz")["alt_embedding"].shape == (0, 16)


def test_only_a_language_model_and_a_known_format_are_taken(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert varfm(["embed", *given, "-m", "mini", "-o", str(tmp_path / "out.npz")]) == 2
    assert "mini is no language model and has no embeddings" in capsys.readouterr().err
    assert varfm(["embed", *given, *language(HYENA), "-o", str(tmp_path / "out.tsv")]) == 2
    assert "ends in .parquet or .npz" in capsys.readouterr().err
    assert varfm(["score", *given, "--table", str(tmp_path / "out.npz"), "-o", str(tmp_path / "o.vcf")]) == 2
    assert "the suffix names no table" in capsys.readouterr().err
    assert varfm(["embed", *given, "-o", str(tmp_path / "out.npz")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == []


def test_half_precision_is_offered_but_no_mixture_of_two(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", *given, *language(HYENA)]
    assert varfm([*words, "-o", str(tmp_path / "mixed.parquet"), "--precision", "mixed"]) == 2
    assert "'mixed' is not one of 'float32', 'bfloat16'" in " ".join(capsys.readouterr().err.split())
    for precision in ("float32", "bfloat16"):
        assert varfm([*words, "-o", str(tmp_path / f"{precision}.parquet"), "--precision", precision]) == 0
    whole, half = (
        np.stack(pd.read_parquet(tmp_path / f"{precision}.parquet")["ref_embedding"].dropna())
        for precision in ("float32", "bfloat16")
    )
    assert 0 < np.abs(half - whole).max() < 0.1 * np.abs(whole).max()


def test_nothing_is_left_behind_when_a_run_fails(given: list[str], tmp_path: Path) -> None:
    with open(given[0], "a") as file:
        file.write("c\tx\t.\tA\tC\t.\t.\t.\n")
    for name in ("out.npz", "out.parquet"):
        assert varfm(["embed", *given, *language(HYENA), "-o", str(tmp_path / name)]) == 3
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_example_of_the_help_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = re.search(r"^ +varfm (embed .*)$", embed.help or "", re.M)
    assert words
    shutil.copytree(Path(__file__).parents[1] / "example_data", tmp_path / "example_data")
    monkeypatch.chdir(tmp_path)
    for name, value in (("WEIGHTS", small_folder(HYENA)), ("WINDOW", 96), ("OFFLINE", 1), ("THREADS", 1)):
        monkeypatch.setenv(f"VARFM_{name}", str(value))
    assert varfm(words[1].split()) == 0
    assert len(pd.read_parquet("out.parquet")) == 80


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_packed_rows_make_the_same_file(suffix: str, given: list[str], tmp_path: Path) -> None:
    chosen = ModelOptions(weights=small_folder(HYENA), offline=True, window=96, embeddings=True)
    options = SessionOptions(given[0], given[2], (HYENA,), chosen, threads=1)
    written, packed = (tmp_path / f"{name}.{suffix}" for name in ("written", "packed"))
    with Session(options) as session:
        writers = [open_table(path, session.models[0], force=False) for path in (written, packed)]
        for item in session:
            row = session.models[0], item.block, item.alleles, item.scored[0]
            writers[0].write(*row[1:])
            writers[1].add(pack_rows(packed, *row))
        for writer in writers:
            writer.seal()
            writer.publish()
    assert written.read_bytes() == packed.read_bytes()


def test_a_resumed_run_gives_the_same_file(given: list[str], tmp_path: Path) -> None:
    for kind in ("npz", "parquet"):
        plain, resumed = (tmp_path / f"{name}.{kind}" for name in ("plain", "resumed"))
        assert varfm(["embed", *given, *language(HYENA), "-o", str(plain)]) == 0
        assert varfm(["embed", *given, *language(HYENA), "-o", str(resumed), "--resume"]) == 0
        assert plain.read_bytes() == resumed.read_bytes()
