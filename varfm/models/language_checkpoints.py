"""The published DNA language models: one record per checkpoint."""

from __future__ import annotations

from varfm.checkpoints import Checkpoint
from varfm.download import RemoteFile

_HUB = "https://huggingface.co"
_BOTH = "both, scores averaged"
_LLR = "LLR of the masked allele, LLR_INDEL for other lengths"


def _gpn(variant: str, revision: str, sha256: str | None, about_bytes: int, **words: str) -> Checkpoint:
    name = f"gpn-{variant}"
    folder = f"{_HUB}/songlab/{name}/resolve/{revision}"
    return Checkpoint(
        name=name,
        module="gpn",
        variant="" if variant == "brassicales" else variant,
        files=(
            RemoteFile("model.safetensors", (f"{folder}/model.safetensors",), sha256, None),
            RemoteFile("config.json", (f"{folder}/config.json",), None, None, role="data"),
            RemoteFile("tokenizer.json", (f"{folder}/tokenizer.json",), None, None, role="data"),
        ),
        about_bytes=about_bytes,
        licence="MIT",
        commercial=True,
        source="https://github.com/songlab-cal/gpn",
        window=512,
        index=256,
        reads="masked bases",
        scores=_LLR,
        strands=_BOTH,
        likelihood="masked",
        verified="answers and SNV scores of the authors' code on the same random weights",
        parameters=65_880_071 if variant == "brassicales" else 152_189_952,
        paper=words["paper"],
        assembly=words["assembly"],
    )


LANGUAGE_CHECKPOINTS = (
    _gpn(
        "brassicales",
        "eb9c35d0d18571abe84390d22e74f2b21d319ce3",
        "713ef126033cef9b1884254aecc5f7bba2083abd23ef6c9dcc049d2eb4414f8d",
        264_000_000,
        paper="Benegas, Batra and Song, PNAS 120 (2023) e2311219120, doi:10.1073/pnas.2311219120",
        assembly="",
    ),
    _gpn(
        "animal-promoter",
        "f8cf7f32913d3847943aeb0f30a6d6bc3b778e55",
        None,
        609_000_000,
        paper="Benegas, Eraslan and Song, bioRxiv (2025), doi:10.1101/2025.02.11.637758",
        assembly="",
    ),
)
"""In the order of the documentation."""
