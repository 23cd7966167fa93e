"""Settings of the probes: numbers in their range."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from clorg_scale.errors import InputError

__all__ = ["check_number", "check_whole", "is_number", "is_whole"]


def is_number(value: Any) -> bool:
    """Whether it is a finite number, of Python or NumPy, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """Whether it is an integer, of Python or NumPy, and no truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_number(name: str, value: Any, what: str, fits: Callable[[Any], bool]) -> None:
    """Check a setting.

    Raises
    ------
    InputError
        If it is no finite number, or does not fit; `what` says what would.
    """
    if not (is_number(value) and fits(value)):
        raise InputError(f"{name} must be {what}, not {value!r}.")


def check_whole(name: str, value: Any, *, least: int) -> None:
    """Check a setting.

    Raises
    ------
    InputError
        If it is no integer, or below the least.
    """
    if not (is_whole(value) and value >= least):
        raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}.")
