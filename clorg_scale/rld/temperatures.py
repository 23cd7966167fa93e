r"""Temperatures of RLD: rates of the exponentials, which of them are squares, log r at the exact mean distance.

At temperature T an exponential is E = exp(-d / (mu T)) = 2^(c d) with the rate c = -log2(e) / (mu T). Where one
temperature is half another one, its exponentials are the squares of the other's: ratios of 2 are cheapest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from clorg_scale.errors import InputError
from clorg_scale.rld.types import Floats, Integers

__all__ = ["LOG2_E", "check_temperatures", "log_r_at", "logs_or_factors", "needs_log_space", "rates", "square_of"]

LOG2_E = float(np.log2(np.e))

LEAST_TEMPERATURE = 1e-4
"""Distances in float32 are exact to about 1e-7, so that d / (mu T) is exact to 1e-3 here."""


def check_temperatures(temperatures: Iterable[float]) -> Floats:
    """(t,) float64; at least one, all positive and finite."""
    try:
        chosen = np.array([float(temperature) for temperature in temperatures])
    except (TypeError, ValueError) as error:
        raise InputError(f"The temperatures must be a list of numbers, not {temperatures!r}.") from error
    if not len(chosen):
        raise InputError("No temperature was given; at least one is needed.")
    if not (np.isfinite(chosen).all() and (chosen > 0).all()):
        raise InputError(f"The temperatures must be positive numbers, not {[float(t) for t in chosen]}.")
    if chosen.min() < LEAST_TEMPERATURE:
        raise InputError(
            f"The temperature {chosen.min():g} is too small: below {LEAST_TEMPERATURE:g} rounding of the distances "
            "dominates; choose larger ones."
        )
    return chosen


def rates(temperatures: Any, mu: float) -> Any:
    """(t,) c of temperatures in an array of any library."""
    return -LOG2_E / (mu * temperatures)


def square_of(temperatures: Floats, *, adjacent: bool = False) -> Integers:
    """For each temperature, an earlier one that is twice as large (its exponentials squared are this one's), or -1.

    With `adjacent`, the one just before or -1: where the exponentials of no other are at hand.
    """
    found = np.full(len(temperatures), -1, dtype=np.int64)
    for t, temperature in enumerate(temperatures):
        for earlier in range(max(0, t - 1) if adjacent else 0, t):
            if abs(temperatures[earlier] / temperature - 2) < 1e-14:
                found[t] = earlier
    return found


def log_r_at(mu: float, guess: float, *, temperatures: Any, R: Any, D: Any, log: Any) -> Any:
    r"""(t, n) natural logarithm of r at the mean distance mu, from sums at a guess of it.

    To first order in log(mu / guess), with R = sum_j E_ij and D = sum_j d_ij E_ij at the guess,

        log r(mu) = log R + log(mu / guess) D / (R guess T) + O(log(mu / guess)^2)

    and the remainder is below 1e-7 where the guess comes from half a million random pairs. `log`: the logarithm of the
    library of the temperatures and of R and D, (t, n); where R is 0 the result is not finite.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return log(R) + float(np.log(mu / guess)) * D / (R * guess * temperatures[:, None])


def logs_or_factors(log2_r: Any, square_of: Integers, headroom: int = 0, *, xp: Any = np) -> Any:
    """(t, n) what pass 2 takes of each point: l = log2 r, or f = r'^2 / r with r' of the temperature that is squared.

    The affinity a = E^2 / (r_i r_j) is f_i f_j times the square of the other temperature's. All a are made smaller by
    2^headroom.
    """
    result = log2_r + headroom
    for t, root in enumerate(square_of.tolist()):
        if root >= 0:
            result[t] = xp.exp2(2 * log2_r[root] - log2_r[t] + headroom)
    return result


def needs_log_space(least_log_r: float, n: int) -> bool:
    """Whether products of squared exponentials and 1 / r could leave float32's range where they matter.

    A row's affinities are decided by its largest E_ij >= r_i / n; their squares keep 24 bits above 2^-126 while
    r_i > n 2^-50.
    """
    return bool(least_log_r < np.log(n) - 50 * np.log(2))
