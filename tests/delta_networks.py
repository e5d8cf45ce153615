"""Every supervised network in small, with random weights in float64, and networks of layers that none of them has."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch
from small_models import CONFIGS
from torch import Tensor, nn
from torch.nn import functional

from varfm.delta.executor import Executor
from varfm.encoding.onehot import onehot
from varfm.models import catalog
from varfm.models.expecto import ShiftedBeluga
from varfm.models.mini import MiniNet
from varfm.models.mpra_dragonn import MpraDragonn
from varfm.models.xpresso import Xpresso


class Odd(nn.Module):
    """Strides, pools that overlap, cuts, paddings and sums that are not of one span."""

    length = 96

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(4, 6, 4, stride=2, padding="valid")
        self.same = nn.Conv1d(6, 6, 4, padding="same", dilation=2)
        self.pool = nn.MaxPool1d(3, stride=2, padding=1)
        self.groups = nn.Conv1d(6, 6, 3, padding=1, groups=2)
        self.circular = nn.Conv1d(6, 6, 3, padding=1, padding_mode="circular")
        self.norm = nn.BatchNorm1d(6)

    def forward(self, batch: Tensor) -> Tensor:
        """(n, 96) base codes -> (n, 6, 17)."""
        x = self.pool(functional.silu(self.first(functional.pad(onehot(batch, dtype=self.first.weight.dtype), (3, 1)))))
        x = torch.cat([x, self.same(x)], 1)[:, :6, 2:-3]
        x = self.norm(torch.where(x > 0, x, 0.1 * x)) + self.groups(x)
        return self.circular(input=functional.max_pool1d(x, 3, stride=1))


class Tail(nn.Module):
    """Channels first and positions first into dense layers, positions last left to a matrix product."""

    length = 40

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 5, 3)
        self.channels_first = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(5 * 38, 3))
        self.positions_first = nn.Linear(5 * 38, 3)
        self.each = nn.Linear(5, 2)

    def forward(self, batch: Tensor) -> Tensor:
        """(n, 40) base codes -> (n, 3)."""
        x = torch.tanh(self.conv(onehot(batch, 0.25, self.conv.weight.dtype)))
        turned = x.transpose(1, 2)
        found = self.channels_first(x) + torch.relu(self.positions_first(turned.flatten(1)))
        return found + self.each(turned).sum((1, 2), keepdim=True)[:, 0] + turned.flatten(1).mean(1, keepdim=True)


class Pairs(nn.Module):
    """Convolutions in pairs with nothing between them, one of which something else reads, too."""

    length = 50

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(4, 6, 9, padding=4), nn.Conv1d(6, 6, 9, padding=4, bias=False))
        self.second = nn.Sequential(nn.Conv1d(6, 6, 5, padding="same"), nn.Conv1d(6, 6, 3, padding=1))
        self.read, self.reader = nn.Conv1d(6, 6, 3, padding=1), nn.Conv1d(6, 6, 1)

    def forward(self, batch: Tensor) -> Tensor:
        """(n, 50) base codes -> (n, 6, 50)."""
        x = self.first(onehot(batch, dtype=self.reader.weight.dtype))
        x = self.second(torch.relu(x))
        read = self.read(x)
        return read + self.reader(read)


class Shared(nn.Module):
    """Values that several layers read, also through a view, sums of which one part lives on, and ends of one source."""

    length = 50

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(4, 6, 3, padding=1), nn.Conv1d(6, 6, 5, padding=2)
        self.norm, self.dropout = nn.BatchNorm1d(6), nn.Dropout(0.5)

    def forward(self, batch: Tensor) -> Tensor:
        """(n, 50) base codes -> (n, 6, 46)."""
        x = self.first(onehot(batch, dtype=self.norm.weight.dtype))
        view, kept = x[:, :, 2:-2], self.dropout(x)
        x = x + self.second(torch.relu(self.norm(x)))
        x = self.second(x.exp() / (1 + x.exp())) + self.second(x.abs())
        x = self.norm(x * torch.sigmoid(x)) + kept
        x = x[:, :, 2:-2] + view
        return x / (1 + x.abs())


class Sized(NamedTuple):
    """A network and the bases it reads."""

    network: nn.Module
    length: int


def _made(name: str) -> Sized:
    plain = {
        "mini": MiniNet,
        "mpra-dragonn": lambda: MpraDragonn(6),
        "xpresso": Xpresso,
        "odd": Odd,
        "tail": Tail,
        "pairs": Pairs,
        "shared": Shared,
    }
    if name in plain:
        network = plain[name]()
        return Sized(network, int(network.length))
    if name == "expecto":
        network = ShiftedBeluga(replace(CONFIGS["beluga"], length=340), (-30, -20, -10, 0, 10, 20, 30))
        return Sized(network, network.length)
    module = importlib.import_module(f"varfm.models.{catalog.get(name).module}")
    network = module.network_of(CONFIGS[name])
    return Sized(network, CONFIGS[name].length)


SUPERVISED = (*CONFIGS, "expecto", "mini", "mpra-dragonn", "xpresso")
TOYS = ("odd", "pairs", "shared", "tail")


@cache
def drawn(name: str) -> Sized:
    """Make a network in float64 whose activations neither die nor explode."""
    network, length = _made(name)
    network = network.double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    for key, value in (*network.named_parameters(), *network.named_buffers()):
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif key not in ("positions", "basis") and value.is_floating_point():
            spread = (1.5 / value[0].numel()) ** 0.5 if value.dim() > 1 else 0.3
            value.normal_(0, spread, generator=generator)
    return Sized(network, length)


@cache
def executor_of(name: str) -> Executor:
    """Trace a network once."""
    return Executor(*drawn(name))
