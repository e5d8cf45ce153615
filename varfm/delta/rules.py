"""How a changed span of positions goes through each node of a graph; what has no rule is computed whole."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from varfm.delta.trace import BLOCKS
from varfm.encoding.onehot import onehot

_MOST_COPIES = 4
"""Of columns of a dense layer: those of a narrow change are few, and most changes are in the middle of the window."""


class Span(NamedTuple):
    """Positions [start, stop); empty where stop is not above start. Spans to be read may reach into the padding."""

    start: int
    stop: int

    @property
    def width(self) -> int:
        """Number of positions."""
        return max(0, self.stop - self.start)

    def within(self, length: int) -> Span:
        """Cut off what lies outside [0, length)."""
        return Span(max(self.start, 0), min(self.stop, length))


class Places(NamedTuple):
    """Which axis of a tensor counts positions, how many there are, and how many axes the tensor has."""

    axis: int
    length: int
    n_axes: int


@dataclass(frozen=True, slots=True)
class Window:
    """A convolution or a pool: every output position reads a window of its one input."""

    source: fx.Node
    places: Places
    kernel: int
    stride: int
    dilation: int
    padding: int  # on the left; what lies outside holds `fill`
    fill: float
    apply: Callable[[Tensor], Tensor]  # without padding

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        """The one input."""
        return (self.source,)

    @property
    def _reach(self) -> int:
        return (self.kernel - 1) * self.dilation

    def changed(self, spans: list[Span]) -> Span:
        """Give the output positions that read a changed one."""
        start, stop = spans[0]
        first = -((self._reach - start - self.padding) // self.stride)
        return Span(first, (stop - 1 + self.padding) // self.stride + 1).within(self.places.length)

    def reads(self, span: Span) -> Span:
        """Give the input positions that a span of the output reads."""
        first = span.start * self.stride - self.padding
        return Span(first, (span.stop - 1) * self.stride - self.padding + self._reach + 1)


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A function of each position of its inputs alone, which have equally many; also a change of the order of axes."""

    sources: tuple[fx.Node, ...]
    places: Places

    def changed(self, spans: list[Span]) -> Span:
        """Give what is changed in any input."""
        real = [span for span in spans if span.width]
        return Span(min(span.start for span in real), max(span.stop for span in real))

    def reads(self, span: Span) -> Span:
        """Give the same positions."""
        return span


@dataclass(frozen=True, slots=True)
class Shift:
    """A cut or a padding with zeros along the positions: input position p becomes p + offset."""

    source: fx.Node
    places: Places
    offset: int

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        """The one input."""
        return (self.source,)

    def changed(self, spans: list[Span]) -> Span:
        """Move the span, and cut off what is left out."""
        return Span(spans[0].start + self.offset, spans[0].stop + self.offset).within(self.places.length)

    def reads(self, span: Span) -> Span:
        """Move the span back; what was padded never changes, so it is not in there."""
        return Span(span.start - self.offset, span.stop - self.offset)


@dataclass(frozen=True, slots=True)
class Input:
    """The base codes."""

    places: Places


@dataclass(frozen=True, slots=True)
class Flat:
    """All positions and channels of its input side by side."""

    source: fx.Node


@dataclass(frozen=True, slots=True)
class Stack:
    """Several `Flat`, one behind the other along a new axis 1."""

    sources: tuple[fx.Node, ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """A dense layer of a `Flat` or a `Stack`: only the columns of changed positions are multiplied, with the change."""

    sources: tuple[fx.Node, ...]  # what was flattened
    layer: nn.Linear
    stacked: bool
    copies: OrderedDict[Span, Tensor] = field(default_factory=OrderedDict, compare=False, repr=False)

    def weight(self, places: Places, span: Span) -> Tensor:
        """Give the columns of a span: a view where positions come before channels, else a copy, the last ones kept."""
        whole = self.layer.weight
        n_channels = whole.shape[1] // places.length
        if places.axis == 1:
            return whole[:, span.start * n_channels : span.stop * n_channels]
        if span not in self.copies:
            self.copies[span] = whole.view(len(whole), n_channels, -1)[:, :, span.start : span.stop].flatten(1)
        self.copies.move_to_end(span)
        while len(self.copies) > _MOST_COPIES:
            self.copies.popitem(last=False)
        return self.copies[span]


Local = Input | Window | Pointwise | Shift
Rule = Local | Flat | Stack | Columns

_POINTWISE_FUNCTIONS: set[Any] = {
    *(torch.relu, torch.sigmoid, torch.tanh, torch.exp, torch.log, torch.log1p, torch.abs, torch.clamp, torch.where),
    *(torch.neg, torch.add, torch.sub, torch.mul, torch.div, torch.sqrt, torch.square, torch.gt, torch.threshold),
    *(functional.relu, functional.gelu, functional.silu, functional.softplus, functional.elu, functional.sigmoid),
    *(functional.leaky_relu, functional.threshold, functional.tanh, functional.relu6),
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.pow, operator.abs),
    *(operator.gt, operator.lt, operator.ge, operator.le),
}
_POINTWISE_METHODS = {
    *("relu", "sigmoid", "tanh", "exp", "log", "log1p", "abs", "clamp", "neg", "add", "sub", "mul", "div", "sqrt"),
    *("square", "contiguous", "float", "double"),
}
_POINTWISE_MODULES = (
    *(nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Threshold),
    *(nn.Dropout, nn.Identity),
)


def rule_of(node: fx.Node, network: nn.Module, rules: Mapping[fx.Node, Rule], length: int) -> Rule | None:
    """Give the rule of a node, None if it has to be computed whole.

    Args:
        node: Its inputs must have been asked for before.
        network: That the graph is of.
        rules: Those of earlier nodes that have one.
        length: Bases that the network reads.
    """
    if node.op == "placeholder":
        return Input(Places(1, length, 2))
    if not node.all_input_nodes or node.op == "output":
        return None
    first = node.all_input_nodes[0]
    found = rules.get(first)
    if isinstance(found, Flat | Stack):
        return _behind_flat(node, network, found, rules)
    if found is None or isinstance(found, Columns):
        return None
    if node.op == "call_module":
        return _of_module(node, network.get_submodule(str(node.target)), first, found.places)
    return _of_window(node, first, found.places) or _of_shape(node, first, found.places) or _of_values(node, rules)


def _behind_flat(node: fx.Node, network: nn.Module, flat: Flat | Stack, rules: Mapping[fx.Node, Rule]) -> Rule | None:
    if node.target is torch.stack and node.args[1:] == (1,) and not node.kwargs:
        flats = [rules.get(source) for source in node.all_input_nodes]
        sources = tuple(one.source for one in flats if isinstance(one, Flat))
        return Stack(sources) if len(sources) == len(flats) else None
    layer = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(layer, nn.Linear):
        stacked = isinstance(flat, Stack)
        return Columns(flat.sources if isinstance(flat, Stack) else (flat.source,), layer, stacked)
    return flat if isinstance(layer, nn.Dropout | nn.Identity) else None


def _of_module(node: fx.Node, module: nn.Module, source: fx.Node, places: Places) -> Rule | None:
    is_channels_first = (places.axis, places.n_axes) == (2, 3)
    if isinstance(module, _POINTWISE_MODULES):
        return Pointwise((source,), places)
    if isinstance(module, nn.Linear):
        return Pointwise((source,), places) if places.axis < places.n_axes - 1 else None
    if isinstance(module, nn.Flatten):
        return Flat(source) if (module.start_dim, module.end_dim, places.n_axes) == (1, -1, 3) else None
    if not is_channels_first:
        return None
    if isinstance(module, nn.BatchNorm1d):
        return Pointwise((source,), places) if module.track_running_stats else None
    if hasattr(module, BLOCKS):
        width: int = getattr(module, BLOCKS)
        return _window(source, places, (width, width, 1), (0, 0), 0.0, module)
    if isinstance(module, nn.Conv1d):
        return _convolution(module, source, places)
    if isinstance(module, nn.MaxPool1d) and not module.ceil_mode and not module.return_indices:
        sizes = (module.kernel_size, module.stride, module.padding, module.dilation)
        return _max_pool(source, places, *(size if isinstance(size, int) else size[0] for size in sizes))
    return None


def _convolution(layer: nn.Conv1d, source: fx.Node, places: Places) -> Rule | None:
    if layer.padding_mode != "zeros":
        return None
    kernel, stride, dilation = layer.kernel_size[0], layer.stride[0], layer.dilation[0]
    total = (kernel - 1) * dilation
    if isinstance(layer.padding, str):
        margins = (total // 2, total - total // 2) if layer.padding == "same" else (0, 0)
    else:
        margins = (layer.padding[0], layer.padding[0])

    def apply(x: Tensor) -> Tensor:
        return functional.conv1d(x, layer.weight, layer.bias, stride, 0, dilation, layer.groups)

    return _window(source, places, (kernel, stride, dilation), margins, 0.0, apply)


def _max_pool(source: fx.Node, places: Places, kernel: int, stride: int, padding: int, dilation: int) -> Rule | None:
    def apply(x: Tensor) -> Tensor:
        return functional.max_pool1d(x, kernel, stride, 0, dilation)

    return _window(source, places, (kernel, stride, dilation), (padding, padding), -torch.inf, apply)


def _window(
    source: fx.Node,
    places: Places,
    sizes: tuple[int, int, int],
    margins: tuple[int, int],
    fill: float,
    apply: Callable[[Tensor], Tensor],
) -> Rule | None:
    kernel, stride, dilation = sizes
    length = (places.length + sum(margins) - (kernel - 1) * dilation - 1) // stride + 1
    if length < 1:
        return None
    return Window(source, places._replace(length=length), kernel, stride, dilation, margins[0], fill, apply)


def _of_window(node: fx.Node, source: fx.Node, places: Places) -> Rule | None:
    """Give the rule of `max_pool1d` as a function, with kernel and stride alone."""
    if node.target is not functional.max_pool1d or (places.axis, places.n_axes) != (2, 3):
        return None
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given: dict[str, Any] = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    kernel, stride = given.get("kernel_size"), given.get("stride")
    stride = kernel if stride is None else stride
    sizes = (kernel, stride, given.get("padding", 0), given.get("dilation", 1))
    whole = [size for size in sizes if isinstance(size, int)]
    if given.get("ceil_mode") or given.get("return_indices") or len(whole) < len(sizes):
        return None
    return _max_pool(source, places, *whole)


def _of_shape(node: fx.Node, source: fx.Node, places: Places) -> Rule | None:
    """Give the rule of what moves positions or axes."""
    axis, _, n_axes = places
    args: tuple[Any, ...] = node.args[1:]
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    if name == "flatten" and n_axes == 3:
        return Flat(source) if args == (1,) and not node.kwargs else None
    if name == "transpose" and n_axes == 3 and set(args) == {1, 2}:
        return Pointwise((source,), places._replace(axis=3 - axis))
    if node.target is functional.pad and axis == n_axes - 1:
        return _padded(args, dict(node.kwargs), source, places)
    if node.target is operator.getitem and axis == n_axes - 1:
        return _cut(args[0], source, places)
    return None


def _padded(args: tuple[Any, ...], kwargs: dict[str, Any], source: fx.Node, places: Places) -> Rule | None:
    margins, mode, value = (*args, *("constant", None)[len(args) - 1 :]) if 1 <= len(args) <= 3 else (None, None, None)
    mode, value = kwargs.get("mode", mode), kwargs.get("value", value)
    if not isinstance(margins, tuple) or len(margins) != 2 or min(margins) < 0 or mode != "constant":
        return None
    if value not in (None, 0):
        return None
    return Shift(source, places._replace(length=places.length + sum(margins)), margins[0])


def _cut(index: Any, source: fx.Node, places: Places) -> Rule | None:
    axis, length, n_axes = places
    is_plain = isinstance(index, tuple) and len(index) == n_axes and all(isinstance(part, slice) for part in index)
    if not is_plain or any(part != slice(None) for part in index[:axis]):
        return None
    bounds = (index[axis].start, index[axis].stop, index[axis].step)
    if not all(bound is None or isinstance(bound, int) for bound in bounds):
        return None
    start, stop, step = index[axis].indices(length)
    return Shift(source, places._replace(length=stop - start), -start) if step == 1 and stop > start else None


def _of_values(node: fx.Node, rules: Mapping[fx.Node, Rule]) -> Rule | None:
    """Give the rule of a function of values at one position; all inputs must have the same positions."""
    sources = tuple(node.all_input_nodes)
    if node.target is onehot:
        found = rules[sources[0]]
        assert isinstance(found, Input)
        return Pointwise(sources[:1], Places(2, found.places.length, 3))
    places = {_places_of(rules.get(source)) for source in sources}
    if len(places) != 1 or (only := places.pop()) is None:
        return None
    is_known = node.target in (_POINTWISE_METHODS if node.op == "call_method" else _POINTWISE_FUNCTIONS)
    is_cat = node.target is torch.cat and only == (2, only.length, 3) and node.args[1:] == (1,) and not node.kwargs
    return Pointwise(sources, only) if is_known or is_cat else None


def _places_of(rule: Rule | None) -> Places | None:
    return rule.places if isinstance(rule, Input | Window | Pointwise | Shift) else None
