"""What a user can meet: one class per exit status, so that the command line maps errors without knowing them."""

from __future__ import annotations

_LONGEST = 1400
_HEAD, _TAIL = 900, 400


class VarfmError(Exception):
    """Say what is wrong with which value, where, what was expected and what to do.

    Attributes:
        exit_status: What the command ends with; 70 marks a fault of varfm itself.
    """

    exit_status = 70

    def __str__(self) -> str:
        """Give the message; of a very long one, which quotes a damaged input, the beginning and the end."""
        text = super().__str__()
        return text if len(text) <= _LONGEST else f"{text[:_HEAD]} ... {text[-_TAIL:]}"


class OptionError(VarfmError):
    """An option or argument, or a combination of them, cannot be served."""

    exit_status = 2


class InputError(VarfmError):
    """An input file is missing, unreadable or malformed."""

    exit_status = 3


class ReferenceMismatch(InputError):
    """REF of the VCF and the reference FASTA disagree."""


class ModelError(VarfmError):
    """A model or its weights are unknown, missing, damaged or do not fit."""

    exit_status = 4


class MissingExtra(ModelError):
    """An optional package is needed for what was asked.

    Args:
        package: The distribution that is missing, e.g. `pyarrow`.
        extra: The extra of varfm that brings it, e.g. `parquet`.
        purpose: What needs it, as the subject of a sentence, e.g. `Parquet output`.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}. Install it with: pip install 'varfm[{extra}]'")


class DeviceError(VarfmError):
    """The device asked for is not there, its memory ran out, or what it computes is not precise enough."""

    exit_status = 5


class DiskError(VarfmError):
    """Writing failed: no space, no permission, or the file came back different."""

    exit_status = 6


def printable(text: str) -> str:
    """Escape what is not printable, so that no escape sequence of an input reaches a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
