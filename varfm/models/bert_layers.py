"""What DNABERT-2 and GENA-LM share: BERT's attention over all tokens, its head, and rows that are run one by one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from varfm.models.loading import State, refuse
from varfm.readers import Tensors

WORDS = "bert.embeddings.word_embeddings.weight"
_DECODER = "cls.predictions.decoder.weight"
_BIAS = "cls.predictions.bias"
_DECODER_BIAS = "cls.predictions.decoder.bias"


def attention(queries: Tensor, keys: Tensor, values: Tensor, n_heads: int, bias: Tensor | None = None) -> Tensor:
    """Let every token read all tokens of its row.

    Args:
        queries: (n, n_tokens, width), as are `keys` and `values`; heads lie one after another.
        bias: (n_heads, n_tokens, n_tokens), added to the scaled products.

    Returns:
        (n, n_tokens, width).
    """
    n, n_tokens, width = queries.shape
    shape = n, n_tokens, n_heads, width // n_heads
    q, k, v = (x.reshape(shape).transpose(1, 2) for x in (queries, keys, values))  # (n, n_heads, n_tokens, ...)
    scores = q @ k.transpose(2, 3) / math.sqrt(width // n_heads)
    if bias is not None:
        scores = scores + bias
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def row_by_row(run: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Run a network on a batch, on the CPU on one row at a time.

    A matrix product of several rows takes other paths for other numbers of rows and other places in memory, so that the
    last digits of a row would depend on its companions. With a hundred tokens in a row this is no slower.
    """
    if batch.device.type != "cpu":
        return run(batch)
    # A clone lies at an aligned address, whatever the row's place was.
    return torch.cat([run(row.clone()) for row in batch[:, None]])


class _Transform(nn.Module):
    """The dense layer of the head."""

    def __init__(self, width: int, epsilon: float, is_tanh: bool) -> None:
        super().__init__()
        self.approximation = "tanh" if is_tanh else "none"
        self.dense = nn.Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width, epsilon)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.LayerNorm(functional.gelu(self.dense(hidden), approximate=self.approximation))


class _Predictions(nn.Module):
    """A dense layer, then the product with the table of tokens, of which there is one copy."""

    def __init__(self, n_vocabulary: int, width: int, epsilon: float, is_tanh: bool) -> None:
        super().__init__()
        self.transform = _Transform(width, epsilon, is_tanh)
        self.bias = nn.Parameter(torch.empty(n_vocabulary))

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        return functional.linear(self.transform(hidden), words, self.bias)


class MaskedHead(nn.Module):
    """The head that names hidden tokens: (..., width) and the table of tokens -> (..., n_vocabulary).

    Args:
        is_tanh: True for the approximation of the rectifier that BigBird has.
    """

    def __init__(self, n_vocabulary: int, width: int, epsilon: float, is_tanh: bool = False) -> None:
        super().__init__()
        self.predictions = _Predictions(n_vocabulary, width, epsilon, is_tanh)

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        """Give logits; `words` is (n_vocabulary, width)."""
        return self.predictions(hidden, words)


def taken(tensors: Tensors, network: nn.Module) -> State:
    """Take every parameter of a network under its own name, and make sure that the head's copies are copies.

    The table of the head is the table of tokens, and its bias has two names; a file holds one of them, or both.

    Args:
        tensors: Of upstream's file.
        network: On the meta device, with a `MaskedHead` called `cls` and a table of tokens called as upstream's.

    Raises:
        ModelError: If a tensor is missing or misshapen, or if two that must be equal are not.
    """
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    bias = _BIAS if _BIAS in tensors else _DECODER_BIAS
    state: State = {name: tensors.take(bias if name == _BIAS else name, shape) for name, shape in shapes.items()}
    for copy, name in ((_DECODER, WORDS), (_DECODER_BIAS, _BIAS)):
        if copy in tensors and not np.array_equal(tensors.take(copy, shapes[name]), state[name]):
            raise refuse(tensors.path, f"{copy} to be the same as {name}", ["other numbers"])
    return state
