"""Two convolutions with nothing between them as one, for whole windows: fewer products, the same sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from varfm.delta.rules import Rule, Window


class Fused:
    """What two convolutions of one stride, padded to keep the length, make of a window.

    Near the ends the second one reads zeros where the fused one would read what the first makes of its own padding, so
    these positions are taken from the two.
    """

    def __init__(self, first: nn.Conv1d, second: nn.Conv1d) -> None:
        self._pair = first, second
        inner, outer = first.weight.double(), second.weight.double()  # (middle, in, width), (out, middle, width)
        width = outer.shape[2]
        weight = functional.conv1d(inner.transpose(0, 1), outer.flip(2), padding=width - 1)
        self._weight = weight.transpose(0, 1).to(first.weight.dtype).contiguous()
        bias = torch.zeros(outer.shape[0], dtype=outer.dtype, device=outer.device)
        if first.bias is not None:
            bias = bias + outer.sum(2) @ first.bias.double()
        if second.bias is not None:
            bias = bias + second.bias.double()
        self._bias = bias.to(first.weight.dtype)
        self._edge = width // 2
        self._reach = first.kernel_size[0] - 1 + 2 * (width // 2)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, channels, length) -> (n, channels, length)."""
        first, second = self._pair
        if x.shape[2] <= 2 * self._reach:
            both: Tensor = second(first(x))
            return both
        y = functional.conv1d(x, self._weight, self._bias, padding=self._weight.shape[2] // 2)
        if self._edge:
            y[:, :, : self._edge] = second(first(x[:, :, : self._reach]))[:, :, : self._edge]
            y[:, :, -self._edge :] = second(first(x[:, :, -self._reach :]))[:, :, -self._edge :]
        return y

    @property
    def saves(self) -> bool:
        """Whether the one takes fewer products than the two."""
        return self._weight.numel() < sum(layer.weight.numel() for layer in self._pair)


def fused_pairs(
    nodes: Sequence[fx.Node], rules: Mapping[fx.Node, Rule], network: nn.Module
) -> Iterator[tuple[fx.Node, fx.Node, Fused]]:
    """Give the pairs that are worth it: the node of the first, that of the second, and what stands for both."""
    taken: set[fx.Node] = set()
    for node in nodes:
        rule = rules.get(node)
        if (
            not isinstance(rule, Window)
            or rule.source in taken
            or len(rule.source.users) > 1
            or not isinstance(rules.get(rule.source), Window)
        ):
            continue
        layers = [_plain(network, one) for one in (rule.source, node)]
        if layers[0] is not None and layers[1] is not None:
            fused = Fused(layers[0], layers[1])
            if fused.saves:
                taken.add(node)
                yield rule.source, node, fused


def _plain(network: nn.Module, node: fx.Node) -> nn.Conv1d | None:
    """Give the convolution of a node, if it has no stride, dilation or groups and keeps the length."""
    layer = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    if not isinstance(layer, nn.Conv1d):
        return None
    width = layer.kernel_size[0]
    is_simple = layer.stride == (1,) and layer.dilation == (1,) and layer.groups == 1 and layer.padding_mode == "zeros"
    return layer if is_simple and width % 2 == 1 and layer.padding in ("same", (width // 2,)) else None
