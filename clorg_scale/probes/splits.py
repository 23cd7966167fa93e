"""Stratified splits of labeled points."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["stratified_hold_out", "stratified_share"]


def stratified_hold_out(
    codes: npt.NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Set aside a share of every class.

    Parameters
    ----------
    codes
        (n,) class codes; -1 (unlabelled) goes to neither part.
    fraction
        Share of each class to set aside, rounded; every class keeps at least one point.
    rng
        Chooses the points.

    Returns
    -------
    (kept, held_out)
        Row numbers, ascending.
    """
    kept, held_out = [], []
    for rows in _rows_by_class(codes):
        n_out = min(len(rows) - 1, round(fraction * len(rows)))
        shuffled = rng.permutation(rows)
        held_out.append(shuffled[:n_out])
        kept.append(shuffled[n_out:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held_out))


def stratified_share(codes: npt.NDArray[np.int64], fraction: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Row numbers, ascending, of a share of every class: rounded, at least one point of each."""
    chosen = [rng.choice(rows, max(1, round(fraction * len(rows))), replace=False) for rows in _rows_by_class(codes)]
    return np.sort(np.concatenate(chosen))


def _rows_by_class(codes: npt.NDArray[np.int64]) -> list[npt.NDArray[Any]]:
    """Row numbers of each class that occurs, unlabelled points left out."""
    order = np.argsort(codes, kind="stable")
    order = order[np.searchsorted(codes[order], 0) :]
    bounds = np.flatnonzero(np.diff(codes[order])) + 1
    return np.split(order, bounds) if len(order) else []
