"""The metrics that neighbors are searched in, and the types that a table of them is stored in."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from clorg_scale.errors import InputError

__all__ = ["Metric", "check_metric", "distance_dtype", "id_dtype"]

Metric = Literal["euclidean", "cosine", "inner_product"]

FLOAT32_SIZES = 2.0**-100, 2.0**125
"""Sizes of distances that float32 holds together with those fifty million times smaller."""


def check_metric(metric: str) -> None:
    """Refuse a metric that is not one of the three."""
    if metric not in get_args(Metric):
        raise InputError(f"metric must be one of {', '.join(map(repr, get_args(Metric)))}, not {metric!r}.")


def id_dtype(n_points: int) -> type[np.signedinteger[Any]]:
    """Integer type that holds row numbers: int32 while n < 2^31, int64 beyond."""
    return np.int32 if n_points < 2**31 else np.int64


def distance_dtype(largest: float) -> type[np.floating[Any]]:
    """Float type of distances up to this size: float64 where float32 does not hold them or much smaller ones."""
    return np.float32 if largest == 0 or FLOAT32_SIZES[0] <= largest <= FLOAT32_SIZES[1] else np.float64
