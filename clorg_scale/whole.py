"""Counts, seeds and other numbers of any library, checked in one place."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from clorg_scale.errors import InputError

__all__ = ["MOST_SEED", "is_whole", "real_number", "whole_number"]

MOST_SEED = 2**32 - 1
"""Largest seed that every library behind the stages takes."""


def is_whole(value: Any) -> bool:
    """Whether it is an integer, of Python, NumPy or another library, and not a boolean."""
    if isinstance(value, (bool, np.bool_)) or str(getattr(value, "dtype", "")).endswith("bool"):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def whole_number(name: str, value: Any, least: int, most: int | None = None, *, where: str = "") -> int:
    """A count, seed or number of neighbors as an `int`.

    Parameters
    ----------
    name
        What it is called where it was passed.
    value
        Integer of Python, NumPy or another library; no float, text or truth value.
    least, most
        Its range; None for no upper end.
    where
        What to add after the range in the error sentence.

    Raises
    ------
    InputError
        If it is not an integer, or out of range; says the range.
    """
    if not is_whole(value) or operator.index(value) < least or (most is not None and operator.index(value) > most):
        span = f"of {least} or more" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} must be a whole number {span}{where}, not {value!r}.")
    return operator.index(value)


def real_number(name: str, value: Any, *, least: float = 0.0, most: float = math.inf, positive: bool = False) -> float:
    """A finite number as a `float`.

    Parameters
    ----------
    name
        What it is called where it was passed.
    value
        Integer or float of Python, NumPy or another library; no text or truth value.
    least, most
        Its range, ends included.
    positive
        Refuse 0, which is the end of the range.

    Raises
    ------
    InputError
        If it is not a number, not finite, or out of range; says the range.
    """
    try:
        number = math.nan if isinstance(value, (str, bytes, bool, np.bool_)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and least <= number <= most) or (positive and number == 0):
        if positive and most == math.inf:
            span = "a positive number"
        else:
            span = f"a number of {least:g} or more" if most == math.inf else f"a number from {least:g} to {most:g}"
        raise InputError(f"{name} must be {span}, not {value!r}.")
    return number
