"""What a run on this machine would meet: versions, devices, caches, settings. Reads only."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from varfm import __version__
from varfm.cache import cache_root
from varfm.weights import presence, readable_size

EXTRAS = {"parquet": ("pyarrow",), "lm": ("transformers",), "finetune": ("peft", "sklearn")}
_PACKAGES = ("torch", "numpy", "pysam", "pandas", "h5py", "safetensors", "rich-click")


class Finding(NamedTuple):
    """One line: what was looked at, what was found, and whether it stands in the way of a run."""

    key: str
    value: str
    ok: bool = True


def findings() -> Iterator[Finding]:
    """Look at everything a run depends on, in the order in which it would fail."""
    yield Finding("varfm", __version__)
    yield Finding("python", f"{platform.python_version()} ({sys.platform}, {platform.machine()})")
    yield from (_package(name) for name in _PACKAGES)
    yield from _extras()
    yield from _devices()
    yield from _cache()
    yield from _models()
    fasta = os.environ.get("VARFM_FASTA")
    if fasta:
        there = os.path.isfile(fasta)
        yield Finding(
            "VARFM_FASTA", fasta if there else f"{fasta} is not a file; set it to your reference FASTA", there
        )


def _package(name: str) -> Finding:
    try:
        return Finding(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, "not installed; install varfm again with pip", False)


def _extras() -> Iterator[Finding]:
    import importlib.util

    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        yield Finding(f"extra {extra}", f"not installed (pip install 'varfm[{extra}]')" if missing else "installed")


def _devices() -> Iterator[Finding]:
    import torch

    from varfm.plan import n_cpus, resolve_device

    yield Finding("device cpu", f"{n_cpus()} threads, torch built for {torch.backends.cpu.get_cpu_capability()}")
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        yield Finding(f"device cuda:{number}", f"{about.name}, {readable_size(about.total_memory)}")
    if torch.backends.mps.is_available():
        yield Finding("device mps", "Apple GPU")
    yield Finding("device auto", f"takes {resolve_device('auto')}")


def _cache() -> Iterator[Finding]:
    root = cache_root()
    existing = root
    while not existing.exists():
        existing = existing.parent
    writable = os.access(existing, os.W_OK)
    free = readable_size(shutil.disk_usage(existing).free)
    note = f"{free} free" if writable else "cannot be written; set VARFM_CACHE to a folder that can"
    yield Finding("cache", f"{root}, {note}", writable)


def _models() -> Iterator[Finding]:
    from varfm.models import catalog

    for checkpoint in catalog.listed():
        yield Finding(f"model {checkpoint.name}", f"{presence(checkpoint)}, {checkpoint.readable_size}")
