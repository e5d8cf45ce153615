"""Language models as networks of the engine: which tokens are hidden, which logits are read, what they add up to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from varfm.encoding.tokens import Request, Tokenizer, Tokens, kind_of, unpack
from varfm.genome import encode, reverse_complement
from varfm.protocols import Row
from varfm.variants import Variant
from varfm.windows import Haplotype

logger = logging.getLogger(__name__)

_N = b"\x04"
EMBEDDED_FLANK = 64
"""An embedding averages over the tokens within this many bases of the allele."""


class Language(Protocol):
    """The network of a family: hidden states of tokens, and logits of some of them."""

    def hidden(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, width), after the final norm."""

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., n_vocabulary)."""


class Causal(Language, Protocol):
    """A network whose hidden states depend on the tokens up to theirs alone."""

    def hidden_from(self, ids: Tensor, start: int) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens - start, width): those from a position on."""


class Local(Language, Protocol):
    """A network whose hidden states depend on the tokens around theirs alone."""

    def hidden_at(self, ids: Tensor, positions: Tensor) -> Tensor:
        """(n, n_tokens) ids and (n, n_positions) consecutive positions -> (n, n_positions, width)."""


class LanguageNetwork(nn.Module):
    """Reads haplotypes with a language model, in the way that each haplotype names.

    Readings:
        masked: all tokens that touch the focus are hidden at once. Answer: the natural log probability of the partner
            allele's tokens there minus that of the reference's.
        seen: the same with nothing hidden: the network sees the bases of the reference.
        each: every base of the focus is hidden in turn. Answer: the summed log probability of the own bases.
        tokens: the tokens in which the own sequence differs from that with the partner allele are hidden in turn; N at
            the ends is cut off. Answer: their summed log probability.
        filled: all tokens that touch the focus are hidden, then uncovered one after the other from the left. Answer:
            the summed log probability of each own token given those uncovered before it: by the chain rule, that of all
            of them together, also with blocks.
        filled tokens: the same with the tokens in which the own sequence differs from that with the partner allele.
        causal: nothing is hidden. Answer: the summed log probability of all tokens from the focus on, each from those
            before it.
        embedding: nothing is hidden. Answer: the mean hidden state near the focus.

    All answers but embeddings are (2,): the log probability, and the number of tokens it is made of.

    Args:
        network: Of the family.
        tokenizer: Of the checkpoint.
        length: Bases of a window.
        block: Tokens that hold the same base, hidden together (overlapping k-mers); 1 for all others. With blocks,
            `masked` gives the mean over the tokens instead of the sum, and `each` reads the middle one.
    """

    def __init__(self, network: nn.Module, tokenizer: Tokenizer, length: int, block: int = 1) -> None:
        super().__init__()
        self.network = network
        self.tokenizer = tokenizer
        self.length = length
        self.block = block
        self.n_tokens = self.n_unknown = 0

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        """Cut the sequence into tokens and give one row per set of hidden tokens."""
        tokens = self._encode(_read(haplotype, sequence))
        requests: dict[str, Callable[[Tokens, bytes, Haplotype], list[Request]]] = {
            "masked": self._masked,
            "seen": self._seen,
            "each": self._each,
            "tokens": self._differing,
            "filled": self._filled,
            "filled tokens": self._filled,
            "causal": self._causal,
            "embedding": self._embedding,
        }
        return [request.pack() for request in requests[haplotype.reading](tokens, sequence, haplotype)]

    kind_of = staticmethod(kind_of)

    def sample(self, sequence: bytes) -> Row:
        """Give a row that reads a sequence at its middle."""
        ids = self.tokenizer.encode(sequence).ids
        return Request(ids, [len(ids) // 2]).pack()

    def forward(self, batch: Tensor) -> Tensor:
        """(n, n_bytes) packed rows of one kind -> (n, n_positions, n_vocabulary) logits, or (n, width) embeddings."""
        language = cast(Language, self.network)
        ids, positions, embeds = unpack(batch)
        if hasattr(language, "hidden_at"):
            read = cast(Local, language).hidden_at(ids, positions)
        elif hasattr(language, "hidden_from") and not embeds:
            # Rows of one kind are read to the end from one position on.
            start = int(positions.min())
            read = _gathered(cast(Causal, language).hidden_from(ids, start), positions - start)
        else:
            read = _gathered(language.hidden(ids), positions)
        return read.mean(1) if embeds else language.logits(read)

    @torch.inference_mode()
    def embedding_width(self) -> int:
        """Give the numbers of an embedding."""
        ids = self.tokenizer.encode(b"\0\1\2\3" * 4).ids
        request = np.frombuffer(Request(ids, [0], embeds=True).pack(), np.uint8)
        return int(self.forward(torch.from_numpy(request.copy())[None]).shape[1])

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """Turn logits into log probabilities of what stands there, in float64."""
        if haplotype.reading == "embedding":
            return outputs[0]
        tokens = self.tokenizer.encode(_read(haplotype, sequence))
        if haplotype.reading in ("masked", "seen"):
            return self._compared(haplotype, sequence, tokens, outputs[0])
        if haplotype.reading == "causal":
            first = self._first_causal(tokens, haplotype)
            return _summed([outputs[0]], [tokens.ids[first:]])
        read = self._positions(tokens, sequence, haplotype)
        return _summed(outputs, [tokens.ids[[position]] for position in read])

    def _encode(self, sequence: bytes) -> Tokens:
        tokens = self.tokenizer.encode(sequence)
        self.n_tokens += len(tokens.ids)
        if self.tokenizer.unknown_id is not None:
            self.n_unknown += int((tokens.ids == self.tokenizer.unknown_id).sum())
        return tokens

    def _masked(self, tokens: Tokens, sequence: bytes, haplotype: Haplotype) -> list[Request]:
        hidden = tokens.touching(*_focus(haplotype))
        return [Request(self._hide(tokens, hidden), hidden.tolist())]

    def _seen(self, tokens: Tokens, sequence: bytes, haplotype: Haplotype) -> list[Request]:
        return [Request(tokens.ids, tokens.touching(*_focus(haplotype)).tolist())]

    def _each(self, tokens: Tokens, sequence: bytes, haplotype: Haplotype) -> list[Request]:
        start, end = _focus(haplotype)
        read = self._positions(tokens, sequence, haplotype)
        return [
            Request(self._hide(tokens, tokens.touching(base, base + 1)), [position])
            for base, position in zip(range(start, end), read, strict=True)
        ]

    def _differing(self, tokens: Tokens, sequence: bytes, haplotype: Haplotype) -> list[Request]:
        return [
            Request(self._hide(tokens, np.array([position])), [position])
            for position in self._positions(tokens, sequence, haplotype)
        ]

    def _filled(self, tokens: Tokens, sequence: bytes, haplotype: Haplotype) -> list[Request]:
        read = self._positions(tokens, sequence, haplotype)
        return [Request(self._hide(tokens, np.array(read[n:])), [position]) for n, position in enumerate(read)]

    def _causal(self, tokens: Tokens, sequence: bytes, haplotype: Haplotype) -> list[Request]:
        first = self._first_causal(tokens, haplotype)
        return [Request(tokens.ids, range(first - 1, len(tokens.ids) - 1))]

    def _embedding(self, tokens: Tokens, sequence: bytes, haplotype: Haplotype) -> list[Request]:
        start, end = _focus(haplotype)
        near = tokens.touching(start - EMBEDDED_FLANK, end + EMBEDDED_FLANK)
        return [Request(tokens.ids, near.tolist(), embeds=True)]

    def _hide(self, tokens: Tokens, hidden: NDArray[np.int64]) -> NDArray[np.int32]:
        assert self.tokenizer.mask_id is not None
        ids = tokens.ids.copy()
        ids[hidden] = self.tokenizer.mask_id
        return ids

    def _first_causal(self, tokens: Tokens, haplotype: Haplotype) -> int:
        # The first token of all is predicted by nothing.
        return max(1, int(tokens.touching(_focus(haplotype)[0], self.length)[0]))

    def _positions(self, tokens: Tokens, sequence: bytes, haplotype: Haplotype) -> list[int]:
        """Give the tokens whose logits are read, one per row."""
        if haplotype.reading == "each":
            start, end = _focus(haplotype)
            touching = [tokens.touching(base, base + 1) for base in range(start, end)]
            return [int(block[len(block) // 2]) for block in touching]
        if haplotype.reading == "filled":
            return tokens.touching(*_focus(haplotype)).tolist()
        other = self.tokenizer.encode(_read(haplotype, _with_partner(sequence, haplotype)))
        n_before = _n_common(tokens.ids, other.ids)
        n_after = _n_common(tokens.ids[n_before:][::-1], other.ids[n_before:][::-1])
        return list(range(n_before, len(tokens.ids) - n_after))

    def _compared(self, haplotype: Haplotype, sequence: bytes, tokens: Tokens, logits: Tensor) -> Tensor:
        hidden = tokens.touching(*_focus(haplotype))
        other = self.tokenizer.encode(_with_partner(sequence, haplotype))
        found = _log_probability(logits, other.ids[hidden]) - _log_probability(logits, tokens.ids[hidden])
        value = found.mean() if self.block > 1 else found.sum()
        return torch.stack([value, value.new_tensor(float(len(hidden)))])


def _gathered(hidden: Tensor, positions: Tensor) -> Tensor:
    return hidden.gather(1, positions[:, :, None].expand(-1, -1, hidden.shape[-1]))


def _read(haplotype: Haplotype, sequence: bytes) -> bytes:
    # Byte-pair tokens are not made for padding, and need none: their windows may have any length.
    return sequence.strip(_N) if haplotype.reading in ("tokens", "filled tokens") else sequence


def _focus(haplotype: Haplotype) -> tuple[int, int]:
    assert haplotype.focus is not None
    return haplotype.focus


def _with_partner(sequence: bytes, haplotype: Haplotype) -> bytes:
    """Put the partner allele in the place of the own one, on the sequence's strand."""
    assert haplotype.partner is not None
    own, partner = haplotype.variant, haplotype.partner
    variant: Variant = own if own is not None else partner
    n_own = len(variant.alt if own is not None else variant.ref)
    bases = encode(partner.alt if own is None else partner.ref)
    before = variant.start - haplotype.window.start
    if haplotype.strand == "-":
        before, bases = len(sequence) - before - n_own, reverse_complement(bases)
    return sequence[:before] + bases + sequence[before + n_own :]


def _n_common(one: NDArray[np.int32], other: NDArray[np.int32]) -> int:
    n = min(len(one), len(other))
    different = np.flatnonzero(one[:n] != other[:n])
    return int(different[0]) if len(different) else n


def _log_probability(logits: Tensor, ids: NDArray[np.int32]) -> Tensor:
    """(n, n_vocabulary) logits -> (n,) natural log probability of the ids, float64."""
    chosen = torch.from_numpy(ids.astype(np.int64)).to(logits.device)
    return logits.double().log_softmax(-1).gather(1, chosen[:, None])[:, 0]


def _summed(outputs: Sequence[Tensor], ids: Sequence[NDArray[np.int32]]) -> Tensor:
    if not outputs:  # one allele may be made of the tokens that both have in common
        return torch.zeros(2, dtype=torch.float64)
    values = [_log_probability(logits, own) for logits, own in zip(outputs, ids, strict=True)]
    total = torch.cat(values)
    return torch.stack([total.sum(), total.new_tensor(float(len(total)))])
