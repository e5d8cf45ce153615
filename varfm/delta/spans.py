"""Where a change of the bases in one span is felt in a network, node by node, and what is read around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from varfm.delta.rules import Columns, Flat, Input, Places, Pointwise, Rule, Shift, Span, Stack, Window


@dataclass(frozen=True, eq=False)
class Route:
    """The way of a change through a network.

    Attributes:
        span: The bases that may change.
        changed: The positions of each node that this may change; nodes that stay as they are are not in it.
        margins: The stretches of each node's reference values that are read beside its changed ones.
    """

    span: Span
    changed: Mapping[fx.Node, Span]
    margins: Mapping[fx.Node, frozenset[Span]]

    @property
    def shape(self) -> tuple[int, ...]:
        """What the shapes of all tensors on the way follow from."""
        widths = [span.width for span in self.changed.values()]
        return *widths, -1, *sorted(span.width for spans in self.margins.values() for span in spans)


def route_of(rules: Mapping[fx.Node, Rule], span: Span) -> Route:
    """Work out the way of a change.

    Args:
        rules: In the order of the graph.
        span: At least one base, inside the window.
    """
    changed: dict[fx.Node, Span] = {}
    margins: dict[fx.Node, set[Span]] = {}
    for node, rule in rules.items():
        if isinstance(rule, Input):
            changed[node] = span
        elif isinstance(rule, Columns):
            for source in rule.sources:
                if source in changed:
                    margins.setdefault(source, set()).add(changed[source])
        elif isinstance(rule, Window | Pointwise | Shift):
            spans = [changed.get(source, Span(0, 0)) for source in rule.sources]
            felt = rule.changed(spans) if any(one.width for one in spans) else Span(0, 0)
            if felt.width:
                changed[node] = felt
                for source in rule.sources:
                    read = rule.reads(felt).within(places_of(rules[source]).length)
                    beside = beside_of(read, changed.get(source))
                    margins.setdefault(source, set()).update(one for one in beside if one.width)
    return Route(span, changed, {node: frozenset(found) for node, found in margins.items()})


def beside_of(read: Span, changed: Span | None) -> tuple[Span, ...]:
    """Give what of a span that is read stands left and right of the changed one; all of it if nothing is changed."""
    if changed is None:
        return (read,)
    return Span(read.start, min(changed.start, read.stop)), Span(max(changed.stop, read.start), read.stop)


def places_of(rule: Rule) -> Places:
    """Give the positions of a node that has some."""
    assert not isinstance(rule, Flat | Stack | Columns)
    return rule.places
