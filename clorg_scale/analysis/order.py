"""Steps of a training in the names of its checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["natural_key", "steps_of"]

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def steps_of(names: Sequence[str]) -> list[float] | None:
    """Step of each checkpoint, such as 10 of "epoch-010"; None where the names do not tell.

    The names must be the same but for their last number, and the numbers differ.
    """
    found = [list(_NUMBER.finditer(name)) for name in names]
    if len(names) < 2 or not all(found):
        return None
    last = [numbers[-1] for numbers in found]
    around = {(name[: number.start()], name[number.end() :]) for name, number in zip(names, last, strict=True)}
    steps = [float(number[0]) for number in last]
    return steps if len(around) == 1 and len(set(steps)) == len(steps) else None


def natural_key(name: str) -> list[tuple[int, float, str]]:
    """Key that sorts names by the numbers in them: "epoch 9" before "epoch 10"."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(1, float(part), "") if at % 2 else (0, 0.0, part) for at, part in enumerate(parts)]
