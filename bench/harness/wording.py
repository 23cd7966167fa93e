"""Numbers and paragraphs as README prints them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from .records import Record

__all__ = ["faster", "number_word", "paragraph", "peak", "ratio", "share", "span", "timed"]


def paragraph(text: str) -> str:
    """Text in lines of at most 120 characters."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def timed(seconds: float | None) -> str:
    """Two digits: 74 ms, 1.4 s, 616 s."""
    seconds = seconds or 0.0
    if seconds < 0.95:
        return f"{1000 * seconds:,.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.2g} ms"
    return f"{seconds:.1f} s" if seconds < 20 else f"{seconds:,.0f} s"


def peak(record: Record) -> str:
    """The peak of a record: 195 MB, 3.0 GB."""
    size = (record.memory or 0) / 1e6
    return f"{size:,.0f} MB" if size < 1000 else f"{size / 1000:.1f} GB"


def ratio(theirs: float | None, ours: float | None) -> str:
    """Theirs over ours, two digits."""
    ratio = (theirs or 0.0) / (ours or 1.0)
    return f"{ratio:.2f}" if ratio < 2 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def faster(theirs: float | None, ours: float | None) -> str:
    """Ratio of their time to ours, in words."""
    return f"{ratio(theirs, ours)} times faster"


def share(value: float) -> str:
    """Three decimals: .843."""
    return f"{value:.3f}".removeprefix("0")


def span(values: Sequence[float]) -> str:
    """Least and largest share, in percent."""
    return f"{min(values):.0%} to {max(values):.0%}".replace("%", " %")


def number_word(number: int) -> str:
    """Small numbers in words."""
    return ("no", "one", "two", "three", "four", "five", "six")[number] if number < 7 else str(number)
