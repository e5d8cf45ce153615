"""An executor that runs reference windows in bfloat16, and what changes in them in the network's own precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, fx, nn

from varfm.delta.executor import Context, Executor
from varfm.delta.spans import Route
from varfm.precision import in_bfloat16, widened


class MixedExecutor(Executor):
    """Computes the changed places of both alleles from one rounded context, so that rounding cancels between them.

    The reference allele has to be asked for like an alternate one, by the span that is compared: what `reference`
    answers itself is rounded.

    Args:
        network: In evaluation mode, on its device; it reads (n, length) base codes, and its `forward` can be traced.
        length: Bases that it reads.
    """

    def __init__(self, network: nn.Module, length: int) -> None:
        super().__init__(network, length)
        self._rounded = Executor(in_bfloat16(network), length)
        self._own = dict(zip(self._rounded._nodes, self._nodes, strict=True))  # one class of network, one graph

    def reference(self, codes: Tensor, routes: Sequence[Route]) -> tuple[Tensor, list[Context]]:
        """Run whole windows in bfloat16; as `Executor.reference`, outputs and contexts are float32."""
        outputs, contexts = self._rounded.reference(codes, [self._rounded.route(route.span) for route in routes])
        whole = self._widened(contexts[0].whole) if contexts else {}
        return widened(outputs), [
            Context(
                route,
                {(self._own[node], span): widened(value) for (node, span), value in context.margins.items()},
                whole,
            )
            for route, context in zip(routes, contexts, strict=True)
        ]

    def _widened(self, whole: Mapping[fx.Node, Tensor]) -> dict[fx.Node, Tensor]:
        return {self._own[node]: widened(value) for node, value in whole.items()}
