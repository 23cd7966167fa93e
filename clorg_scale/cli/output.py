"""What reaches the terminal: text, and nothing that steers it."""

from __future__ import annotations

import re
from typing import Any, TextIO

__all__ = ["EscapingStream", "escaped", "printable"]

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
r"""Control characters but for the tab and the line feed, and what reverses the direction of text."""


def printable(value: Any) -> str:
    r"""Text of a name, label or path with every control character escaped: ``\x1b``, ``\n``, ``\u202e``."""
    return escaped(str(value)).replace("\t", "\\t").replace("\n", "\\n")


def escaped(text: str) -> str:
    """Text with the control characters escaped that no layout needs."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class EscapingStream:
    """A text stream that escapes control characters in what is written to it; a progress bar writes beneath it.

    Parameters
    ----------
    stream
        Where the text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, escaped."""
        return self._stream.write(escaped(text))

    def writelines(self, lines: Any) -> None:
        """Write one after the other, escaped."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
