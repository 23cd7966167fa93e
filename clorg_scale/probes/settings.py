"""Settings of the probes: numbers in their range."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

from clorg_scale.errors import InputError
from clorg_scale.whole import is_whole, whole_number

__all__ = ["check_number", "check_whole", "is_number", "is_whole"]


def is_number(value: Any) -> bool:
    """Whether it is a finite number, of Python or NumPy, and not a boolean."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_number(name: str, value: Any, what: str, fits: Callable[[Any], bool]) -> None:
    """Check a setting.

    Raises
    ------
    InputError
        If it is not a finite number, or does not fit; `what` says what would.
    """
    if not (is_number(value) and fits(value)):
        raise InputError(f"{name} must be {what}, not {value!r}.")


def check_whole(name: str, value: Any, *, least: int) -> None:
    """Check a setting.

    Raises
    ------
    InputError
        If it is not an integer, or below the least.
    """
    whole_number(name, value, least)
