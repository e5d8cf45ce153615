"""Whole windows in less memory: functions of single values, one after the other, piece by piece, and sums in place."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from varfm.delta.pieces import by_channels
from varfm.delta.rules import Local, Pointwise, Rule, Window
from varfm.delta.trace import evaluate
from varfm.encoding.onehot import onehot

_OF_MORE = (onehot, torch.cat, "transpose", torch.transpose)
"""Pointwise for `varfm.delta.rules`, but reading or giving other channels or axes."""


class Chain:
    """Pointwise nodes that read one node, and each other, and of which only the last is read by others.

    Args:
        network: That the nodes are of.
        source: The node that is read.
        nodes: In order.
        in_place: True if nothing else reads the source, so that the result may take its memory.
    """

    def __init__(self, network: nn.Module, source: fx.Node, nodes: Sequence[fx.Node], *, in_place: bool) -> None:
        self.nodes = tuple(nodes)
        self.source = source
        self.in_place = in_place
        self._network = network
        last_reader = {read: node for node in nodes for read in node.all_input_nodes}
        self._done_with = {node: [read for read, last in last_reader.items() if last is node] for node in nodes}
        modules = {node: network.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"}
        self._norms = {node: module for node, module in modules.items() if isinstance(module, nn.BatchNorm1d)}

    def __call__(self, x: Tensor) -> Tensor:
        """Run the chain on its source, (n, channels, positions), which may be overwritten -> the same shape."""
        return by_channels(self._run, x, into=x if self.in_place else None)

    def _run(self, channels: slice, x: Tensor) -> Tensor:
        values: dict[fx.Node, Any] = {self.source: x}
        for node in self.nodes:
            norm = self._norms.get(node)
            if norm is None:
                values[node] = evaluate(self._network, node, values)
            else:
                values[node] = _normalised(norm, values[node.all_input_nodes[0]], channels)
            for read in self._done_with[node]:
                del values[read]
        found: Tensor = values[self.nodes[-1]]
        return found


def _normalised(norm: nn.BatchNorm1d, x: Tensor, channels: slice) -> Tensor:
    mean, variance, weight, bias = (
        None if value is None else value[channels]
        for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return functional.batch_norm(x, mean, variance, weight, bias, eps=norm.eps)


def chains_of(
    network: nn.Module, nodes: Sequence[fx.Node], rules: Mapping[fx.Node, Rule], kept: Collection[fx.Node]
) -> Iterator[Chain]:
    """Give the chains of a graph that are worth it.

    All nodes of a chain feel a change where its source does, so that of none but the source and the last one anybody
    reads values beside the changed ones.

    Args:
        network: That the graph is of.
        nodes: Of the graph, in order.
        rules: Of the nodes.
        kept: Nodes whose whole values are wanted: they end a chain, and stay as they are.
    """
    candidates = [node for node in nodes if _is_of_values(node, rules)]
    sources, ends = _sources_and_ends(candidates, kept)
    for end in candidates:
        if end not in ends or end not in sources:
            continue
        source = sources[end]
        chain = _leading_to(end, [node for node in candidates if sources.get(node) is source], ends)
        if chain is None:
            continue
        in_place = source not in kept and isinstance(rules[source], Window) and set(source.users) <= set(chain)
        if len(chain) > 1 or in_place:
            yield Chain(network, source, chain, in_place=in_place)


def _is_of_values(node: fx.Node, rules: Mapping[fx.Node, Rule]) -> bool:
    """Tell whether a node works value by value, but for constants that differ by channel."""
    rule = rules.get(node)
    if not isinstance(rule, Pointwise) or (rule.places.axis, rule.places.n_axes) != (2, 3):
        return False
    return node.target not in _OF_MORE and all(
        isinstance(found := rules[one], Local) and found.places == rule.places for one in rule.sources
    )


def _sources_and_ends(
    candidates: Sequence[fx.Node], kept: Collection[fx.Node]
) -> tuple[dict[fx.Node, fx.Node], set[fx.Node]]:
    """Give the one node that each candidate is made of, where it is one, and the candidates that others read."""
    known = set(candidates)
    ends = {node for node in candidates if node in kept or not known.issuperset(node.users)}
    while True:
        sources: dict[fx.Node, fx.Node] = {}
        for node in candidates:
            roots = {one if one in ends else sources.get(one, one) for one in node.all_input_nodes}
            if len(roots) == 1:
                sources[node] = roots.pop()
        # What is read by a node of several sources has to be there as it is.
        more = {one for node in candidates if node not in sources for one in node.all_input_nodes} & known
        if more <= ends:
            return sources, ends
        ends |= more


def _leading_to(end: fx.Node, nodes: Sequence[fx.Node], ends: Collection[fx.Node]) -> list[fx.Node] | None:
    """Give the nodes of one source that lead to an end and to nothing else, in order, and the end; None if some do."""
    found = {end}
    for node in reversed(nodes):
        if node not in ends and found.intersection(node.users):
            found.add(node)
    if any(not found.issuperset(node.users) for node in found if node is not end):
        return None
    return [node for node in nodes if node in found]


def sums_in_place(nodes: Sequence[fx.Node], own: Collection[fx.Node]) -> dict[fx.Node, fx.Node]:
    """Give the sums of two nodes whose result may take the memory of one of them, and that one.

    Args:
        nodes: Of the graph.
        own: Nodes whose values lie in memory of their own.
    """
    found: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node.target in (operator.add, torch.add) and len(node.all_input_nodes) == len(node.args) and not node.kwargs:
            # A value with another reader may live on in a view of it.
            last = [one for one in node.all_input_nodes if one in own and len(one.users) == 1]
            if len(node.args) == 2 and last:
                found[node] = last[0]
    return found
