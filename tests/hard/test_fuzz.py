"""Damaged inputs through every reader: a small part of what benchmarks/fuzz.py runs, and what it once found."""

from __future__ import annotations

import contextlib
import re
import struct
from pathlib import Path

import pytest
from fuzz_files import EXPECTO, VARIED, keras
from fuzz_targets import TARGETS, Finding, Target, genes_of
from fuzzing import damaged, fuzz

from varfm.checkpoints import LocalWeights
from varfm.cli import config
from varfm.errors import InputError, ModelError, OptionError, VarfmError
from varfm.models import ModelOptions, catalog, dnagpt
from varfm.models.loading import sizes
from varfm.models.settings import MAX_LAYERS, Settings
from varfm.readers import read_tensors

FEW = 12


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_are_read_or_refused(name: str) -> None:
    report = fuzz(name, TARGETS[name], range(FEW), seed=7)
    assert [(failure.number, failure.what) for failure in report.failures] == []
    assert report.n == FEW


def test_equal_seeds_give_equal_damage() -> None:
    target = TARGETS["vcf"]
    assert [damaged("vcf", target, n, 1) for n in range(9)] == [damaged("vcf", target, n, 1) for n in range(9)]
    assert len({damaged("vcf", target, n, 1) for n in range(9)}) > 5


@pytest.mark.parametrize("number", [129, 707])
def test_damage_does_not_pile_up(number: int) -> None:
    # A tokenizer is one line. Repeated 300 times more than once, it filled the memory of the fuzzer, not of a reader.
    assert len(damaged("tokenizer bpe", TARGETS["tokenizer bpe"], number, 1)) < 4 << 20


def _crash(path: Path) -> None:
    import ctypes

    if path.read_bytes() != VARIED:
        ctypes.string_at(0)


def _hang(path: Path) -> None:
    while path.read_bytes() != VARIED:
        pass


def _leak(path: Path) -> None:
    if path.read_bytes() != VARIED:
        raise ValueError("bad")


def _wrong(path: Path) -> None:
    if path.read_bytes() != VARIED:
        raise Finding("another result")


def _fault(path: Path) -> None:
    if path.read_bytes() != VARIED:
        raise VarfmError("a fault")


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (_crash, "by SIGSEGV"),
        (_leak, "ValueError: bad"),
        (_wrong, "another result"),
        (_fault, "a fault of varfm"),
        pytest.param(_hang, "more than 5 s", marks=pytest.mark.slow),
    ],
)
def test_fuzzer_sees_what_a_reader_must_not_do(read: object, said: str) -> None:
    report = fuzz("bad", Target((VARIED,), read), range(3), seed=1)  # type: ignore[arg-type]
    assert report.failures and said in report.failures[0].what
    assert report.failures[0].content == damaged("bad", Target((VARIED,), _wrong), report.failures[0].number, 1)


# What was found.


@pytest.mark.parametrize("damage", [EXPECTO.replace(b"chr1,+", b"chr\r1,+"), EXPECTO.replace(b"ENSG1", b"\rENSG1")])
def test_carriage_return_in_a_csv_is_refused_with_its_line(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "g.csv").write_bytes(damage)
    with pytest.raises(InputError, match=r"g\.csv, line 2: no row of a CSV"):
        genes_of(tmp_path / "g.csv")


def test_row_of_a_csv_that_ends_early_is_refused(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_bytes(EXPECTO + b"ENSG3,C\n")
    with pytest.raises(InputError, match="line 4: CAGE_representative_TSS '' on strand ''"):
        genes_of(tmp_path / "g.csv")


def test_shard_whose_name_no_disk_can_hold_is_refused(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "%s.safetensors"}}' % ("a" * 5000))
    with pytest.raises(ModelError, match=r"cannot be read \(File name too long\)"):
        read_tensors(index)


def test_heap_of_texts_that_libhdf5_would_walk_for_ever_is_refused(tmp_path: Path) -> None:
    keras(tmp_path / "w.h5")
    content = (tmp_path / "w.h5").read_bytes()
    heap = content.index(b"GCOL")
    free = content.index(struct.pack("<HHIQ", 0, 0, 0, 4096 - 16 - 24 - 48), heap)
    (tmp_path / "w.h5").write_bytes(content[: free + 8] + bytes(8) + content[free + 16 :])
    with pytest.raises(ModelError, match=r"damaged or cut HDF5 file \(the heap at byte [0-9,]+ is corrupt\)"):
        read_tensors(tmp_path / "w.h5")


@pytest.mark.parametrize("target", ["bed genes", "bed regions", "gff3", "expecto genes", "tracks basenji", "labels"])
@pytest.mark.parametrize("digits", ["9" * 5000, "\u0661"], ids=["many digits", "of another script"])
def test_numbers_that_int_would_trip_over_are_refused_or_passed_over(tmp_path: Path, target: str, digits: str) -> None:
    [content] = TARGETS[target].seeds
    path = tmp_path / TARGETS[target].name
    for found in re.finditer(rb"(?<![\w.])\d+(?![\w.])", content):
        path.write_bytes(content[: found.start()] + digits.encode() + content[found.end() :])
        with contextlib.suppress(VarfmError):
            TARGETS[target].read(path)


def test_deeply_nested_settings_are_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("[score]\nx = " + "[" * 5000)
    monkeypatch.setenv("VARFM_CONFIG", str(tmp_path / "config.toml"))
    with pytest.raises(OptionError, match="the settings are not TOML: maximum recursion depth"):
        config.default_map()


def test_message_that_quotes_a_long_input_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_bytes(EXPECTO.replace(b"100", b"[" * 5000))
    with pytest.raises(InputError) as caught:
        genes_of(tmp_path / "g.csv")
    said = str(caught.value)
    assert "line 2: CAGE" in said and said.endswith("Download the file again.") and len(said) < 1400


@pytest.mark.parametrize("content", ['{"width": ' * 100_000, '{"n_layers": 1001}', '{"n_layers": [2]}', "x"])
def test_sizes_that_no_network_has_are_refused(tmp_path: Path, content: str) -> None:
    config = tmp_path / "sizes.json"
    config.write_text(content)
    checkpoint = catalog.get("dnagpt-0.1b-h")
    weights = LocalWeights(tmp_path, "", published=False)
    with pytest.raises(ModelError, match=r"sizes\.json: "):
        sizes(dnagpt.config_of(checkpoint), weights, ModelOptions(model_config=config))


def test_a_number_of_layers_that_no_network_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="n_layer is 1001, expected a whole number from 1 to 1,000"):
        Settings({"n_layer": MAX_LAYERS + 1}, tmp_path, "Toy").layers("n_layer")
    assert Settings({"n_layer": MAX_LAYERS}, tmp_path, "Toy").layers("n_layer") == MAX_LAYERS
