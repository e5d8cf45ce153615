"""One record per published set of weights. A new model adds one here; nothing here imports torch or a model file."""

from __future__ import annotations

import difflib
import os

from varfm.checkpoints import Checkpoint
from varfm.download import RemoteFile
from varfm.errors import ModelError
from varfm.models.language_checkpoints import LANGUAGE_CHECKPOINTS
from varfm.models.track_checkpoints import TRACK_CHECKPOINTS

# Addresses name the commit, so that a push upstream cannot change what is fetched.
_XPRESSO = "https://raw.githubusercontent.com/vagarwal87/Xpresso/b5d1da2b7f7e9376e8b6eca2b6cc73cd361734a3/Fig5_S5"
_MPRA_DRAGONN = (
    "https://raw.githubusercontent.com/kundajelab/MPRA-DragoNN/2799ed87821130fc537836651d37e45a3247382d/kipoi"
)
_XPRESSO_PAPER = "Agarwal and Shendure, Cell Reports 31 (2020) 107663, doi:10.1016/j.celrep.2020.107663"


def _xpresso(species: str, assembly: str, file: str, sha256: str) -> Checkpoint:
    return Checkpoint(
        name=f"xpresso-{species}",
        module="xpresso",
        files=(RemoteFile(file, (f"{_XPRESSO}/{file}",), sha256, 1_392_384),),
        licence="MIT",
        commercial=True,
        paper=_XPRESSO_PAPER,
        source="https://github.com/vagarwal87/Xpresso",
        assembly=assembly,
        window=10_500,
        index=7_000,
        reads=f"median mRNA level of a {species} gene, from its promoter",
        scores="change of the z-scored log10 mRNA level, per gene",
        strands="the gene's strand",
        parameters=112_357,
        n_outputs=1,
        verified="published predictions of 4 real promoters, to 1e-4",
        needs_genes=True,
    )


_CHECKPOINTS = (
    Checkpoint(
        name="mini",
        module="mini",
        licence="Apache-2.0",
        commercial=True,
        paper="varfm itself (CITATION.cff)",
        source="training/train_mini.py",
        assembly="",
        window=99,
        index=49,
        reads="binding of CTCF and PU.1",
        scores="difference of logits per factor",
        strands="both, answers averaged",
        parameters=79_330,
        n_outputs=2,
        verified="held-out AUROC: CTCF 0.989, PU.1 0.990",
        packaged="models/data/mini.safetensors",
        packaged_sha256="68f7c3922ad55658f58cb1fc26555e60679d06fafb7ec32b2ab50b2ec51bbd1e",
    ),
    *TRACK_CHECKPOINTS,
    *LANGUAGE_CHECKPOINTS,
    _xpresso(
        "human",
        "GRCh38",
        "human_trainepoch.11-0.426.h5",
        "15a383648008df5f843ec8651e78be5faf82609c88fb068da890aa7a89387bb0",
    ),
    _xpresso(
        "mouse",
        "mm10",
        "mouse_trainepoch.05-0.278.h5",
        "e2a48e994aa6e6d9c619ba2865cd76804433d63620f8f82b044389ea78239d37",
    ),
    Checkpoint(
        name="mpra-dragonn",
        module="mpra_dragonn",
        files=(
            RemoteFile(
                "pretrained.hdf5",
                (f"{_MPRA_DRAGONN}/ConvModel/pretrained.hdf5",),
                "27eb5aee40317b012a17a6a409f545825292eb1787c2ad506d6d37b97990f006",
                1_390_888,
            ),
        ),
        licence="MIT",
        commercial=True,
        paper="Movva et al., PLoS ONE 14 (2019) e0218073, doi:10.1371/journal.pone.0218073",
        source="https://github.com/kundajelab/MPRA-DragoNN",
        assembly="hg19",
        window=145,
        index=72,
        reads="12 outputs of reporter assays in K562 and HepG2",
        scores="difference per output; headline HEPG2, the mean of outputs 8 and 11",
        strands="both, answers averaged",
        parameters=339_012,
        n_outputs=12,
        verified="published weights; 19 saturation mutagenesis sets, mean r 0.288",
    ),
    Checkpoint(
        name="null",
        module="null",
        licence="Apache-2.0",
        commercial=True,
        paper="none",
        source="varfm/models/null.py",
        assembly="",
        window=1,
        index=0,
        reads="nothing",
        scores="position mod 97",
        strands="neither",
        hidden=True,
    ),
)


def listed() -> tuple[Checkpoint, ...]:
    """Give the checkpoints that users may see, in the order of the documentation."""
    return tuple(checkpoint for checkpoint in _CHECKPOINTS if not checkpoint.hidden)


def get(name: str) -> Checkpoint:
    """Give the checkpoint of that name; upper and lower case are one.

    Raises:
        ModelError: If there is none, or it is one for tests only and VARFM_TESTING is not 1.
    """
    wanted = name.lower()
    for checkpoint in _CHECKPOINTS:
        if checkpoint.name == wanted:
            return _allowed(checkpoint)
    raise ModelError(f"There is no model {name!r}.{_close_to(wanted)} See varfm models list.")


def _allowed(checkpoint: Checkpoint) -> Checkpoint:
    if checkpoint.hidden and os.environ.get("VARFM_TESTING") != "1":
        raise ModelError(
            f"{checkpoint.name} is for tests of varfm and gives no meaningful score. See varfm models list; "
            "to use it all the same, set VARFM_TESTING=1."
        )
    return checkpoint


def _close_to(name: str) -> str:
    close = difflib.get_close_matches(name, [checkpoint.name for checkpoint in listed()], n=3)
    return f" Did you mean {' or '.join(close)}?" if close else ""
