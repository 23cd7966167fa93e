"""Output for the terminal, free of control characters."""

from __future__ import annotations

import re
from typing import Any, TextIO

__all__ = ["EscapingStream", "escaped", "printable"]

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
r"""Control characters except tab and line feed, and those that change the direction of text."""


def printable(value: Any) -> str:
    r"""Text of a name, label or path with all control characters escaped: ``\x1b``, ``\n``, ``\u202e``."""
    return escaped(str(value)).replace("\t", "\\t").replace("\n", "\\n")


def escaped(text: str) -> str:
    """Text with all control characters escaped except tab and line feed."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class EscapingStream:
    """A text stream that escapes control characters; a progress bar writes to the stream beneath it.

    Parameters
    ----------
    stream
        Stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, escaped."""
        return self._stream.write(escaped(text))

    def writelines(self, lines: Any) -> None:
        """Write lines, escaped."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
