"""Standard output and error that survive the exit of their reader."""

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
    """A file that drops what cannot be written, and records the first error."""

    refused: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if self.refused is None:
                self.refused = error
            return memoryview(data).nbytes


class Streams:
    """Standard output and error of a running command."""

    def __init__(self) -> None:
        self._raw: _Stream | None = None

    @property
    def refused(self) -> OSError | None:
        """Error that prevented writing; None where there was none, or the reader has exited."""
        error = None if self._raw is None else self._raw.refused
        return None if isinstance(error, BrokenPipeError) else error

    def flush(self) -> None:
        """Flush standard output."""
        if sys.stdout is not None:
            sys.stdout.flush()

    def lasting(self, stream: Any, *, output: bool) -> Any:
        """Wrap a standard stream; one that was replaced (in a notebook, in a test) is returned unchanged."""
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
            errors="backslashreplace",  # names that the encoding of the terminal lacks
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )


@contextmanager
def lasting_streams() -> Iterator[Streams]:
    """Keep the block running when its output cannot be written.

    Neither a closed pipe nor a full disk behind the standard output raises; `Streams.refused` reports the latter
    afterward.
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
    """Reserve the descriptors of standard streams that were closed (`>&-`), so that no other file takes them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
