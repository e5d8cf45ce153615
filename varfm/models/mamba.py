"""Mamba-1 in both directions: a recurrence whose steps depend on the input, in plain PyTorch.

Paper: Gu and Dao, arXiv 2312.00752. Code: github.com/state-spaces/mamba, modules/mamba_simple.py and
`selective_scan_ref` of ops/selective_scan_interface.py, commit e9594ce (Apache-2.0); both directions:
github.com/kuleshov-group/caduceus, `BiMambaWrapper`, commit 0060a6d (Apache-2.0).
What differs from upstream: powers of 2 in place of those of e, which PyTorch computes three times as fast on a CPU;
both directions run as one; a projection that both directions share is run once; the sequence is read piece by piece,
so that the states of a few steps are held at any time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

PIECE = 512
"""Steps that are read at once on a CPU."""

_STATES = 1 << 18
"""States that the loop holds: 1 MB, so that they stay in the processor's cache."""

_STATES_ON_GPU = 1 << 27
"""States of a piece on a GPU: 0.5 GB, a few times over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MambaSizes:
    """Sizes of a mixer.

    Attributes:
        width: Channels that it reads and gives.
        n_inner: Channels inside.
        n_states: States of each inner channel.
        rank: Numbers that the step sizes of a position are made of.
        kernel: Positions that the convolution covers.
    """

    width: int
    n_inner: int
    n_states: int
    rank: int
    kernel: int


class Steps(NamedTuple):
    """What each step of the recurrence reads; time is the second axis.

    Attributes:
        size: (n, n_steps, n_inner) step sizes, above 0.
        drive: (n, n_steps, n_inner) step size times input.
        write: (n, n_steps, n_states) how far the drive enters each state (upstream's B).
        read: (n, n_steps, n_states) how far each state shows in the output (C).
    """

    size: Tensor
    drive: Tensor
    write: Tensor
    read: Tensor

    def map_times(self, start: int, stop: int) -> Steps:
        """Give some of the steps, time first."""
        return Steps(*(part[:, start:stop].transpose(0, 1) for part in self))


class Mamba(nn.Module):
    """The parameters of one direction, under upstream's names, and what they make of each position."""

    def __init__(self, sizes: MambaSizes) -> None:
        super().__init__()
        n_inner, n_states = sizes.n_inner, sizes.n_states
        self.in_proj = nn.Linear(sizes.width, 2 * n_inner, bias=False)
        self.conv1d = nn.Conv1d(n_inner, n_inner, sizes.kernel, groups=n_inner)
        self.x_proj = nn.Linear(n_inner, sizes.rank + 2 * n_states, bias=False)
        self.dt_proj = nn.Linear(sizes.rank, n_inner)
        self.A_log = nn.Parameter(torch.arange(1.0, n_states + 1).log().repeat(n_inner, 1))
        self.D = nn.Parameter(torch.ones(n_inner))
        self.out_proj = nn.Linear(n_inner, sizes.width, bias=False)

    def inputs(self, inner: Tensor) -> tuple[Tensor, Steps]:
        """Convolve and project.

        Args:
            inner: (n, kernel - 1 + n_steps, n_inner), the steps and those before them.

        Returns:
            What enters the recurrence, (n, n_steps, n_inner), and the steps.
        """
        kernel = self.conv1d.weight[:, 0].T
        n_steps = inner.shape[1] - len(kernel) + 1
        values = torch.addcmul(cast(Tensor, self.conv1d.bias), inner[:, :n_steps], kernel[0])
        for place in range(1, len(kernel)):
            values.addcmul_(inner[:, place : place + n_steps], kernel[place])
        values = functional.silu(values)
        n_states = self.A_log.shape[1]
        low_rank, write, read = self.x_proj(values).split([self.dt_proj.in_features, n_states, n_states], -1)
        size = functional.softplus(self.dt_proj(low_rank))
        return values, Steps(size, size * values, write, read)

    def rates(self) -> Tensor:
        """Give the (n_states, n_inner) powers of 2 by which a step of size 1 shrinks the states, below 0."""
        return self.A_log.exp().T * -math.log2(math.e)


class BiMamba(nn.Module):
    """A sequence read from both ends; the two results are added.

    `share` ties the projections from and to the outside, as upstream does; a file holds one of them, or both alike.
    """

    def __init__(self, sizes: MambaSizes) -> None:
        super().__init__()
        self.mamba_fwd = Mamba(sizes)
        self.mamba_rev = Mamba(sizes)
        self.share()

    def share(self) -> None:
        """Let both directions use one tensor for each outer projection: that of the forward direction."""
        self.mamba_rev.in_proj.weight = self.mamba_fwd.in_proj.weight
        self.mamba_rev.out_proj.weight = self.mamba_fwd.out_proj.weight

    def forward(self, values: Tensor) -> Tensor:
        """(n, n_tokens, width) -> (n, n_tokens, width)."""
        forward, backward = self.mamba_fwd, self.mamba_rev
        inner, gate = forward.in_proj(values).chunk(2, -1)
        inner_back, gate_back = inner, gate
        if not _is_one(forward.in_proj, backward.in_proj):
            inner_back, gate_back = backward.in_proj(values).chunk(2, -1)
        found, found_back = self._scanned(inner, inner_back)
        if gate is gate_back and _is_one(forward.out_proj, backward.out_proj):
            return forward.out_proj((found + found_back) * functional.silu(gate))
        return forward.out_proj(found * functional.silu(gate)) + backward.out_proj(
            found_back * functional.silu(gate_back)
        )

    def _scanned(self, inner: Tensor, inner_back: Tensor) -> tuple[Tensor, Tensor]:
        """Run both recurrences, (n, n_tokens, n_inner) each; all in the order of the sequence."""
        mixers = (self.mamba_fwd, self.mamba_rev)
        (n, n_tokens, _), before = inner.shape, self.mamba_fwd.conv1d.kernel_size[0] - 1
        rates = torch.stack([mixer.rates() for mixer in mixers]).repeat_interleave(n, 0)
        skips = torch.stack([mixer.D for mixer in mixers]).repeat_interleave(n, 0)[:, None]
        state = torch.zeros_like(rates)
        found, found_back = torch.zeros_like(inner), torch.zeros_like(inner)
        piece = PIECE if rates.device.type == "cpu" else max(1, _STATES_ON_GPU // rates.numel())
        for start in range(0, n_tokens, piece):
            stop = min(n_tokens, start + piece)
            windows = _window(inner, start, stop, before), _window_back(inner_back, start, stop, before)
            read = [mixer.inputs(window) for mixer, window in zip(mixers, windows, strict=True)]
            steps = Steps(*(torch.cat(parts) for parts in zip(*(steps for _, steps in read), strict=True)))
            values, state = selective_scan(steps, rates, state)
            values = torch.addcmul(values, torch.cat([entering for entering, _ in read]), skips)
            found[:, start:stop] = values[:n]
            found_back[:, n_tokens - stop : n_tokens - start] = values[n:].flip(1)
        return found, found_back


def selective_scan(steps: Steps, rates: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run the recurrence `state = 2 ** (size * rates) * state + write * drive`, with output `sum(read * state)`.

    On a CPU step by step, which was measured four times as fast and more as blocks; else in blocks.

    Args:
        steps: What each step reads.
        rates: (n, n_states, n_inner), below 0.
        state: (n, n_states, n_inner), before the first step.

    Returns:
        (n, n_steps, n_inner) outputs, and the state after the last step.
    """
    return (scan_by_step if rates.device.type == "cpu" else scan_in_blocks)(steps, rates, state)


def scan_by_step(steps: Steps, rates: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run the recurrence one step after the other; see `selective_scan`."""
    n_steps, n_held = steps.size.shape[1], max(1, _STATES // rates.numel())
    # With `out`, memory that is in the cache is used again; gradients want memory of their own.
    held = None if torch.is_grad_enabled() else rates.new_empty(2, min(n_steps, n_held), *rates.shape)
    found = []
    for start in range(0, n_steps, n_held):
        size, drive, write, read = steps.map_times(start, start + n_held)
        decay, states = (None, None) if held is None else held[:, : len(size)]
        decay = torch.mul(size[:, :, None], rates, out=decay).exp2_()
        states = torch.mul(write[..., None], drive[:, :, None], out=states)
        states = _accumulated(decay, states, state)
        state = states[-1].clone()
        found.append(torch.matmul(read[:, :, None], states)[:, :, 0])
    return torch.cat(found).transpose(0, 1), state


def scan_in_blocks(steps: Steps, rates: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run the recurrence in all blocks at once, then carry states from block to block; see `selective_scan`.

    Of n steps, about 2 * sqrt(n) operations follow one another. What decays over a block is a product of numbers
    below 1, which loses nothing.
    """
    n_steps = steps.size.shape[1]
    block = math.isqrt(n_steps - 1) + 1
    n_blocks = -(-n_steps // block)
    # Steps of size 0 at the end leave the state as it is.
    padded = (functional.pad(part, (0, 0, 0, n_blocks * block - n_steps)) for part in steps)
    size, drive, write, read = (part.reshape(len(part), n_blocks, block, -1).permute(2, 1, 0, 3) for part in padded)
    decay = torch.mul(size[..., None, :], rates).exp2_()  # (block, n_blocks, n, n_states, n_inner)
    states = _accumulated(decay, write[..., None] * drive[..., None, :], torch.zeros_like(rates))
    kept = decay.cumprod(0)
    carried = [state]
    for lasting, added in zip(kept[-1], states[-1], strict=True):
        carried.append(torch.addcmul(added, lasting, carried[-1]))
    states = torch.addcmul(states, kept, torch.stack(carried[:-1]))
    found = torch.matmul(read[..., None, :], states)[..., 0, :]
    return found.permute(2, 1, 0, 3).flatten(1, 2)[:, :n_steps], carried[-1]


def _accumulated(decay: Tensor, added: Tensor, state: Tensor) -> Tensor:
    """Give the states after each step, time first, in place of what is added where no gradient is wanted."""
    pairs = zip(decay.unbind(0), added.unbind(0), strict=True)
    if not torch.is_grad_enabled():
        for lasting, entering in pairs:
            state = entering.addcmul_(lasting, state)
        return added
    states = []
    for lasting, entering in pairs:
        state = torch.addcmul(entering, lasting, state)
        states.append(state)
    return torch.stack(states)


def _window(values: Tensor, start: int, stop: int, before: int) -> Tensor:
    """Give some positions with those before them, zeros where there are none."""
    return functional.pad(values[:, max(0, start - before) : stop], (0, 0, max(0, before - start), 0))


def _window_back(values: Tensor, start: int, stop: int, before: int) -> Tensor:
    """Do the same, with positions that are counted from the end."""
    n = values.shape[1]
    mirrored = values[:, n - stop : n - max(0, start - before)].flip(1)
    return functional.pad(mirrored, (0, 0, max(0, before - start), 0))


def _is_one(layer: nn.Module, other: nn.Module) -> bool:
    """Say whether two layers are the same, which they are not once an adapter has changed one of them."""
    return type(layer) is type(other) is nn.Linear and layer.weight is other.weight
