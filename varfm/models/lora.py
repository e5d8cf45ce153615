"""LoRA adapters as peft writes them: read, checked, and added to the weights of a loaded language model.

A layer's weight W becomes W + scale * B @ A, in place of peft's layer beside a layer: the same function, at no cost.
Format: `adapter_config.json` and `adapter_model.safetensors` of huggingface/peft, 0.21.

Source:
    Hu et al., ICLR 2022, arXiv:2106.09685; scale with `use_rslora`: Kalajdzievski, arXiv:2312.03732.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from varfm.checkpoints import Checkpoint
from varfm.errors import ModelError
from varfm.models import catalog
from varfm.readers import Tensors
from varfm.readers.safetensors import read, recognises

logger = logging.getLogger(__name__)

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What peft puts before the name of every tensor."""

_MAX_CONFIG = 10_000_000
_PART = re.compile(r"(.+)\.(lora_A|lora_B)\.weight")
_UNREAD = {"classifier", "contact_head", "pooler", "qa_outputs", "score", "seq_relationship"}
"""Parts of the authors' classes that no score of varfm reads."""

_READ = {
    *("peft_type", "base_model_name_or_path", "r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern"),
    *("use_rslora", "layers_to_transform", "exclude_modules", "modules_to_save"),
}
_IGNORED = {
    # Who wrote the file, and for which class.
    *("task_type", "auto_mapping", "peft_version", "revision", "inference_mode"),
    # Training; what was chosen is to be seen in the tensors. No dense layer here is stored the other way round.
    *("lora_dropout", "bias", "fan_in_fan_out", "layers_pattern", "eva_config"),
    # Sizes of what is switched off elsewhere, and places of computing.
    *("megatron_core", "qalora_group_size", "runtime_config", "ensure_weight_tying"),
}
_NEUTRAL: dict[str, tuple[object, ...]] = {"init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva")}
"""Values that leave the base as it was published; PiSSA and others move a part of it into the adapter."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter, read and checked by itself.

    Attributes:
        folder: Where it is from.
        base: What it was made for, as its maker called it; empty where nobody said.
        sha256: Of the file of tensors.
        rank: Columns of A where no pattern says otherwise.
        alpha: Numerator of the scale, likewise.
        ranks: Pattern of layer names to rank.
        alphas: Pattern of layer names to alpha.
        stabilised: True: the scale is alpha / sqrt(rank), not alpha / rank.
        targets: Ends of the names of its layers, or a pattern for whole names.
        is_partial: True where the configuration leaves some layers out that fit `targets`.
        saved: Parts that were trained whole, by their names; no layer of theirs has a rank.
        tensors: As in the file.
    """

    folder: Path
    base: str
    sha256: str
    rank: int
    alpha: float
    targets: tuple[str, ...] | str
    tensors: Tensors
    ranks: Mapping[str, float] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    stabilised: bool = False
    is_partial: bool = False
    saved: tuple[str, ...] = ()

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """What decides the scores, for header and manifest."""
        ranks = sorted({float(self.rank), *self.ranks.values()})
        alphas = sorted({self.alpha, *self.alphas.values()})
        found = [
            ("adapter", f"sha256:{self.sha256}"),
            ("adapter_r", _listed(ranks)),
            ("adapter_alpha", _listed(alphas)),
        ]
        return (*found, *((("adapter_scale", "alpha / sqrt(r)"),) if self.stabilised else ()))

    def scale_of(self, path: str, rank: int) -> float:
        """Give what B @ A of a layer is multiplied by.

        Raises:
            ModelError: If the layer's rank is not what the configuration says.
        """
        wanted, alpha = _by_pattern(self.ranks, path, self.rank), _by_pattern(self.alphas, path, self.alpha)
        if rank != wanted:
            raise ModelError(f"{self.folder / WEIGHTS}: {path} has rank {rank}, but {CONFIG} says {wanted:g}. {_AGAIN}")
        return alpha / (math.sqrt(rank) if self.stabilised else rank)


_AGAIN = "Fetch the adapter again."


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _by_pattern(patterns: Mapping[str, float], path: str, default: float) -> float:
    # The first pattern that fits the end of the name, as in peft.
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", path)), default)


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter's folder.

    Raises:
        ModelError: If it is no LoRA adapter, is damaged, or wants something that varfm does not do; then it is named.
    """
    config = _read_config(folder / CONFIG)
    path = folder / WEIGHTS
    try:
        with open(path, "rb") as file:
            is_safetensors = recognises(file.read(9))
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).{_pickle_beside(folder)}") from error
    if not is_safetensors:
        raise ModelError(f"{path}: no safetensors file, and varfm runs no pickle. {_AGAIN}")
    tensors = read(path)
    tensors.check_finite()
    return _adapter(folder, config, sha256, tensors)


def _pickle_beside(folder: Path) -> str:
    if not (folder / "adapter_model.bin").exists():
        return f" --adapter wants the folder of a LoRA adapter, with {CONFIG} and {WEIGHTS}."
    return (
        " The folder holds adapter_model.bin, a pickle, which varfm does not run. "
        "Save the adapter with peft's save_pretrained(folder, safe_serialization=True)."
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_MAX_CONFIG))
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}). --adapter wants the folder of a LoRA adapter, "
            f"with {CONFIG} and {WEIGHTS}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({str(error)[:200]}). {_AGAIN}") from error
    if not isinstance(found, dict) or found.get("peft_type") != "LORA":
        kind = found.get("peft_type") if isinstance(found, dict) else "no object"
        raise ModelError(f"{path}: peft_type is {kind!r}; varfm applies LORA alone.")
    for key, value in found.items():
        if key in _READ or key in _IGNORED or value in _NEUTRAL.get(key, ()):
            continue
        if key in _NEUTRAL or value not in (None, False, [], {}):
            raise ModelError(f"{path}: {key} is {json.dumps(value)[:100]}, which varfm does not apply.")
    return found


def _adapter(folder: Path, config: Mapping[str, Any], sha256: str, tensors: Tensors) -> Adapter:
    path = folder / CONFIG
    targets = config.get("target_modules")
    if not isinstance(targets, str):
        if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
            raise ModelError(f"{path}: target_modules is not a pattern or a list of names. {_AGAIN}")
        targets = tuple(sorted(targets))  # written from a set, in any order
    return Adapter(
        folder=folder,
        base=str(config.get("base_model_name_or_path") or ""),
        sha256=sha256,
        rank=int(_number(config.get("r"), "r", path)),
        alpha=_number(config.get("lora_alpha"), "lora_alpha", path),
        ranks=_patterns(config, "rank_pattern", path),
        alphas=_patterns(config, "alpha_pattern", path),
        stabilised=config.get("use_rslora") is True,
        targets=targets,
        is_partial=config.get("layers_to_transform") is not None or bool(config.get("exclude_modules")),
        saved=tuple(config.get("modules_to_save") or ()),
        tensors=tensors,
    )


def _number(value: object, name: str, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ModelError(f"{path}: {name} is {json.dumps(value)[:100]}, expected a number above 0. {_AGAIN}")
    return float(value)


def _patterns(config: Mapping[str, Any], name: str, path: Path) -> dict[str, float]:
    found = config.get(name) or {}
    if not isinstance(found, dict):
        raise ModelError(f"{path}: {name} is not an object. {_AGAIN}")
    for key in found:
        try:
            re.compile(key)
        except re.error as error:
            raise ModelError(f"{path}: {key!r} in {name} is no pattern ({error}). {_AGAIN}") from error
    return {key: _number(value, f"{name} of {key}", path) for key, value in found.items()}


def apply_adapter(adapter: Adapter, network: nn.Module, checkpoint: Checkpoint) -> None:
    """Add an adapter to the weights of a network, layer by layer.

    Layers go by the names in the authors' class, with or without the class's own name for the part below the head.
    Heads for other tasks, and the pooler before them, are left out: no score reads them.

    Raises:
        ModelError: If the adapter was made for another model, or a layer or its shape does not fit.
    """
    _check_base(adapter, checkpoint)
    layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv1d)}
    pairs, others = _sorted_tensors(adapter)
    if not pairs:
        raise ModelError(f"{adapter.folder / WEIGHTS}: holds no layer of a LoRA adapter. {_AGAIN}")
    names = {path: name for path in pairs if (name := _found(path, layers, adapter, checkpoint)) is not None}
    _check_complete(adapter, set(names.values()), layers, checkpoint)
    for path, name in names.items():
        _merge(adapter, path, layers[name], pairs[path])
    for path, value in others.items():
        _replace(adapter, path, network, value, checkpoint)


def hub_name(checkpoint: Checkpoint) -> str:
    """Give what peft calls the base of an adapter: the name on the model hub, or else varfm's own."""
    urls = [url for file in checkpoint.files for url in file.urls]
    found = re.match(r"https://huggingface\.co/([^/]+/[^/]+)/", urls[0]) if urls else None
    return found[1] if found else checkpoint.name


def _check_base(adapter: Adapter, checkpoint: Checkpoint) -> None:
    if not adapter.base:
        return
    # A folder of the hub's cache names the repository too: models--OWNER--NAME/snapshots/REVISION.
    cached = re.search(r"models--.+?--([^/\\]+)", adapter.base)
    name = (cached[1] if cached else re.split(r"[/\\]", adapter.base.rstrip("/\\"))[-1]).lower()
    if name in _names(checkpoint):
        return
    path = adapter.folder / CONFIG
    for other in catalog.listed():
        if name in _names(other):
            raise ModelError(
                f"{path}: made for {adapter.base}, not for {checkpoint.name}. Run it with --model {other.name}."
            )
    logger.warning(
        "%s: made for %s, which is no model of varfm; nothing but the names and shapes of its layers says whether "
        "it fits %s.",
        *(path, adapter.base, checkpoint.name),
    )


def _names(checkpoint: Checkpoint) -> set[str]:
    return {checkpoint.name, hub_name(checkpoint).rpartition("/")[2].lower()}


def _sorted_tensors(adapter: Adapter) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Tensor]]:
    """Give A and B by layer, and whole values by name."""
    path = adapter.folder / WEIGHTS
    halves: dict[str, dict[str, Tensor]] = {}
    others = {}
    for key, array in adapter.tensors.items():
        value = torch.from_numpy(np.array(array, np.float64))
        if not key.startswith(PREFIX):
            raise ModelError(f"{path}: tensor {key!r} does not begin with {PREFIX}, as those of peft do. {_AGAIN}")
        name = key.removeprefix(PREFIX)
        if part := _PART.fullmatch(name):
            halves.setdefault(part[1], {})[part[2]] = value
        elif "lora_" in name:
            raise ModelError(f"{path}: tensor {name!r} is of a kind of LoRA that varfm does not apply.")
        else:
            others[name.replace(".base_layer.", ".")] = value
    for name, found in halves.items():
        if len(found) != 2:
            raise ModelError(f"{path}: {name} has lora_A or lora_B, but not both. {_AGAIN}")
    return {name: (found["lora_A"], found["lora_B"]) for name, found in halves.items()}, others


def _found(path: str, known: Mapping[str, object], adapter: Adapter, checkpoint: Checkpoint) -> str | None:
    """Give the network's own name of a layer or value; None for what no score reads."""
    if path in known:
        return path
    # An adapter of the class without a head lacks the first words.
    ending = [name for name in known if name.endswith(f".{path}")]
    if len(ending) == 1:
        return ending[0]
    if _UNREAD & set(path.split(".")):
        logger.info("%s: %s is left out: no score reads it.", adapter.folder, path)
        return None
    raise ModelError(
        f"{adapter.folder / WEIGHTS}: adapts {path}, which {checkpoint.name} does not have as a layer of its own. "
        "Run it with the model that it was made for."
    )


def _check_complete(adapter: Adapter, found: set[str], layers: Mapping[str, nn.Module], checkpoint: Checkpoint) -> None:
    """See to it that no layer that `target_modules` names is missing in the file, and that every name has a layer."""
    if adapter.is_partial or isinstance(adapter.targets, str):
        return
    for target in adapter.targets:
        fitting = {name for name in layers if name == target or name.endswith(f".{target}")}
        # A class without a head has no layers outside the part that the others lie in.
        tops = {name.partition(".")[0] for name in found}
        missing = sorted(
            name
            for name in fitting - found
            if name.partition(".")[0] in tops and not set(adapter.saved) & set(name.split("."))
        )
        if missing:
            raise ModelError(
                f"{adapter.folder / WEIGHTS}: {target} of target_modules is also {missing[0]} in {checkpoint.name}, "
                "which the file lacks. Run it with the model that it was made for."
            )


def _merge(adapter: Adapter, path: str, layer: nn.Linear | nn.Conv1d, pair: tuple[Tensor, Tensor]) -> None:
    """Put a new weight into a layer; another layer that shared the old one keeps it."""
    down, up = pair
    weight = layer.weight
    if isinstance(layer, nn.Conv1d) and (layer.groups > 1 or layer.dilation != (1,)):  # peft cannot run the latter
        raise ModelError(
            f"{adapter.folder / WEIGHTS}: {path} is a convolution that is dilated or by channel, "
            "which varfm does not adapt."
        )
    wanted = (len(down), *weight.shape[1:]), (len(weight), len(down), *(1 for _ in weight.shape[2:]))
    if (tuple(down.shape), tuple(up.shape)) != wanted:
        raise ModelError(
            f"{adapter.folder / WEIGHTS}: {path} has lora_A {tuple(down.shape)} and lora_B {tuple(up.shape)}, "
            f"expected {wanted[0]} and {wanted[1]}. Run it with the model that it was made for."
        )
    # In float64, so that the last digits of a score do not depend on how the product was divided among threads.
    change = (up.flatten(1) @ down.flatten(1)).view(weight.shape) * adapter.scale_of(path, len(down))
    layer.weight = nn.Parameter((weight.double() + change).to(weight.dtype), requires_grad=False)


def _replace(adapter: Adapter, path: str, network: nn.Module, value: Tensor, checkpoint: Checkpoint) -> None:
    """Take a value that was trained whole: a bias, a norm."""
    parameters = dict(network.named_parameters())
    # Of BERT's head, the bias has two names.
    name = _found(path.replace("cls.predictions.decoder.bias", "cls.predictions.bias"), parameters, adapter, checkpoint)
    if name is None:
        return
    old = parameters[name]
    if old.shape != value.shape:
        raise ModelError(
            f"{adapter.folder / WEIGHTS}: {path} has shape {tuple(value.shape)}, expected {tuple(old.shape)}. "
            "Run it with the model that it was made for."
        )
    new = value.to(old.dtype)
    if torch.equal(new, old):
        return
    if name.endswith("embedding.weight") or name.endswith("embeddings.weight"):
        raise ModelError(
            f"{adapter.folder / WEIGHTS}: another {path}, the table of tokens, which varfm does not adapt."
        )
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, nn.Parameter(new, requires_grad=False))
