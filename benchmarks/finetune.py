"""What `varfm finetune` reaches with a small network of random weights: on a planted motif, and on measured effects.

    python benchmarks/finetune.py motif
    python benchmarks/finetune.py satmut --data ../shared/data

`motif`: in each variant's own 100 random bases stands one TGACTCA; label 1 if the variant changes one of its bases, 0
if it changes a base 13 to 19 bases beside it. `satmut`: the saturation mutagenesis of Kircher et al. 2019 (label: log2
effect), with whole elements held out. The base is a GPN of 5 layers of 32 channels with random weights: it has learned
nothing, so that all that the figures show comes from the labels.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from varfm.cli.main import run
from varfm.models.gpn import GpnConfig, network_of
from varfm.readers.safetensors import write_safetensors

MOTIF = "TGACTCA"
PIECE = 100
CONFIG = {
    "architectures": ["ConvNetForMaskedLM"], "model_type": "ConvNet", "hidden_size": 32, "n_layers": 5,
    "kernel_size": 9, "dilation_cycle": 3, "dilation_max": 4, "dilation_double_every": 1, "vocab_size": 7,
}  # fmt: skip
SATMUT_HELD_OUT = ("F9", "LDLR", "SORT1", "ZFAND3")
SATMUT_VALIDATION = ("HBB", "TERT-GAa")

Row = tuple[str, int, str, str, float]


def main() -> None:
    """Make the table, train, and print the report's metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=["motif", "satmut"])
    parser.add_argument("--data", type=Path, help="folder with satmut_elements.fa and satmut_elements.vcf.gz")
    parser.add_argument("--alleles", type=int, default=1800, help="of the planted motif")
    parser.add_argument("--every", type=int, default=1, help="of satmut, take every Nth allele")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if given.subject == "motif":
            fasta = planted_motif(work, given.alleles)
            parts = ["--held-out", "c4,c5", "--validation", "c3"]
        else:
            fasta = satmut(work, given.data, given.every)
            parts = ["--held-out", ",".join(SATMUT_HELD_OUT), "--validation", ",".join(SATMUT_VALIDATION)]
        train(work, fasta, parts, given)


def train(work: Path, fasta: Path, parts: list[str], given: argparse.Namespace) -> None:
    """Run the command and print what it reports."""
    command = ["finetune", str(work / "table.tsv"), "-f", str(fasta), "-m", "gpn-brassicales"]
    command += ["--weights", str(small_gpn(work / "gpn")), "--window", "96", "-o", str(work / "adapter"), *parts]
    command += ["--epochs", str(given.epochs), "--learning-rate", str(given.learning_rate), "--batch-size", "32"]
    if run([*command, "--threads", str(given.threads), "--max-ref-mismatch", "0"]) != 0:
        raise SystemExit("varfm finetune failed")
    report = json.loads((work / "adapter" / "varfm_finetune.json").read_text())
    print(json.dumps({key: report[key] for key in ("alleles", "metrics", "best_epoch", "seconds")}, indent=1))


def small_gpn(folder: Path) -> Path:
    """Write a published folder with random weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(1)
    network = network_of(GpnConfig.from_json(CONFIG, folder))
    state = {key: value.detach().numpy() for key, value in network.state_dict().items()}
    write_safetensors(folder / "model.safetensors", state)
    tokens = {"[PAD]": 0, "[MASK]": 1, "[UNK]": 2, "a": 3, "c": 4, "g": 5, "t": 6}
    model = {"type": "BPE", "unk_token": "[UNK]", "vocab": tokens, "merges": []}
    steps = {"normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"}, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(steps))
    return folder


def planted_motif(work: Path, n_alleles: int) -> Path:
    """Write FASTA and table of the planted motif on six contigs."""
    draw = np.random.default_rng(1)
    contigs, rows = {}, []
    for contig in (f"c{number}" for number in range(6)):
        bases = draw.choice(list("ACGT"), n_alleles // 6 * PIECE)
        for number in range(n_alleles // 6):
            at, label = number * PIECE + PIECE // 2, number % 2
            beside = 0 if label else (12 + len(MOTIF)) * int(draw.choice([-1, 1]))
            start = at - int(draw.integers(len(MOTIF))) + beside
            bases[start : start + len(MOTIF)] = list(MOTIF)
            rows.append(
                (contig, at + 1, str(bases[at]), str(draw.choice(sorted(set("ACGT") - {str(bases[at])}))), label)
            )
        contigs[contig] = "".join(bases)
    return written(work, contigs, rows)


def satmut(work: Path, data: Path, every: int) -> Path:
    """Write the table of measured effects; the FASTA is there."""
    rows = []
    with gzip.open(data / "satmut_elements.vcf.gz", "rt") as lines:
        for line in lines:
            if not line.startswith("#"):
                contig, pos, _, ref, alt, _, _, info = line.split("\t")
                effect = dict(entry.split("=") for entry in info.strip().split(";"))["COEF"]
                rows.append((contig, int(pos), ref, alt, float(effect)))
    write_table(work, rows[::every])
    return data / "satmut_elements.fa"


def written(work: Path, contigs: dict[str, str], rows: list[Row]) -> Path:
    """Write table and FASTA."""
    write_table(work, rows)
    fasta = work / "planted.fa"
    fasta.write_text("".join(f">{name}\n{bases}\n" for name, bases in contigs.items()))
    return fasta


def write_table(work: Path, rows: list[Row]) -> None:
    """Write the labelled variants."""
    lines = ["contig\tpos\tref\talt\tlabel", *("\t".join(map(str, row)) for row in rows)]
    (work / "table.tsv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
