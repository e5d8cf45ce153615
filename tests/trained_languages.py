"""A small GPN and a small HyenaDNA, trained on real sequence as in their papers, as published folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from small_languages import GPN_TOKENIZER
from torch import Tensor, nn
from toys import SHARED

from varfm.encoding.characters import HYENADNA
from varfm.genome import Genome, decode, reverse_complement
from varfm.models import ModelOptions, gpn, hyenadna, load
from varfm.models.language import LanguageNetwork
from varfm.protocols import Model

WINDOW = 128
N_TRAINING = 800_000
BATCH = 32
MASKED = 0.15
GPN_JSON: dict[str, Any] = {
    "architectures": ["ConvNetForMaskedLM"], "model_type": "ConvNet", "hidden_size": 48, "n_layers": 6,
    "kernel_size": 9, "dilation_cycle": 6, "dilation_max": 32, "dilation_double_every": 1, "vocab_size": 7,
}  # fmt: skip
HYENADNA_JSON: dict[str, Any] = {
    "model_type": "hyenadna", "d_model": 48, "n_layer": 2, "d_inner": 96, "max_seq_len": 130, "vocab_size": 12,
    "filter_order": 16,
}  # fmt: skip


def sequence() -> bytes:
    """Give the megabase of chromosome 20, as codes."""
    with Genome(SHARED / "kg_chr20_1mb.fa") as genome:
        [name] = genome.contigs
        return genome.codes(name).tobytes()


def held_out(n_per_base: int, seed: int = 3) -> tuple[str, list[int]]:
    """Give the part that is not trained on, and places in it, as many of each base: so its composition says nothing."""
    part = sequence()[N_TRAINING + 2 * WINDOW :]
    codes = np.frombuffer(part, np.uint8)
    inside = np.arange(WINDOW, len(codes) - WINDOW)
    draw = np.random.default_rng(seed)
    places = [draw.choice(inside[codes[inside] == base], n_per_base, replace=False) for base in range(4)]
    return decode(part), sorted(np.concatenate(places).tolist())


def batches(n_steps: int, table: NDArray[np.int64], seed: int) -> Any:
    """Give windows of the training part, of either strand, as ids."""
    codes = np.frombuffer(sequence(), np.uint8)[:N_TRAINING]
    draw = np.random.default_rng(seed)
    for _ in range(n_steps):
        starts = draw.integers(0, N_TRAINING - WINDOW, BATCH)
        rows = [codes[start : start + WINDOW].tobytes() for start in starts]
        rows = [row if number % 2 else reverse_complement(row) for number, row in enumerate(rows)]
        yield torch.from_numpy(table[np.array([np.frombuffer(row, np.uint8) for row in rows])])


def fitted(network: nn.Module, loss_of: Callable[[Tensor], Tensor], ids: Any, n_steps: int, rate: float) -> nn.Module:
    """Train by Adam, the rate falling to 0."""
    optimiser = torch.optim.AdamW(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, n_steps)
    network.train()
    for batch in ids:
        loss = loss_of(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def trained_gpn(folder: Path, n_steps: int) -> Path:
    """Train to name hidden bases, and write the folder."""
    torch.manual_seed(1)
    network = gpn.network_of(gpn.GpnConfig.from_json(GPN_JSON, folder))
    generator = torch.Generator().manual_seed(2)

    def loss_of(ids: Tensor) -> Tensor:
        hidden = torch.rand(ids.shape, generator=generator) < MASKED
        logits = network(torch.where(hidden, gpn.CHARACTERS.mask_id or 0, ids))
        return nn.functional.cross_entropy(logits[hidden], ids[hidden])

    table = np.array(gpn.CHARACTERS.base_ids)
    fitted(network, loss_of, batches(n_steps, table, 4), n_steps, 3e-3)
    (folder / "tokenizer.json").write_text(json.dumps(GPN_TOKENIZER))
    return written(network, GPN_JSON, folder)


def trained_hyenadna(folder: Path, n_steps: int) -> Path:
    """Train to name the next base, and write the folder."""
    torch.manual_seed(1)
    config = hyenadna.HyenaDnaConfig.from_json(HYENADNA_JSON, folder)
    network = hyenadna.network_of(config)
    tables = hyenadna.position_tables(config)
    for name, value in network.state_dict().items():
        if (kind := name.rsplit(".", 1)[-1]) in tables:
            value.copy_(torch.from_numpy(tables[kind]))

    def loss_of(ids: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    fitted(network, loss_of, batches(n_steps, np.array(HYENADNA.base_ids), 4), n_steps, 3e-3)
    return written(network, HYENADNA_JSON, folder)


def written(network: nn.Module, config: dict[str, Any], folder: Path) -> Path:
    """Write what the authors publish."""
    arrays = {name: np.ascontiguousarray(value.detach().numpy()) for name, value in network.state_dict().items()}
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class Moved(nn.Module):
    """A network whose answers are read one position beside."""

    def __init__(self, network: nn.Module, by: int) -> None:
        super().__init__()
        self.network = network
        self.by = by

    def hidden(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) -> (n, n_tokens, width), moved."""
        network: Any = self.network
        return network.hidden(ids).roll(self.by, 1)

    def logits(self, hidden: Tensor) -> Tensor:
        """As they are."""
        network: Any = self.network
        return network.logits(hidden)


def model_of(name: str, folder: Path, moved_by: int = 0) -> Model:
    """Load a folder as a user does, and move where it is read."""
    model = load(name, ModelOptions(weights=folder, offline=True, window=WINDOW))
    network = model.network
    assert isinstance(network, LanguageNetwork)
    if moved_by == 0:
        return model
    beside = LanguageNetwork(Moved(network.network, moved_by), network.tokenizer, network.length, network.block)
    return replace(model, network=beside)
