"""The reference genome as base codes: contigs, haplotypes, and many windows at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import NamedTuple, Self

import numpy as np
import pysam
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from varfm.digits import counted
from varfm.errors import InputError
from varfm.fasta import find_index
from varfm.variants import Variant
from varfm.windows import Haplotype, Window

N = 4
"""The code of every base that is not A, C, G or T (0 to 3)."""

IUPAC = {
    "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG",
}  # fmt: skip
"""What the ambiguity codes stand for, N apart."""

_AMBIGUOUS, _NO_BASE = 5, 6


def _letter_codes() -> bytes:
    table = bytearray([_NO_BASE]) * 256
    for code, letters in enumerate(("Aa", "Cc", "Gg", "TtUu", "Nn", "".join(IUPAC) + "".join(IUPAC).lower())):
        for letter in letters:
            table[ord(letter)] = code
    return bytes(table)


_LETTER_CODES = _letter_codes()
_WRITTEN_CODES = _LETTER_CODES.translate(bytes((0, 1, 2, 3, N, N, N)) + bytes(249))
_CODE_LETTERS = b"ACGT" + b"N" * 252
_COMPLEMENT = bytes((3, 2, 1, 0)) + bytes((N,)) * 252


def encode(bases: str) -> bytes:
    """Turn letters of either case into codes; U counts as T, whatever is no base becomes 4."""
    return bases.encode("ascii", "replace").translate(_WRITTEN_CODES)


_BASES = {letter: encode(letter) for letter in "ACGT"}
"""What most alleles are, ready made."""


def decode(codes: bytes) -> str:
    """Turn codes into upper-case letters."""
    return codes.translate(_CODE_LETTERS).decode("ascii")


def reverse_complement(codes: bytes) -> bytes:
    """Give the codes of the other strand."""
    return codes.translate(_COMPLEMENT)[::-1]


_TURNED = {letter: reverse_complement(codes) for letter, codes in _BASES.items()}


def with_allele_turned(codes: bytes, window: Window, variant: Variant) -> bytes:
    """Put an allele into the other strand of a reference window: what turning the changed window gives, sooner.

    Args:
        codes: The window's codes on the other strand.
        window: Holds the allele.
        variant: The reference allele goes, the alternate one comes; the window's ends stay.
    """
    end = window.end
    alt = _TURNED.get(variant.alt) or reverse_complement(encode(variant.alt))
    return codes[: end - variant.end] + alt + codes[end - variant.start :]


class _Contig(NamedTuple):
    codes: bytes
    array: NDArray[np.uint8]  # a read-only view of `codes`
    ambiguity: Mapping[int, str]


class Genome:
    """A FASTA file, read one contig at a time. Use it as a context manager; several threads may share it.

    Contigs stay in memory, one byte a base, until their sum passes `max_bytes`; then the one that was not used for the
    longest time goes. At least one always stays, so a pass over sorted variants reads every contig once.

    Args:
        path: Plain or bgzipped FASTA. Needs no index: see `varfm.fasta.find_index`.
        cache: varfm's cache folder; None for the default.
        max_bytes: Bound on the contigs held in memory.

    Raises:
        InputError: If the file cannot serve as a reference.
        DiskError: If an index is needed and the cache cannot be written.
    """

    def __init__(self, path: str | Path, cache: Path | None = None, max_bytes: int = 1 << 30) -> None:
        self.path = Path(path)
        index = find_index(self.path, cache)
        self.contigs: Mapping[str, int] = MappingProxyType({record.name: record.length for record in index.records})
        gzi = None if index.gzi is None else str(index.gzi)
        try:
            self._fasta = pysam.FastaFile(str(path), filepath_index=str(index.fai), filepath_index_compressed=gzi)
        except (OSError, ValueError) as error:
            raise InputError(f"FASTA {path} cannot be opened: {error}. Check the file.") from None
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, _Contig] = OrderedDict()
        self._latest: tuple[str, _Contig | None] = ("", None)
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let the contigs go."""
        self._fasta.close()
        self._held.clear()
        self._latest = ("", None)

    def codes(self, contig: str) -> NDArray[np.uint8]:
        """Give a whole contig: (length,) uint8, read-only, A C G T = 0 1 2 3, all else 4. Case is ignored, U is T.

        Raises:
            InputError: If the FASTA has no such contig, or the contig holds a letter that is no nucleotide.
        """
        return self._contig(contig).array

    def ambiguity(self, contig: str) -> Mapping[int, str]:
        """Give the ambiguity codes other than N of a contig: 0-based position to upper-case letter. Usually empty."""
        return self._contig(contig).ambiguity

    def sequence(self, haplotype: Haplotype) -> bytes:
        """Give the codes of a haplotype on its strand, `haplotype.length` bytes, N (4) outside the contig.

        Raises:
            ValueError: If the allele sticks out of the haplotype's window.
        """
        sequence = self.forward(haplotype.window, haplotype.variant)
        return sequence if haplotype.strand == "+" else reverse_complement(sequence)

    def forward(self, window: Window, variant: Variant | None) -> bytes:
        """Give the codes of a window on the forward strand, with an allele in it or the reference as it is.

        Raises:
            ValueError: If the allele sticks out of the window.
        """
        contig, start, end = window
        codes = self._contig(contig).codes
        if variant is None:
            return _span(codes, start, end)
        _, first, ref, alt = variant
        last = first + len(ref)
        if start <= first and last <= end:
            inserted = _BASES.get(alt) or encode(alt)
            if 0 <= start and end <= len(codes):
                return codes[start:first] + inserted + codes[last:end]
            return _span(codes, start, first) + inserted + _span(codes, last, end)
        raise ValueError(f"{variant} does not lie inside {window}")

    def windows(self, contig: str, starts: NDArray[np.int64], length: int) -> NDArray[np.uint8]:
        """Gather many windows of one contig at once.

        Args:
            contig: Name in the FASTA.
            starts: (n,) 0-based first positions, in any order; a window may lie partly or wholly outside the contig.
            length: Bases per window.

        Returns:
            (n, length) codes on the forward strand, N (4) outside the contig.
        """
        held = self._contig(contig)
        last = held.array.size - length
        outside = (starts < 0) | (starts > last)
        if last < 0:
            windows = np.full((starts.size, length), N, np.uint8)
        else:
            windows = sliding_window_view(held.array, length)[np.where(outside, 0, starts) if outside.any() else starts]
        for row in np.flatnonzero(outside):
            start = int(starts[row])
            windows[row] = np.frombuffer(_span(held.codes, start, start + length), np.uint8)
        return windows

    def matches(self, contig: str, start: int, ref: str) -> bool:
        """Tell whether a written REF agrees with the FASTA; the caller sees to it that it lies inside the contig.

        An ambiguity code of the FASTA other than N agrees with the bases it stands for; N agrees with none.

        Args:
            contig: Name in the FASTA.
            start: 0-based.
            ref: Upper-case A, C, G, T.
        """
        held = self._contig(contig)
        written, found = encode(ref), held.codes[start : start + len(ref)]
        if written == found:
            return N not in found
        if not held.ambiguity or len(written) != len(found):
            return False
        return all(
            (code == base and code != N) or letter in IUPAC.get(held.ambiguity.get(start + place, ""), "")
            for place, (code, base, letter) in enumerate(zip(found, written, ref, strict=True))
        )

    def _contig(self, contig: str) -> _Contig:
        name, latest = self._latest  # windows come sorted, so nearly all are of the contig of the one before
        if name == contig and latest is not None:
            return latest
        with self._lock:
            held = self._held.get(contig)
            if held is None:
                held = self._held[contig] = self._load(contig)
                self._drop_oldest()
            self._held.move_to_end(contig)
            self._latest = contig, held
            return held

    def _drop_oldest(self) -> None:
        n_bytes = sum(len(held.codes) for held in self._held.values())
        while n_bytes > self._max_bytes and len(self._held) > 1:
            n_bytes -= len(self._held.popitem(last=False)[1].codes)

    def _load(self, contig: str) -> _Contig:
        letters = self._fetch(contig)
        codes = letters.translate(_LETTER_CODES)
        array = np.frombuffer(codes, np.uint8)
        if array.size == 0 or array.max() <= N:
            return _Contig(codes, array, MappingProxyType({}))
        if array.max() == _NO_BASE:
            self._refuse_letter(contig, letters, int(np.argmax(array)))
        places = np.flatnonzero(array == _AMBIGUOUS)
        ambiguity = {place: chr(letters[place]).upper() for place in places.tolist()}
        codes = codes.translate(bytes((0, 1, 2, 3, N, N)) + bytes(250))
        return _Contig(codes, np.frombuffer(codes, np.uint8), MappingProxyType(ambiguity))

    def _fetch(self, contig: str) -> bytes:
        if contig not in self.contigs:
            raise InputError(f"{self.path.name} has no contig {contig!r}. Name one of its contigs.")
        try:
            bases: bytes = self._fasta.fetch(contig).encode("ascii")
        except UnicodeError:
            raise InputError(
                f"{self.path.name}: contig {contig} holds bytes that are no letters. {_WHAT_TO_DO}"
            ) from None
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.path.name}: contig {contig} cannot be read ({error}). {_WHAT_TO_DO}") from None
        if len(bases) != self.contigs[contig]:
            raise InputError(
                f"{self.path.name}: contig {contig} has {counted(len(bases), 'base')}, its index says "
                f"{self.contigs[contig]:,}. {_WHAT_TO_DO}"
            )
        return bases

    def _refuse_letter(self, contig: str, letters: bytes, place: int) -> None:
        raise InputError(
            f"{self.path.name}: contig {contig} has {chr(letters[place])!r} at position {place + 1:,}, which is no "
            f"nucleotide (expected A, C, G, T, U, N or another IUPAC letter). {_WHAT_TO_DO}"
        )


_WHAT_TO_DO = "Check that the file is whole and holds DNA, or download it again."


def _span(codes: bytes, start: int, end: int) -> bytes:
    """Cut [start, end), with N for what lies outside."""
    if 0 <= start and end <= len(codes):
        return codes[start:end]
    if end <= 0 or start >= len(codes):
        return bytes((N,)) * (end - start)
    left, right = bytes((N,)) * max(0, -start), bytes((N,)) * max(0, end - len(codes))
    return left + codes[max(0, start) : end] + right
