"""The 40 sequence classes of Sei. Without torch, so that they can be printed at once.

Labels and names: github.com/FunctionLab/sei-framework, model/seqclass.names, commit 1e16bff; the order is the one of
the first 40 rows of its projection matrix.
"""

from __future__ import annotations

from typing import NamedTuple


class SequenceClass(NamedTuple):
    """A sequence class: its label (`E1`), its name (`Stem cell`), and the label of its group (`E`)."""

    label: str
    name: str
    group: str


GROUPS = {
    "P": "promoter",
    "E": "enhancer",
    "CTCF": "CTCF and cohesin",
    "TF": "transcription factor",
    "TN": "transcription",
    "PC": "Polycomb",
    "HET": "heterochromatin",
    "L": "low signal",
}
"""Label of a group -> what its classes have in common."""

_NAMES = """
PC1 Polycomb / Heterochromatin
L1 Low signal
TN1 Transcription
TN2 Transcription
L2 Low signal
E1 Stem cell
E2 Multi-tissue
E3 Brain / Melanocyte
L3 Low signal
E4 Multi-tissue
TF1 NANOG / FOXA1
HET1 Heterochromatin
E5 B-cell-like
E6 Weak epithelial
TF2 CEBPB
PC2 Weak Polycomb
E7 Monocyte / Macrophage
E8 Weak multi-tissue
L4 Low signal
TF3 FOXA1 / AR / ESR1
PC3 Polycomb
TN3 Transcription
L5 Low signal
HET2 Heterochromatin
L6 Low signal
P Promoter
E9 Liver / Intestine
CTCF CTCF-Cohesin
TN4 Transcription
HET3 Heterochromatin
E10 Brain
TF4 OTX2
HET4 Heterochromatin
L7 Low signal
PC4 Polycomb / Bivalent stem cell Enh
HET5 Centromere
E11 T-cell
TF5 AR
E12 Erythroblast-like
HET6 Centromere
"""


def read_classes(text: str) -> tuple[SequenceClass, ...]:
    """Read lines of label, space and name, as in the authors' `seqclass.names`; a group is a label without digits."""
    pairs = (line.strip().partition(" ") for line in text.splitlines() if line.strip())
    return tuple(SequenceClass(label, name.strip(), label.rstrip("0123456789")) for label, _, name in pairs)


CLASSES = read_classes(_NAMES)
"""The 40 classes in the order of the projection's rows."""
