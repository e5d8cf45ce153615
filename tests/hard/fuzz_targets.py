"""Every reader of varfm with good files to damage, as the fuzzer calls them."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
import random
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from fuzz_files import (
    BED,
    EXPECTO,
    GENOME,
    GFF3,
    GTF,
    LABELS,
    SAMPLES,
    TRACKS,
    VARIED,
    VCFS,
    WEIGHT,
    keras,
    pickle_of,
    tar,
    torch7,
    torch_file,
    written,
    zip_members,
)  # fmt: skip
from mutation import fuzzed
from small_languages import GPN_TOKENIZER, SMALL
from test_bpe import toy, with_long_runs
from vcf_bytes import GOOD, bgzf, without_annotation
from writers import write_tf_bundle, write_xgboost_linear

from varfm import converted
from varfm.checkpoints import LocalWeights
from varfm.cli import config
from varfm.cli.main import run
from varfm.contigs import ContigMap, read_contig_map
from varfm.encoding.bpe import read_bpe
from varfm.encoding.characters import read_characters
from varfm.encoding.kmers import OverlappingKmers, check_vocabulary
from varfm.errors import InputError
from varfm.genes import read_genes
from varfm.genome import Genome
from varfm.io.htslib import bcf_of_text
from varfm.labels import read_labels
from varfm.manifest import read_manifest
from varfm.models import ModelOptions, catalog
from varfm.models.loading import sizes
from varfm.models.zero_shot import published_sizes
from varfm.readers import read_tensors, tf_bundle
from varfm.readers.archive import extract_member
from varfm.readers.safetensors import write_safetensors
from varfm.regions import read_regions
from varfm.tracks import read_tracks

_ANY_REF = ("--max-ref-mismatch", "100")
CONTIGS = {"chr1": 1000, "chr2": 20}


class Finding(Exception):
    """A reader did what it must not do."""


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        seeds: Good files.
        read: Reads a damaged file; may raise VarfmError, and Finding where the result is wrong.
        name: Of the file; the folder holds nothing else that is not written by `read`.
        text: Damage it as a text.
        wrap: Put around the damaged bytes, such as a compression whose checksums are right.
    """

    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    name: str = "input"
    text: bool = False
    wrap: Callable[[bytes, random.Random], bytes] = field(default=lambda content, _: content)

    def draw(self, generator: random.Random) -> bytes:
        """Give a damaged file."""
        return self.wrap(fuzzed(self.seeds, generator, text=self.text), generator)


# The command, with VCF and BCF.


def score(path: Path, *options: str, name: str = "o.vcf") -> Path:
    """Run the command on the tiny genome, and check what it says; gives the output."""
    place = path.parent
    genome, out = place.parent / "genome.fa", place / name
    if not genome.exists():
        genome.write_bytes(GENOME)
    shown = io.TextIOWrapper(io.BytesIO(), "utf-8")
    variables = {"VARFM_TESTING": "1", "VARFM_CACHE": str(place.parent / "cache"), "VARFM_CONFIG": os.devnull}
    with (
        patch.dict(os.environ, variables),
        patch.object(sys, "stderr", shown),
        patch.object(sys, "stdout", io.TextIOWrapper(io.BytesIO())),
    ):
        status = run(["score", str(path), "-m", "null", "-f", str(genome), "-o", str(out), *_ANY_REF, *options])
    shown.flush()
    said = shown.buffer.getvalue().decode()  # type: ignore[attr-defined]
    if status not in (0, 2, 3) or not said.replace("\n", "").isprintable():
        raise Finding(f"status {status}: {said[-600:]!r}")
    if (out.exists() or any(place.glob(".*"))) != (status == 0):
        raise Finding(f"status {status}, and {[path.name for path in place.iterdir()]} are there")
    if status and (said.count("\n") > 1 or len(said) > 1500):
        raise Finding(f"no single short line: {said[:600]!r}")
    if status:
        raise InputError("as it should be")
    return out


def score_text(path: Path) -> None:
    """Score, and look whether anything but INFO differs."""
    if without_annotation(score(path).read_bytes()) != without_annotation(path.read_bytes()):
        raise Finding("the output without varfm's keys is not the input")


def score_to_bcf(path: Path) -> None:
    """Score a text into BCF."""
    score(path, name="o.bcf")


def score_to_table(path: Path) -> None:
    """Score a text into a table, one row per ALT."""
    out = score(path, name="o.tsv")
    if {line.count(b"\t") for line in out.read_bytes().split(b"\n")[:-1]} != {out_tabs(out)}:
        raise Finding("rows of the table differ in the number of columns")


def out_tabs(table: Path) -> int:
    """Count the tabs of the first line."""
    return table.read_bytes().partition(b"\n")[0].count(b"\t")


def as_bgzf(content: bytes, draw: random.Random) -> bytes:
    """Compress, so that the damage is not seen by a checksum."""
    return bgzf(content, 5000)


def as_gzip(content: bytes, draw: random.Random) -> bytes:
    """Compress as gzip without blocks."""
    return gzip.compress(content, mtime=0)


# Genomes, genes and regions.


def read_genome(path: Path) -> None:
    """Index a FASTA, and read every contig of it."""
    shutil.rmtree(path.parent / "cache", ignore_errors=True)
    with patch.dict(os.environ, {"VARFM_CACHE": str(path.parent / "cache")}), Genome(path) as genome:
        for name, length in genome.contigs.items():
            if len(genome.codes(name)) != length:
                raise Finding(f"{name} does not have {length} bases")


def read_genome_with_index(path: Path) -> None:
    """Read the tiny genome with a damaged index beside it: a wrong one must be seen."""
    genome = path.parent / "genome.fa"
    genome.write_bytes(GENOME)
    read_genome(genome)


def genes_of(path: Path) -> None:
    """Read a gene file of any format."""
    read_genes(path, ContigMap(CONTIGS), CONTIGS, gene_types=None)


def regions_of(path: Path) -> None:
    """Read a BED file of regions."""
    read_regions(str(path), ContigMap(CONTIGS), CONTIGS)


def contigs_of(path: Path) -> None:
    """Read a table of contig names, and use it."""
    ContigMap(CONTIGS, {"1": 1000}, read_contig_map(path)).describe()


# Weights.


class Anything:
    """Equals every checksum."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def read_bundle(path: Path) -> None:
    """Read a TensorFlow bundle whose other file is whole; a forger's checksums are right."""
    write_tf_bundle(path.parent / "whole", {"a": WEIGHT, "b": WEIGHT[0]})
    missing = "whole.data-00000-of-00001" if path.suffix == ".index" else "whole.index"
    shutil.copyfile(path.parent / missing, path.parent / missing.replace("whole", "model"))
    with patch.object(tf_bundle, "masked", lambda _: Anything()):
        read_tensors(path.parent / "model.index")


def read_shards(path: Path) -> None:
    """Read an index of shards."""
    write_safetensors(path.with_name("1.safetensors"), {"a": WEIGHT})
    read_tensors(path)


def as_torch_zip(content: bytes, draw: random.Random) -> bytes:
    """Put a damaged pickle into an archive whose checksums are right."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, whole in zip_members().items():
            archive.writestr(name, content if name.endswith("data.pkl") else whole)
    return packed.getvalue()


def extract(path: Path) -> None:
    """Take the member out of an archive."""
    target = path.parent / "out"
    extract_member(path, "a/weights.pth", target, size=None)
    if not target.is_file() or {file.name for file in path.parent.iterdir()} != {path.name, "out"}:
        raise Finding("another file was written")


# Settings, sizes, tokenizers, tables.


def read_settings(path: Path) -> None:
    """Read the settings file as the command does."""
    with patch.dict(os.environ, {"VARFM_CONFIG": str(path)}):
        config.default_map()


def module_of(name: str) -> ModuleType:
    """Give the module of a checkpoint's family."""
    return importlib.import_module(f"varfm.models.{catalog.get(name).module}")


def reader_of_sizes(name: str) -> Callable[[Path], None]:
    """Give a function that reads a `config.json` and lays out the network, as loading a model does."""
    module = module_of(name)
    kinds = [
        kind for kind in vars(module).values() if hasattr(kind, "from_json") and kind.__module__ == module.__name__
    ]

    def read(path: Path) -> None:
        weights = LocalWeights(path.parent, "", published=False, files={"config.json": path})
        found: Any = published_sizes(kinds[0], weights) if kinds else None
        if found is None:
            local = LocalWeights(path.parent, "", published=False)
            found = sizes(module.config_of(catalog.get(name)), local, ModelOptions(model_config=path))
        with torch.device("meta"):
            module.network_of(found)

    return read


def tracks_reader(kind: Any) -> Callable[[Path], object]:
    """Give a function that reads a table of tracks."""
    return lambda path: read_tracks(path, kind)


def read_vocabulary(path: Path) -> None:
    """Read a `vocab.txt` of k-mers."""
    check_vocabulary(OverlappingKmers(3).vocabulary(), path)


def read_sidecar(path: Path) -> None:
    """Read what a conversion says of itself."""
    for read in (converted.model_of, converted.version_of, converted.converted_config):
        read(path)


def manifest(path: Path) -> None:
    """Write the manifest of a run."""
    rows = path.parent / "rows.vcf"
    rows.write_bytes(GOOD)
    score(rows, "--manifest", str(path))


def _variants() -> dict[str, Target]:
    return {
        "vcf": Target(VCFS, score_text, "in.vcf", text=True),
        "vcf.gz": Target(VCFS, score, "in.vcf.gz", text=True, wrap=as_bgzf),
        "vcf.gz damaged": Target((bgzf(VARIED, 300), gzip.compress(VARIED)), score),
        "vcf to bcf": Target((VARIED, SAMPLES), score_to_bcf, "in.vcf", text=True),
        "vcf to table": Target(VCFS, score_to_table, "in.vcf", text=True),
        "bcf": Target(tuple(map(bcf_of_text, (VARIED, SAMPLES))), score, wrap=as_bgzf),
    }


def _places() -> dict[str, Target]:
    index = b"chr1\t1000\t6\t60\t61\nchr2\t20\t1029\t20\t21\n"
    return {
        "fasta": Target((GENOME, GENOME.replace(b"\n", b"\r\n")), read_genome, "g.fa", text=True),
        "fasta bgzf": Target((bgzf(GENOME, 300),), read_genome, "g.fa.gz"),
        "fasta index": Target((index,), read_genome_with_index, "genome.fa.fai", text=True),
        "gtf": Target((GTF,), genes_of, "g.gtf", text=True),
        "gff3": Target((GFF3,), genes_of, "g.gff3", text=True),
        "bed genes": Target((BED,), genes_of, "g.bed", text=True),
        "expecto genes": Target((EXPECTO,), genes_of, "g.csv", text=True),
        "bed regions": Target((BED,), regions_of, "r.bed", text=True),
        "labels": Target((LABELS,), lambda path: read_labels(str(path)), "l.tsv", text=True),
        "contig map": Target((b"1\tchr1\n2 chr2\n#x\n",), contigs_of, "map.tsv", text=True),
    }


def _weights() -> dict[str, Target]:
    arrays = {"a": WEIGHT, "b": WEIGHT[0]}
    index = written(lambda path: write_tf_bundle(path.with_suffix(""), arrays), "m.index")
    shards = b'{"metadata": {}, "weight_map": {"a": "1.safetensors"}}'
    xgboost = written(lambda path: write_xgboost_linear(path, np.arange(50.0), 0.5, 2.0))
    return {
        "torch7": Target((written(torch7),), read_tensors),
        "torch zip": Target((written(lambda path: torch_file(path, True)),), read_tensors),
        "torch pickle": Target((pickle_of(),), read_tensors, wrap=as_torch_zip),
        "torch legacy": Target((written(lambda path: torch_file(path, False)),), read_tensors),
        "xgboost": Target((xgboost,), read_tensors),
        "safetensors": Target((written(lambda path: write_safetensors(path, arrays, {"a": "b"})),), read_tensors),
        "tf index": Target((index,), read_bundle, "model.index"),
        "tf data": Target((WEIGHT.tobytes() + WEIGHT[0].tobytes(),), read_bundle, "model.data-00000-of-00001"),
        "h5": Target((written(keras), written(lambda path: keras(path, "gzip"))), read_tensors),
        "shards": Target((shards,), read_shards, "model.safetensors.index.json", text=True),
        "tar": Target((written(tar), written(lambda path: tar(path, "w:gz"))), extract),
        "tar.gz": Target((written(tar),), extract, wrap=as_gzip),
    }


def _settings() -> dict[str, Target]:
    settings = b'[score]\nfasta = "/d/g.fa"\ndevice = "cpu"\nbatch-size = 3\n[models]\n'
    bpe = tuple(json.dumps(content).encode() for content in (toy(), with_long_runs()))
    vocabulary = "\n".join(OverlappingKmers(3).vocabulary()).encode()
    about = {"format": "varfm", "model": "mini", "conversion": "1", "config": "{}"}
    conversion = written(lambda path: write_safetensors(path, {"a": WEIGHT}, about))
    return {
        "settings": Target((settings,), read_settings, text=True),
        "tokenizer bpe": Target(bpe, read_bpe, "tokenizer.json", text=True),
        "tokenizer characters": Target((json.dumps(GPN_TOKENIZER).encode(),), read_characters, "t.json", text=True),
        "vocabulary": Target((vocabulary,), read_vocabulary, "vocab.txt", text=True),
        "conversion": Target((conversion,), read_sidecar),
        "manifest": Target((written(manifest),), read_manifest, text=True),
        **{f"tracks {kind}": Target((table,), tracks_reader(kind), text=True) for kind, table in TRACKS.items()},
        **{
            f"config {name}": Target((json.dumps(small.config).encode(),), reader_of_sizes(name), text=True)
            for name, small in SMALL.items()
        },
    }


TARGETS = {**_variants(), **_places(), **_weights(), **_settings()}
"""By the names that the report shows."""
