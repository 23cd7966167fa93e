"""Cost of training on a graph, and the choices that follow: whole graph or batches, fan-out, interval of validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clorg_scale.probes.memory import Allowance

__all__ = [
    "GraphSize",
    "Plan",
    "batch_bytes",
    "choose_plan",
    "fanouts_by_degree",
    "full_batch_bytes",
    "time_allowed",
    "validation_interval",
]

BATCH_SIZE, SMALLEST_BATCH = 8192, 256
"""Seeds in a batch where the graph is too large for a full batch; fewer where memory is short."""

DEFAULT_HIDDEN, DEFAULT_LAYERS = 16, 2
"""Width and number of layers of the paper's network."""

CHEAP_INFERENCE = 10_000_000
"""Entries and logits of one inference below which every epoch is validated: some hundredths of a second."""

LONG_EPOCH, MAX_SECONDS = 50_000_000, 60.0
"""Entries and logits of an inference above which epochs take seconds, and the time that training takes at most there:
both networks of an analysis, label propagation and votes then end within five minutes. Below, results never depend on
the clock."""

VALIDATIONS = 5
"""Validations within `patience` epochs, at least."""

VALIDATION_NODES = 50_000
"""Held-out nodes that a validation scores, at most: a standard error of the accuracy below .0023."""

LEAST_FANOUT, MOST_FANOUT, DEGREE_SHARE = 10, 40, 0.5
"""Fan-out as a share of the mean degree, and its bounds.

On 4,000 contrastive embeddings with k = 200 (mean degree 239), batches with a fan-out of 10 reach .8316 +- .0080 over
five seeds; the graph as a whole with k = 15 has a spread of .0031. Larger fan-outs there are still to be measured.
"""

LOGIT_BYTES = 3 << 27
"""Logits of one range of nodes in inference, their probabilities, and what is made from them."""


@dataclass(frozen=True)
class GraphSize:
    """Quantities that the cost of training depends on.

    Attributes
    ----------
    n, nnz
        Nodes, and stored entries of the matrix.
    n_classes, n_features, hidden, n_layers
        Of the network.
    """

    n: int
    nnz: int
    n_classes: int
    n_features: int
    hidden: int
    n_layers: int


@dataclass(frozen=True)
class Plan:
    """Plan of a network's training.

    Attributes
    ----------
    batch_size
        Seeds of a step; None for the whole graph.
    needed
        Bytes that training and inference are predicted to take beside the graph.
    """

    batch_size: int | None
    needed: int


def fanouts_by_degree(n: int, nnz: int, n_layers: int) -> tuple[int, ...]:
    """Neighbors sampled at each hop: half the mean degree, from 10 to 40."""
    degree = nnz / max(n, 1)
    return (int(np.clip(round(DEGREE_SHARE * degree), LEAST_FANOUT, MOST_FANOUT)),) * n_layers


def full_batch_bytes(size: GraphSize) -> int:
    """Memory of a step over the whole graph."""
    # Kept for the gradient: about five arrays a layer of the hidden width, four of the output width.
    floats = size.hidden * 5 * size.n_layers + size.n_classes * 4 + 2 * size.n_features
    return 4 * size.n * floats + 12 * size.nnz


def batch_bytes(size: GraphSize, batch_size: int, fanouts: Sequence[int]) -> int:
    """Memory of steps on sampled neighborhoods, and of inference layer by layer."""
    step, targets = 16 * batch_size * size.n_classes, float(batch_size)
    for fanout in fanouts:
        entries, targets = targets * fanout, min(float(size.n), targets * (1 + fanout))
        step += int(24 * entries + targets * (8 + 8 * size.hidden + 4 * size.n_features))
    standing = 4 * size.nnz + size.n * (16 + 48)  # values; the sampler's arrays, codes and masks
    inference = size.n * 4 * (3 * size.hidden) + min(LOGIT_BYTES, 12 * size.n * size.n_classes)
    return standing + max(step, inference)


def choose_plan(
    size: GraphSize, wanted: int | Literal["auto", "full"], fanouts: Sequence[int], allowance: Allowance
) -> Plan:
    """Choose the whole graph where a step on it needs less than half of the memory, else batches that fit.

    Raises
    ------
    InputError
        If what is asked for, or the smallest batch, does not fit.
    """
    what = f"Training on a graph of {size.n} nodes and {size.nnz} entries"
    whole = full_batch_bytes(size)
    if wanted == "full":
        allowance.check(f"{what} as a whole", whole, "raise the limit, or leave batch_size out")
        return Plan(None, whole)
    if wanted == "auto":
        if whole < allowance.bytes / 2:
            return Plan(None, whole)
        batch_size = BATCH_SIZE
        while batch_size > SMALLEST_BATCH and batch_bytes(size, batch_size, fanouts) > allowance.bytes:
            batch_size //= 2
        if batch_bytes(size, batch_size, fanouts) > allowance.bytes >= whole:  # a small graph
            return Plan(None, whole)
    else:
        batch_size = int(wanted)
    needed = batch_bytes(size, batch_size, fanouts)
    allowance.check(f"{what} in batches of {batch_size}", needed, "raise the limit")
    return Plan(batch_size, needed)


def time_allowed(size: GraphSize) -> float | None:
    """Seconds that training may take; None where epochs are short."""
    return MAX_SECONDS if size.n_layers * size.nnz + size.n * size.n_classes > LONG_EPOCH else None


def validation_interval(
    size: GraphSize, *, fanouts: Sequence[int], n_masked: float, n_validated: int, patience: int
) -> int:
    """Epochs in batches between validations: as many as cost about one validation, by entries of the graph."""
    inference = (size.n_layers - 1) * size.nnz + n_validated * (size.nnz / size.n + size.n_classes)
    if inference < CHEAP_INFERENCE:
        return 1
    epoch, targets = n_masked * size.n_classes, n_masked
    for fanout in fanouts:
        epoch += targets * fanout
        targets *= 1 + fanout
    return int(np.clip(inference / max(epoch, 1.0), 1, max(1, patience // VALIDATIONS)))
