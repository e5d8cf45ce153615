"""Run every family of language models in small, from published folders of random weights, on real variants.

    python benchmarks/languages.py --data FOLDER

FOLDER holds `kg_chr20_1mb.vcf.gz` and its FASTA; the first 500 records are scored through the command. Windows are
those of the published checkpoints, networks those of the tests: two layers of 12 to 24 channels.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from small_languages import SMALL, write_published

PUBLISHED = {
    "max_position_embeddings": 4096,  # tokens of the tests' vocabularies are short
    "max_seq_len": 1026,
    "max_tokens": 4096,
    "k": 6,
    "shortest": 6,
}
"""What the windows of the published checkpoints need; each is set where a family has it."""


def main() -> int:
    """Print a line for each model; end with 1 if an allele is not accounted for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="Default: all.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--records", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = cut(parsed.data / "kg_chr20_1mb.vcf.gz", folder / "in.vcf", parsed.records)
        print(f"# {parsed.records} records:", ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))
        print("model", "alleles_per_s", "wall_s", "cpu_s", "exit", "accounted", "statuses", sep="\t", flush=True)
        options = ["-f", str(parsed.data / "kg_chr20_1mb.fa"), "--threads", str(parsed.threads)]
        return max([run(model, options, folder) for model in parsed.models or SMALL])


def cut(source: Path, target: Path, n_records: int) -> Counter[str]:
    """Write the header and the first records, and count alleles by kind."""
    kinds: Counter[str] = Counter()
    with gzip.open(source, "rt") as lines, open(target, "w") as file:
        for line in lines:
            file.write(line)
            if line.startswith("#CHROM"):
                break
        for line in islice(lines, n_records):
            file.write(line)
            ref, alts = line.split("\t")[3], line.split("\t")[4].split(",")
            kinds["alleles"] += len(alts)
            kinds["of another length"] += sum(len(alt) != len(ref) for alt in alts)
            kinds["beside others"] += len(alts) * (len(alts) > 1)
    return kinds


def run(name: str, options: list[str], folder: Path) -> int:
    """Score with one model, print its line, and give 0 if every allele has a status."""
    weights = folder / name
    weights.mkdir()
    small = SMALL[name]
    config = small.config | {key: value for key, value in PUBLISHED.items() if key in small.config}
    if name == "dnagpt-0.1b-m":
        config["shortest"] = 1
    write_published(name, small._replace(config=config), weights)
    command = [sys.executable, "-m", "varfm", "score", str(folder / "in.vcf"), "-m", name, "--weights", str(weights)]
    command += [*options, "--offline", "--force", "-o", str(folder / "out.vcf")]
    started, said = time.perf_counter(), folder / "stderr"
    with open(said, "wb") as stderr:
        redirected = [(os.POSIX_SPAWN_DUP2, stderr.fileno(), 2)]
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=redirected)
        _, status, usage = os.wait4(pid, 0)
    wall, code = time.perf_counter() - started, os.waitstatus_to_exitcode(status)
    found, missing = statuses(folder / "out.vcf") if code == 0 else (Counter({said.read_text()[-200:]: 1}), 1)
    [rate] = re.findall(r"([\d,]+) alleles/s", said.read_text()) or ["-"]
    counted = ", ".join(f"{n} {word}" for word, n in found.most_common())
    cpu = usage.ru_utime + usage.ru_stime
    print(name, rate, f"{wall:.0f}", f"{cpu:.0f}", code, "no" if missing else "yes", counted, sep="\t", flush=True)
    return int(bool(missing))


def statuses(path: Path) -> tuple[Counter[str], int]:
    """Count statuses, and the alleles that have none."""
    found: Counter[str] = Counter()
    missing = 0
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        fields = line.split("\t")
        words = dict(entry.split("=") for entry in fields[7].split(";") if "=" in entry)["VARFM_STATUS"].split(",")
        missing += abs(len(words) - len(fields[4].split(",")))
        found.update(words)
    return found, missing


if __name__ == "__main__":
    raise SystemExit(main())
