"""Numbers and the nouns that they count, for sentences."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["counted", "numbered"]


def counted(n: int, noun: str, *, plural: str | None = None) -> str:
    """Return a number and its noun: "1 row", "5,000 rows", "0 classes".

    Parameters
    ----------
    n
        The number.
    noun
        In the singular.
    plural
        Where it is neither the noun and "s" nor, after s, x and ch, the noun and "es".
    """
    if n == 1:
        return f"1 {noun}"
    return f"{n:,} {plural or noun + ('es' if noun.endswith(('s', 'x', 'ch')) else 's')}"


def numbered(noun: str, numbers: Iterable[int], total: int) -> str:
    """Return the first of some numbered things: "row 3", "rows 3, 5", "rows 3, 5, ..." where there are more.

    Parameters
    ----------
    noun
        In the singular; its plural ends in "s".
    numbers
        Those that are listed.
    total
        How many there are.
    """
    shown = [str(int(number)) for number in numbers]
    more = ", ..." if total > len(shown) else ""
    return f"{noun if total == 1 else noun + 's'} {', '.join(shown)}{more}"
