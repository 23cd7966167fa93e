"""Main memory that probes may take, and their messages about it before they begin."""

from __future__ import annotations

from typing import NamedTuple

from clorg_scale.arrays import available_memory, parse_memory
from clorg_scale.arrays.memory import at_least, in_bytes
from clorg_scale.errors import InputError

__all__ = ["Allowance", "memory_allowed"]

SHARE_OF_AVAILABLE = 0.8
"""Share of the free memory that a probe takes where no limit is given."""


class Allowance(NamedTuple):
    """Memory that may be taken.

    Attributes
    ----------
    bytes
        Amount.
    name
        What it is called in a message.
    """

    bytes: int
    name: str

    def check(self, what: str, needed: int, advice: str = "raise the limit") -> None:
        """Check that so many bytes are allowed.

        Raises
        ------
        InputError
            If not; says how much would do.
        """
        if needed > self.bytes:
            raise InputError(
                f"{what} needs at least {at_least(needed)}, more than the {self.name} of {in_bytes(self.bytes)}; "
                f"{advice}."
            )


def memory_allowed(limit: str | int | None) -> Allowance:
    """Memory that a limit as users give it allows; without one, most of what is free.

    Raises
    ------
    InputError
        If the limit is not an amount of memory.
    """
    given = parse_memory(limit)
    if given is not None:
        return Allowance(given, "memory limit")
    return Allowance(int(SHARE_OF_AVAILABLE * available_memory()), "memory available")
