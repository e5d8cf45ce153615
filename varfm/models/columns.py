"""What each model reports, in words. Without torch, so that `varfm models info` can print it."""

from __future__ import annotations

from varfm.protocols import Column
from varfm.scorers.classes import SUMMARY
from varfm.scorers.evalue import EVALUE
from varfm.scorers.measures import BINNED_MEASURES, POINT_MEASURES, Measure

_XPRESSO = (
    Column(
        "delta_z",
        "Change of the predicted z-scored log10 mRNA level, alt minus ref, half-life features at their means.",
        "standard deviations over genes",
        "f(alt) - f(ref), read on the gene's strand",
    ),
)

_CELLS = ("K562", "HepG2")
_PROMOTERS = ("minP", "SV40P")
_REPLICATES = ("rep1", "rep2", "pooled")
MPRA_TRACKS = tuple(
    f"{cell}_{promoter}_{replicate}" for cell in _CELLS for promoter in _PROMOTERS for replicate in _REPLICATES
)
"""Output names of MPRA-DragoNN in order."""

_MPRA = (
    Column(
        "HEPG2",
        "Change of predicted reporter activity in HepG2, mean of the pooled minP and SV40P outputs (8 and 11).",
        "z-scored log2 RNA/DNA",
        "mean of (alt - ref) over outputs 8 and 11, strands averaged",
    ),
    *(
        Column(
            name,
            f"Change of predicted reporter activity, output {index} ({name.replace('_', ', ')}).",
            "z-scored log2 RNA/DNA",
            "alt - ref, strands averaged",
        )
        for index, name in enumerate(MPRA_TRACKS)
    ),
)

_MINI = tuple(
    Column(
        name,
        f"Change of predicted {label} binding.",
        "natural log odds",
        "logit(alt) - logit(ref), strands averaged",
    )
    for name, label in (("CTCF", "CTCF"), ("PU1", "PU.1"))
)

_EXPECTO = (
    Column(
        "DLNE",
        "Change of predicted ln expression of the gene, alt minus ref: positive where alt is expressed more.",
        "natural-log fold change",
        "sum over windows, rates, features of w exp(-rate floor(|distance to TSS|/200)) (alt - ref), strands averaged",
    ),
)

_NULL = (Column("position", "Start of the normalised allele modulo 97.", "none", "start mod 97", signed=False),)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "mini": _MINI,
    "xpresso-human": _XPRESSO,
    "xpresso-mouse": _XPRESSO,
    "mpra-dragonn": _MPRA,
    "expecto": _EXPECTO,
    "sei": SUMMARY,
    "null": _NULL,
}
"""Catalogue name -> columns of the model's table."""

HEADLINES = frozenset({"HEPG2"})
"""Columns that are no track of their own but a mean of tracks."""

MEASURES: dict[str, tuple[Measure, ...]] = {
    "deepsea": (*POINT_MEASURES, EVALUE),
    "beluga": POINT_MEASURES,
    "basset": POINT_MEASURES,
    "basenji": BINNED_MEASURES,
    "basenji2": BINNED_MEASURES,
    "basenji2-mouse": BINNED_MEASURES,
    "enformer": BINNED_MEASURES,
    "enformer-mouse": BINNED_MEASURES,
}
"""Catalogue name -> the scores that each of the model's many tracks can have, in the order of the table."""
