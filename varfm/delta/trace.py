"""From a network to the graph that is run node by node."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from varfm.delta.product import has_steady_product, steady_product
from varfm.encoding.onehot import onehot

BLOCKS = "positions_per_block"
"""The mark of a module that maps every block of so many positions of (n, channels, positions) to one, from that block
alone: an attribute of this name with their number. The last block may not be cut short."""


class _Tracer(fx.Tracer):
    """Leaves the encoding of bases and marked modules whole."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=(onehot,))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Add marked modules to torch's own layers."""
        return hasattr(m, BLOCKS) or super().is_leaf_module(m, module_qualified_name)


def traced(network: nn.Module) -> fx.Graph:
    """Give the graph of a network's `forward`, without nodes that nothing reads."""
    graph: fx.Graph = _Tracer().trace(network)
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    return graph


def evaluate(network: nn.Module, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    """Run one node, given the values of the nodes it reads."""
    args = fx.node.map_arg(node.args, values.__getitem__)
    kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
    if node.op == "call_module":
        module, x = network.get_submodule(str(node.target)), args[0] if args else None
        if type(module) is nn.Linear and isinstance(x, Tensor) and has_steady_product(x, module.weight):
            return steady_product(x, module.weight, module.bias)  # so that batches of other sizes give the same bits
        return module(*args, **kwargs)
    if node.op == "call_function":
        assert callable(node.target)
        return node.target(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert node.op == "get_attr", node
    value: Any = network
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value
