"""How the contig names of a VCF, a region or a gene file map onto those of the FASTA: decided once per name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from varfm.errors import InputError, printable
from varfm.io.lines import read_lines

_MITOCHONDRION = ("chrM", "MT", "M", "chrMT")
_MITOCHONDRION_LENGTH = 16_569  # rCRS; hg19's own chrM has 16,571 bases and is another sequence
_N_SHOWN = 3


def _known_aliases() -> dict[str, tuple[str, ...]]:
    aliases: dict[str, tuple[str, ...]] = {}
    for name in (*map(str, range(1, 23)), "X", "Y"):
        aliases[name], aliases[f"chr{name}"] = (f"chr{name}",), (name,)
    for name in _MITOCHONDRION:
        aliases[name] = tuple(other for other in _MITOCHONDRION if other != name)
    return aliases


_ALIASES = _known_aliases()


class LengthConflict(NamedTuple):
    """A contig for which the VCF states another length than the FASTA has: a sign of another assembly."""

    name: str
    stated: int
    contig: str
    length: int


class ContigMap:
    """Finds the FASTA's name of a contig: the same name, else one from the user's table, else a known alias.

    Aliases are pairs of a fixed table (1 to 22, X and Y, each with and without `chr`; M, MT, chrM and chrMT for a
    contig of 16,569 bases). A name from the table or the aliases is taken only if the stated length, where there is
    one, is the FASTA's. Nothing is cut from a name or put before it.

    Args:
        genome_contigs: Names and lengths of the FASTA.
        stated: Lengths that the VCF header gives by its own names; None or absent where it gives none.
        table: The user's names: name in the input to name in the FASTA, see `read_contig_map`.

    Raises:
        InputError: If the table gives another name to a contig of the FASTA, or none of its names is in the FASTA.
    """

    def __init__(
        self,
        genome_contigs: Mapping[str, int],
        stated: Mapping[str, int | None] | None = None,
        table: Mapping[str, str] | None = None,
    ) -> None:
        self._contigs = genome_contigs
        self._stated = dict(stated or {})
        self._table = dict(table or {})
        self._resolved: dict[str, str | None] = {}
        self._check_table()

    def resolve(self, name: str) -> str | None:
        """Give the name in the FASTA, or None if it has no such contig; always the same answer for a name."""
        try:
            return self._resolved[name]
        except KeyError:
            contig = next((c for c in self._candidates(name) if c == name or self._length_agrees(name, c)), None)
            self._resolved[name] = contig
            return contig

    @property
    def aliases(self) -> list[tuple[str, str]]:
        """Names met so far that differ from the FASTA's: (name in the input, name in the FASTA)."""
        return [(name, contig) for name, contig in self._resolved.items() if contig is not None and contig != name]

    @property
    def length_conflicts(self) -> list[LengthConflict]:
        """Stated contigs whose length is not that of the FASTA's contig, exact names and aliases alike."""
        return [
            LengthConflict(name, stated, contig, self._contigs[contig])
            for name, stated in self._stated.items()
            for contig in self._candidates(name)[:1]
            if stated is not None and stated != self._contigs[contig]
        ]

    def describe(self) -> str | None:
        """Give one line about the aliases met so far; None if there were none."""
        aliases = self.aliases
        if not aliases:
            return None
        shown = ", ".join(f"{printable(name)} = {printable(contig)}" for name, contig in aliases[:_N_SHOWN])
        more = f", ... ({len(aliases)} aliases)" if len(aliases) > _N_SHOWN else ""
        return f"contig names: {shown}{more}"

    def _candidates(self, name: str) -> list[str]:
        """Give the FASTA's contigs that the name may mean, the best first."""
        if name in self._contigs:
            return [name]
        if name in self._table:
            return [contig for contig in (self._table[name],) if contig in self._contigs]
        candidates = [contig for contig in _ALIASES.get(name, ()) if contig in self._contigs]
        if name in _MITOCHONDRION:
            return [contig for contig in candidates if self._contigs[contig] == _MITOCHONDRION_LENGTH]
        return candidates

    def _length_agrees(self, name: str, contig: str) -> bool:
        stated = self._stated.get(name)
        return stated is None or stated == self._contigs[contig]

    def _check_table(self) -> None:
        for name, contig in self._table.items():
            if name != contig and name in self._contigs:
                raise InputError(
                    f"The contig map says {printable(name)!r} is {printable(contig)!r} of the FASTA, but "
                    f"{printable(name)!r} is a contig of the FASTA itself. Take that line out."
                )
        if self._table and not any(contig in self._contigs for contig in self._table.values()):
            known = ", ".join(list(self._contigs)[:_N_SHOWN])
            raise InputError(
                f"None of the {len(self._table)} names in the second column of the contig map is in the FASTA (it has "
                f"{known}, ...). The first column is the name in the VCF, the second the name in the FASTA."
            )


def read_contig_map(path: str | Path) -> dict[str, str]:
    """Read a table of contig names: name in the input, name in the FASTA.

    Args:
        path: Two columns separated by a tab or blanks; empty lines and lines that begin with `#` are skipped.

    Raises:
        InputError: If a line has not two columns, or a name is given two meanings.
    """
    table: dict[str, str] = {}
    for number, raw in enumerate(read_lines(path), 1):
        line = raw.decode("utf-8", "surrogateescape")
        words = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or line.startswith("#"):
            continue
        if len(words) != 2 or not all(word.strip() for word in words):
            raise InputError(
                f"{path}, line {number}: {printable(line[:80])!r} has not two columns. "
                "Give the name in the VCF, a tab, and the name in the FASTA."
            )
        name, contig = words[0].strip(), words[1].strip()
        if table.setdefault(name, contig) != contig:
            raise InputError(
                f"{path}, line {number}: {printable(name)!r} means {printable(contig)!r} here and "
                f"{printable(table[name])!r} before. Keep one of the lines."
            )
    return table
