"""Runs a network once on reference windows, and then only in part on windows that differ from one of them in a span."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from varfm.delta.chains import chains_of, sums_in_place
from varfm.delta.fusion import fused_pairs
from varfm.delta.product import has_steady_product, steady_product
from varfm.delta.rules import Columns, Flat, Input, Local, Rule, Span, Stack, Window, rule_of
from varfm.delta.spans import Route, beside_of, places_of, route_of
from varfm.delta.trace import evaluate, traced


@dataclass(frozen=True, eq=False)
class Context:
    """What is kept of reference windows for changes in one span; nothing of it depends on the other windows.

    Attributes:
        route: The way of the change.
        margins: Values beside the changed ones, (windows, ...), by node and span of positions.
        whole: Values of nodes whose readers are computed whole, (windows, ...).
    """

    route: Route
    margins: Mapping[tuple[fx.Node, Span], Tensor]
    whole: Mapping[fx.Node, Tensor]

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        return sum(value.numel() * value.element_size() for value in (*self.margins.values(), *self.whole.values()))

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return next(value.device for value in (*self.whole.values(), *self.margins.values()))

    def chosen(self, rows: Tensor) -> Context:
        """Give the same of some windows: (n,) indices, repeats allowed."""
        return self._mapped(lambda value: value.index_select(0, rows))

    def drawn(self, seed: int) -> Context:
        """Give a context of one window of this shape, with values that depend on shape and seed alone."""
        generator = torch.Generator().manual_seed(seed)

        def drawn(like: Tensor) -> Tensor:
            if not like.is_floating_point():
                return torch.zeros_like(like[:1])
            return torch.randn(like[:1].shape, generator=generator, dtype=like.dtype).to(like.device)

        return self._mapped(drawn)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Context:
        return Context(
            self.route,
            {key: change(value) for key, value in self.margins.items()},
            {key: change(value) for key, value in self.whole.items()},
        )


def joined(contexts: Sequence[Context]) -> Context:
    """Put the windows of contexts of one route behind each other."""
    first = contexts[0]
    if len(contexts) == 1:
        return first
    return Context(
        first.route,
        {key: torch.cat([one.margins[key] for one in contexts]) for key in first.margins},
        {key: torch.cat([one.whole[key] for one in contexts]) for key in first.whole},
    )


class Executor:
    """Runs a network in two ways that agree to rounding: whole, and from the change of a span of bases.

    Args:
        network: In evaluation mode, on its device; it reads (n, length) base codes, and its `forward` can be traced.
        length: Bases that it reads.
    """

    def __init__(self, network: nn.Module, length: int) -> None:
        self.network = network.eval()
        self.length = length
        self._nodes = list(traced(network).nodes)
        self.rules: dict[fx.Node, Rule] = {}
        for node in self._nodes:
            rule = rule_of(node, network, self.rules, length)
            if rule is not None:
                self.rules[node] = rule
        self.constants = self._evaluated_constants()
        self._kept_whole = set(self._read_whole())
        pairs = list(fused_pairs(self._nodes, self.rules, network))
        self._skipped = {first for first, _, _ in pairs}
        self._fused = {second: fused for _, second, fused in pairs}
        chains = list(chains_of(network, self._nodes, self.rules, self._kept_whole))
        self.chains = {chain.nodes[-1]: chain for chain in chains}
        self._run_with = {node: chain.nodes[-1] for chain in chains for node in chain.nodes}
        self._done_with = self._last_reads()
        self._sums = sums_in_place(self._nodes, set(self._with_own_memory()))
        varying = [node for node in self._nodes if self._is_run(node)]
        self._local = [node for node in varying if isinstance(self.rules.get(node), Local)]
        self._dense = {node: None for node in varying if not isinstance(self.rules.get(node), Local)}
        self._read_densely = {source for node in self._dense for source in node.all_input_nodes}
        self.route = cache(self._route)

    def _evaluated_constants(self) -> dict[fx.Node, Any]:
        found: dict[fx.Node, Any] = {}
        for node in self._nodes:
            if node.op not in ("placeholder", "output") and all(one in found for one in node.all_input_nodes):
                found[node] = evaluate(self.network, node, found)
        return found

    def _read_whole(self) -> Iterator[fx.Node]:
        """Give the nodes of which the whole reference values are wanted."""
        for node in self._nodes:
            if node in self.constants:
                continue
            rule = self.rules.get(node)
            if isinstance(rule, Columns):
                yield node
            elif rule is None:
                for source in node.all_input_nodes:
                    found = self.rules.get(source)
                    if isinstance(found, Flat | Stack):
                        yield from found.sources if isinstance(found, Stack) else (found.source,)
                    elif found is not None:
                        yield source

    def _is_run(self, node: fx.Node) -> bool:
        """Tell whether a node is neither a constant nor run with a later one."""
        return node not in self.constants and self._run_with.get(node, node) is node

    def _last_reads(self) -> dict[fx.Node, list[fx.Node]]:
        """Give the nodes that nothing reads any more once a node was run in a whole window."""
        order = {node: number for number, node in enumerate(self._nodes)}
        last: dict[fx.Node, fx.Node] = {}
        for node in self._nodes:
            runs = self._run_with.get(node, node)
            for source in node.all_input_nodes:
                last[source] = max(last.get(source, runs), runs, key=order.__getitem__)
        found: dict[fx.Node, list[fx.Node]] = {}
        for source, node in last.items():
            if source not in self.constants:
                found.setdefault(node, []).append(source)
        return found

    def _with_own_memory(self) -> Iterator[fx.Node]:
        """Give nodes whose whole values lie in memory of their own, and are not kept."""
        for node in self._nodes:
            is_new = isinstance(self.rules.get(node), Window) and node not in self._skipped
            is_over_new = node in self.chains and self.chains[node].in_place
            if (is_new or is_over_new) and node not in self._kept_whole:
                yield node

    @property
    def stride(self) -> int:
        """Bases that one position of the coarsest node stands for."""
        strides: dict[fx.Node, int] = {}
        for node, rule in self.rules.items():
            if isinstance(rule, Input):
                strides[node] = 1
            elif not isinstance(rule, Flat | Stack | Columns):
                before = max(strides[source] for source in rule.sources)
                strides[node] = before * (rule.stride if isinstance(rule, Window) else 1)
        return max(strides.values())

    @property
    def computed_whole(self) -> tuple[fx.Node, ...]:
        """The nodes that no rule follows a change through; the output is the last of them."""
        return tuple(node for node in self._nodes if node not in self.rules and node not in self.constants)

    def _route(self, span: Span) -> Route:
        return route_of(self.rules, span)

    def reference(self, codes: Tensor, routes: Sequence[Route]) -> tuple[Tensor, list[Context]]:
        """Run whole windows, and keep what changes along some routes read of them.

        Args:
            codes: (n, length) uint8 on the network's device.
            routes: Of this executor.

        Returns:
            The network's outputs, and a context of all n windows for each route.
        """
        values: dict[fx.Node, Any] = dict(self.constants)
        margins: list[dict[tuple[fx.Node, Span], Tensor]] = [{} for _ in routes]
        whole: dict[fx.Node, Tensor] = {}
        for node in self._nodes:
            if node.op == "output":
                return values[node.all_input_nodes[0]], [
                    Context(route, kept, whole if routes else {}) for route, kept in zip(routes, margins, strict=True)
                ]
            if not self._is_run(node):
                continue
            values[node] = codes if node.op == "placeholder" else self._evaluated(node, values)
            if routes and node in self._kept_whole:
                whole[node] = values[node]
            for route, kept in zip(routes, margins, strict=True):
                for span in route.margins.get(node, ()):
                    kept[node, span] = self._stretch(node, values[node], span)
            for source in self._done_with.get(node, ()):
                values.pop(source, None)
        raise AssertionError("a graph ends with its output")

    def alternate(
        self, codes: Tensor, context: Context, rows: Tensor | None = None, block: int | None = None
    ) -> Tensor:
        """Run windows that differ from those of a context in the span of its route.

        Args:
            codes: (n, width of the span) uint8, the bases in it.
            context: Of the reference windows.
            rows: (n,) which of them each changed window belongs to; None: one for each, in order.
            block: Changed windows of which the dense parts are run together, a divisor of n; None: all. These take most
                of the memory, and their sums most easily depend on how many rows there are.

        Returns:
            What the network answers for the changed windows, to rounding.
        """
        run = _Change(self, context, rows)
        for node in self._local:
            run.step(node, codes)
            for source in self._done_with.get(node, ()):
                if source not in self._read_densely:
                    run.values.pop(source, None)
        if block is None or block >= len(codes):
            return self._dense_parts(run)
        parts = [run.part(start, block) for start in range(0, len(codes), block)]
        return torch.cat([self._dense_parts(part) for part in parts])

    def _dense_parts(self, run: _Change) -> Tensor:
        for node in self._dense:
            if node.op == "output":
                outputs: Tensor = run.whole(node.all_input_nodes[0])
                return outputs
            run.step(node, None)
            for source in self._done_with.get(node, ()):
                if source in self._dense:
                    run.values.pop(source, None)
        raise AssertionError("a graph ends with its output")

    def _evaluated(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        if node in self._skipped:
            return values[node.all_input_nodes[0]]  # the second of the pair is computed from the input of the first
        if node in self._fused:
            return self._fused[node](values[node.all_input_nodes[0]])
        if node in self.chains:
            return self.chains[node](values[self.chains[node].source])
        if node in self._sums and not torch.is_grad_enabled():
            one, other = (values[source] for source in node.all_input_nodes)
            if one.shape == other.shape and one.dtype == other.dtype:
                return torch.add(one, other, out=values[self._sums[node]])
        return evaluate(self.network, node, values)

    def _stretch(self, node: fx.Node, value: Tensor, span: Span) -> Tensor:
        """Copy positions of a node; those of a node that was skipped are computed from its input, which is `value`."""
        rule = self.rules[node]
        if node not in self._skipped:
            return value.narrow(places_of(rule).axis, span.start, span.width).clone()
        assert isinstance(rule, Window)
        read = rule.reads(span)
        inside = read.within(value.shape[2])
        margins = (inside.start - read.start, read.stop - inside.stop)
        return rule.apply(functional.pad(value.narrow(2, inside.start, inside.width), margins))


class _Change:
    """One pass of changed windows: nodes with places hold their changed positions, others their whole value."""

    def __init__(self, executor: Executor, context: Context, rows: Tensor | None) -> None:
        self.values: dict[fx.Node, Any] = dict(executor.constants)
        self._executor, self._network, self._rules = executor, executor.network, executor.rules
        self._context, self._rows = context, rows
        self._changed = context.route.changed

    def _margin(self, node: fx.Node, span: Span) -> Tensor:
        margin = self._context.margins[node, span]
        return margin if self._rows is None else margin.index_select(0, self._rows)

    def _reference(self, node: fx.Node, *, copied: bool = False) -> Tensor:
        whole = self._context.whole[node]
        if self._rows is not None:
            return whole.index_select(0, self._rows)
        return whole.clone() if copied else whole

    def part(self, start: int, n: int) -> _Change:
        """Give the same of some of the windows, from `start` on."""
        if self._rows is None:
            rows = torch.arange(start, start + n, device=self._context.device)
        else:
            rows = self._rows[start : start + n]
        part = _Change(self._executor, self._context, rows)
        # A copy lies at an aligned address, whatever the place of the windows was.
        own = {node: value[start : start + n].clone() for node, value in self.values.items() if node not in part.values}
        part.values.update(own)
        return part

    def step(self, node: fx.Node, codes: Tensor | None) -> None:
        """Compute one node from those before it; a node that stays as it is has no value."""
        rule = self._rules.get(node)
        if rule is None:
            wholes = {source: self.whole(source) for source in node.all_input_nodes}
            self.values[node] = evaluate(self._network, node, wholes)
        elif isinstance(rule, Input):
            self.values[node] = codes
        elif isinstance(rule, Columns):
            self.values[node] = self._updated(node, rule)
        elif node in self._executor.chains and node in self._changed:
            chain = self._executor.chains[node]
            self.values[node] = chain(self.values[chain.source])
        elif not isinstance(rule, Flat | Stack) and node in self._changed:
            read = rule.reads(self._changed[node])
            if isinstance(rule, Window):
                self.values[node] = rule.apply(self._stretch(rule.source, read, rule.fill))
            else:
                found = {source: self._stretch(source, read, 0.0) for source in rule.sources}
                moved = not hasattr(rule, "offset")
                self.values[node] = self._evaluated(node, found) if moved else found[rule.sources[0]]

    def _evaluated(self, node: fx.Node, found: dict[fx.Node, Tensor]) -> Any:
        inputs = {source: found.get(source, self.values.get(source)) for source in node.all_input_nodes}
        return evaluate(self._network, node, inputs)

    def whole(self, node: fx.Node) -> Any:
        """Give all of a node: the reference values with the changed positions in their place."""
        rule = self._rules.get(node)
        if isinstance(rule, Flat):
            return self.whole(rule.source).flatten(1)
        if isinstance(rule, Stack):
            return torch.stack([self.whole(source).flatten(1) for source in rule.sources], 1)
        if rule is None or isinstance(rule, Columns):
            return self.values[node]
        span = self._changed.get(node)
        if span is None:
            return self._reference(node)
        filled = self._reference(node, copied=True)
        filled.narrow(rule.places.axis, span.start, span.width).copy_(self.values[node])
        return filled

    def _updated(self, node: fx.Node, rule: Columns) -> Tensor:
        found = self._reference(node, copied=True)
        for number, source in enumerate(rule.sources):
            span = self._changed.get(source)
            if span is not None:
                change = self.values[source] - self._margin(source, span)
                weight = rule.weight(places_of(self._rules[source]), span)
                part = found[:, number] if rule.stacked else found
                columns = change.flatten(1)
                is_steady = has_steady_product(columns, weight)
                part += steady_product(columns, weight, None) if is_steady else functional.linear(columns, weight)
        return found

    def _stretch(self, node: fx.Node, read: Span, fill: float) -> Tensor:
        """Give the positions of a span, of which those outside the tensor hold `fill`."""
        places, changed = places_of(self._rules[node]), self._changed.get(node)
        axis, inside = places.axis, read.within(places.length)
        if changed == read:
            found: Tensor = self.values[node]
            return found
        margins = [self._margin(node, one) if one.width else None for one in beside_of(inside, changed)]
        pieces = [margins[0]]
        if changed is not None:
            start, stop = max(changed.start, inside.start), min(changed.stop, inside.stop)
            pieces = [margins[0], self.values[node].narrow(axis, start - changed.start, stop - start), margins[1]]
        real = [piece for piece in pieces if piece is not None]
        outside = inside.start - read.start, read.stop - inside.stop
        if any(outside):
            edges = [_edge(real[0], axis, n, fill) if n else None for n in outside]
            real = [piece for piece in (edges[0], *real, edges[1]) if piece is not None]
        return real[0] if len(real) == 1 else torch.cat(real, axis)


def _edge(like: Tensor, axis: int, n: int, fill: float) -> Tensor:
    shape = list(like.shape)
    shape[axis] = n
    return like.new_full(shape, fill)
