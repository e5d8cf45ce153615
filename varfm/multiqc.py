"""What became of the alleles of a run, as a file of custom content that MultiQC shows as a bar per sample and model."""

from __future__ import annotations

import json
from pathlib import Path

from varfm.account import Summary
from varfm.errors import OptionError
from varfm.io.atomic import AtomicFile, disk_errors

SUFFIX = "_mqc.json"
"""By which MultiQC finds the file."""

_VCF_SUFFIXES = (".vcf.gz", ".vcf.bgz", ".vcf", ".bcf", ".gz")


def check_target(path: Path, *, force: bool) -> None:
    """See to it that the file can be written, before any work.

    Raises:
        OptionError: If MultiQC would not find it by its name, it exists without `force`, or its folder is missing.
        DiskError: If the folder cannot be written.
    """
    if not path.name.endswith(SUFFIX):
        raise OptionError(f"--multiqc {path}: MultiQC looks for names that end with {SUFFIX}. Give such a name.")
    AtomicFile(path, force).discard()


def write_content(path: Path, summary: Summary, vcf: str, *, force: bool) -> None:
    """Write the file; it is there whole or not at all.

    Args:
        path: As `check_target` took it.
        summary: Of the run.
        vcf: The input, after which the sample is named; `-` for stdin.
        force: Replace a file that is there.

    Raises:
        OptionError: If it exists and `force` is False.
        DiskError: If the disk refuses.
    """
    with AtomicFile(path, force) as target:
        with disk_errors(str(path)):
            target.file.write(content(summary, sample_of(vcf)))
        target.seal()
        target.publish()


def content(summary: Summary, sample: str) -> bytes:
    """Give the file's bytes: alleles by status, a bar per model where there are several."""
    several = len(summary.counts) > 1
    bars = {
        f"{sample} ({model})" if several else sample: {status.name: counts[status] for status in sorted(counts)}
        for model, counts in summary.counts.items()
    }
    about = {
        "id": "varfm_alleles",
        "section_name": "varfm",
        "description": "Alleles by status. OK and PADDED carry scores; the other words say why there is none.",
        "plot_type": "bargraph",
        "pconfig": {"id": "varfm_alleles_plot", "title": "varfm: alleles by status", "ylab": "alleles"},
        "data": bars,
    }
    return json.dumps(about, indent=2).encode() + b"\n"


def sample_of(vcf: str) -> str:
    """Name a sample after its VCF."""
    name = "stdin" if vcf == "-" else Path(vcf).name
    for suffix in _VCF_SUFFIXES:
        if name.endswith(suffix) and name != suffix:
            return name.removesuffix(suffix)
    return name
