"""JSON that a person can read: what fits stays on one line, lists of numbers fill their lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

__all__ = ["readable_json"]

WIDTH = 120
"""Longest line, in characters; a single value may be longer."""


def readable_json(value: Any) -> str:
    """Return the text of plain data, with a line end.

    Raises
    ------
    ValueError
        If a number is not finite, which JSON cannot hold.
    """
    return "\n".join(_lines(value, 0)) + "\n"


def _lines(value: Any, indent: int) -> list[str]:
    """Lines of a value; the first one continues the line before it."""
    if not isinstance(value, (dict, list, tuple)) or not value:
        return [_text(value)]
    if _n_leaves(value, WIDTH) <= WIDTH // 3 and not _is_table(value):  # with more values it cannot fit
        whole = _text(value)
        if len(whole) + indent <= WIDTH:
            return [whole]
    inner = indent + 1
    if isinstance(value, dict):
        parts = [[f"{_text(str(key))}: {first}", *rest] for key, (first, *rest) in _entries(value, inner)]
        return _enclosed("{", "}", parts, inner)
    if any(isinstance(item, (dict, list, tuple)) for item in value):
        return _enclosed("[", "]", [_lines(item, inner) for item in value], inner)
    return _enclosed("[", "]", [[line] for line in _filled([_text(item) for item in value], WIDTH - inner)], inner)


def _entries(value: dict[Any, Any], indent: int) -> Iterator[tuple[Any, list[str]]]:
    for key, item in value.items():
        yield key, _lines(item, indent)


def _is_table(value: Any) -> bool:
    """Tell whether it is a list of rows, or an object that holds more than numbers and texts: never on one line."""
    items = value.values() if isinstance(value, dict) else value
    return sum(isinstance(item, (dict, list, tuple)) for item in items) > 1


def _n_leaves(value: Any, most: int) -> int:
    """Count the values inside, up to a number."""
    count = 0
    for item in value.values() if isinstance(value, dict) else value:
        count += _n_leaves(item, most - count) if isinstance(item, (dict, list, tuple)) else 1
        if count > most:
            break
    return count


def _filled(words: list[str], width: int) -> list[str]:
    """Join words by commas into lines of at most this width."""
    lines, line = [], words[0]
    for word in words[1:]:
        if len(line) + len(word) + 3 > width:
            lines.append(line)
            line = word
        else:
            line += f", {word}"
    return [*lines, line]


def _enclosed(opening: str, closing: str, parts: list[list[str]], indent: int) -> list[str]:
    """Put brackets around parts, with commas between them."""
    lines = [opening]
    for position, part in enumerate(parts):
        comma = "," if position < len(parts) - 1 else ""
        lines += [" " * indent + line if at == 0 else line for at, line in enumerate(part)]
        lines[-1] += comma
    return [*lines, " " * (indent - 1) + closing]


def _text(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
