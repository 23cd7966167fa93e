"""Standard output and error that outlast whoever reads them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Streams", "lasting_streams"]


class _Stream(FileIO):
    """A file that drops what it is refused to write, and remembers why."""

    refused: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if self.refused is None:
                self.refused = error
            return memoryview(data).nbytes


class Streams:
    """The two streams while a command runs."""

    def __init__(self) -> None:
        self._raw: _Stream | None = None

    @property
    def refused(self) -> OSError | None:
        """Why the output could not be written; None where it was, or where its reader has left."""
        error = None if self._raw is None else self._raw.refused
        return None if isinstance(error, BrokenPipeError) else error

    def flush(self) -> None:
        """Write what waits."""
        if sys.stdout is not None:
            sys.stdout.flush()

    def lasting(self, stream: Any, *, output: bool) -> Any:
        """Wrap a standard stream; one that is replaced (in a notebook, in a test) stays as it is."""
        if not isinstance(stream, TextIOWrapper) or stream not in (sys.__stdout__, sys.__stderr__):
            return stream
        with suppress(OSError):
            stream.flush()
        raw = _Stream(stream.fileno(), "wb", closefd=False)
        if output:
            self._raw = raw
        return TextIOWrapper(
            BufferedWriter(raw),
            encoding=stream.encoding,
            errors="backslashreplace",  # names that the terminal's encoding lacks
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )


@contextmanager
def lasting_streams() -> Iterator[Streams]:
    """Let the block print to whom it likes: where nobody reads any more, what is printed vanishes.

    Neither a closed pipe nor a full disk behind the standard output stops the work; `Streams.refused` tells of the
    latter afterward.
    """
    _open_missing()
    streams, before = Streams(), (sys.stdout, sys.stderr)
    sys.stdout = streams.lasting(sys.stdout, output=True)
    sys.stderr = streams.lasting(sys.stderr, output=False)
    try:
        yield streams
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.flush()
        sys.stdout, sys.stderr = before


def _open_missing() -> None:
    """Keep files that are opened later off the numbers of standard streams that were closed (`>&-`)."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
