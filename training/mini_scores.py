"""Logits with both strands averaged, and the figures made of them."""

from __future__ import annotations

import numpy as np
import torch
from mini_data import Codes, reverse_complement
from numpy.typing import NDArray

from varfm.models.mini import MiniNet

BATCH = 1024
Floats = NDArray[np.float64]


@torch.no_grad()
def strand_mean(net: MiniNet, codes: Codes) -> Floats:
    """Give (n, 2) logits of (n, 99) windows, the mean of both strands."""
    net.eval()
    total = np.zeros((len(codes), 2))
    for strand in (codes, reverse_complement(codes)):
        rows = torch.from_numpy(np.ascontiguousarray(strand))
        total += torch.cat([net(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]).numpy()
    return total / 2


def auroc(bound: Floats, free: Floats) -> float:
    """Give the chance that a bound window scores higher than a free one; ties count half."""
    ordered = np.sort(free)
    below = np.searchsorted(ordered, bound, side="left")
    not_above = np.searchsorted(ordered, bound, side="right")
    return float((below + not_above).mean() / (2 * len(free)))


def reliability(
    bound: Floats, backgrounds: list[Floats], prior: float
) -> tuple[float, list[tuple[float, float, float, float]]]:
    """Compare predicted with observed frequencies in ten bins of predicted probability.

    Bound windows together weigh `prior`, every background an equal share of the rest.

    Returns:
        The mean distance between predicted and observed, by weight, and for every bin that is not empty its upper
        bound, weight, mean predicted probability and observed share of bound windows.
    """
    rest = (1 - prior) / len(backgrounds)
    logits = np.concatenate([bound, *backgrounds])
    weights = np.concatenate(
        [np.full(len(g), w / len(g)) for g, w in [(bound, prior), *((b, rest) for b in backgrounds)]]
    )
    probability = 1 / (1 + np.exp(-logits))
    is_bound = np.arange(len(logits)) < len(bound)
    bins = np.minimum((probability * 10).astype(int), 9)
    rows: list[tuple[float, float, float, float]] = []
    for index in np.unique(bins):
        here = bins == index
        weight = weights[here].sum()
        predicted = (weights[here] @ probability[here]) / weight
        observed = (weights[here] @ is_bound[here]) / weight
        rows.append((float(index + 1) / 10, float(weight), float(predicted), float(observed)))
    error = sum(weight * abs(predicted - observed) for _, weight, predicted, observed in rows)
    return error, rows
