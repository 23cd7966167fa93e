"""Amounts of main memory: limits set by the user, and what is available."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from clorg_scale.arrays.limits import memory_left
from clorg_scale.errors import InputError

__all__ = ["at_least", "available_memory", "check_memory", "in_bytes", "parse_memory"]

_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}

_PREFIXES = "kMGTPEZY"

_MOST_SHOWN = 10**27
"""Announced sizes beyond this have no prefix, and soon no float."""


def parse_memory(limit: str | int | None) -> int | None:
    """Bytes of a memory limit such as ``"8GB"``, ``"512MiB"`` or a number of bytes; None stays None.

    Raises
    ------
    InputError
        If it cannot be read as a positive amount of memory.
    """
    if limit is None:
        return None
    if isinstance(limit, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", limit.lower())
        if match is None:
            raise InputError(f"The memory limit {limit!r} is not an amount of memory; write for example '8GB'.")
        limit = int(float(match[1]) * _UNITS[match[2] or ""])
    if limit <= 0:
        raise InputError(f"The memory limit must be positive, not {limit}.")
    return limit


def check_memory(limit: int | None, needed: int, work: str) -> None:
    """Refuse a limit below the memory that some work needs; the message says how much suffices."""
    if limit is not None and needed > limit:
        raise InputError(f"{work} needs at least {at_least(needed)}, more than the memory limit of {in_bytes(limit)}.")


def in_bytes(amount: int) -> str:
    """Amount of memory or disk space as text, such as ``4.5 PB``."""
    if amount < 1000:
        return f"{amount} bytes"
    if amount >= _MOST_SHOWN:
        return "more than 1000 YB"
    power = (len(str(amount)) - 1) // 3
    return f"{amount / 1000**power:.3g} {_PREFIXES[power - 1]}B"


def at_least(amount: int) -> str:
    """Amount of memory that suffices as text, rounded up, so that it suffices as a memory limit too."""
    if amount < 1000:
        return in_bytes(amount)
    power = (len(str(amount)) - 1) // 3
    scaled = amount / 1000**power
    digits = 10 ** (2 - (len(str(int(scaled))) - 1))
    return in_bytes(math.ceil(math.ceil(scaled * digits) * 1000**power / digits))


def available_memory() -> int:
    """Bytes of main memory that can be allocated now, within all limits set on this process."""
    return int(min(_free_memory(), memory_left()))


def _free_memory() -> int:
    """Bytes that the machine has free or can reclaim."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(available[0]) * 1024
