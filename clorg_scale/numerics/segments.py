"""Sums by key with torch, in a fixed order: equal input gives equal bits, which atomic additions do not."""

from __future__ import annotations

from typing import Any, Literal

import torch

__all__ = ["add_at", "keyed_sums", "run_reduce", "run_sums"]

PIECE = 64
"""Rows that one thread adds up; the sums of a key's pieces are added in a second step."""


def run_reduce(values: Any, lengths: Any, how: Literal["sum", "min"]) -> Any:
    """(s, w) sums or minima over consecutive runs of the rows of values (e, w), lengths (s,) of the runs.

    Runs without rows are allowed in sums. Each run is reduced by one thread a column, in order.
    """
    return torch.segment_reduce(values.contiguous(), how, lengths=lengths, axis=0, unsafe=True)


def run_sums(values: Any, lengths: Any) -> Any:
    """(s, w) sums over consecutive runs of the rows of values (e, w), lengths (s,) of the runs."""
    return run_reduce(values, lengths, "sum")


def keyed_sums(values: Any, keys: Any, n_keys: int) -> Any:
    """(n_keys, w) sums of the rows of values (p, w) by their keys (p,) int64 in 0 .. n_keys - 1."""
    order = torch.argsort(keys, stable=True)
    counts = keys.new_zeros(n_keys).scatter_add_(0, keys, torch.ones_like(keys))
    n_pieces = (counts + (PIECE - 1)) // PIECE
    owner = torch.repeat_interleave(torch.arange(n_keys, device=keys.device), n_pieces)
    number = torch.arange(len(owner), device=keys.device) - (n_pieces.cumsum(0) - n_pieces)[owner]
    lengths = (counts[owner] - PIECE * number).clamp_(max=PIECE)
    return run_sums(run_sums(values[order], lengths), n_pieces)


def add_at(into: Any, positions: Any, values: Any) -> None:
    """Into[:, positions] += values, for positions (e,) that repeat and values (w, e)."""
    if not len(positions):
        return
    order = torch.argsort(positions, stable=True)
    unique, counts = torch.unique_consecutive(positions[order], return_counts=True)
    into[:, unique] += run_sums(values[:, order].T, counts).T
