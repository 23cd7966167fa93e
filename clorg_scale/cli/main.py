"""Entry point of the command line: exit codes, error messages and interruption."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from threading import Event
from types import FrameType
from typing import Any

import typer

from clorg_scale.cli.app import EndedError, app
from clorg_scale.cli.output import EscapingStream, escaped
from clorg_scale.cli.streams import Streams, lasting_streams
from clorg_scale.errors import InputError, MissingDependencyError, lacks_memory

__all__ = ["main"]

AGAIN, SOON = 2.0, 0.02
"""Seconds after which Ctrl-C is raised again; cleaning up takes less than the first."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 plus the number of the signal."""


def main() -> None:
    """Run the command line: exit code 0, 2 with one sentence for a user's mistake, 130 when interrupted.

    A reader of the output that exits early (`| head -1`) does not stop a command: its results are still written.
    """
    with warnings.catch_warnings(), lasting_streams() as streams, _watched_keyboard() as pressed:
        warnings.showwarning = _show_warning
        try:
            with redirect_stdout(None if sys.stdout is None else EscapingStream(sys.stdout)):
                code = _run(sys.argv[1:], streams)
        except BaseException:
            # Ctrl-C in compiled code may surface as any error.
            code = INTERRUPTED
            if not pressed.is_set():
                raise
        _stop_raising()
        if code == INTERRUPTED:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the process at once
            _print_error("Interrupted; completed work is kept, run the same command again to continue.")
    sys.exit(code)


def _stop_raising() -> None:
    """Stop raising Ctrl-C again."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _watched_keyboard() -> Iterator[Event]:
    """Record whether Ctrl-C was pressed during the block.

    Callbacks of compiled libraries may swallow the exception, so it is raised again until the block ends. Within LLVM
    it would crash the process, so it is postponed.
    """
    pressed = Event()
    before, unraisable = signal.getsignal(signal.SIGINT), sys.unraisablehook
    repeats = hasattr(signal, "setitimer")

    def interrupt(_: int, frame: FrameType | None) -> None:
        pressed.set()
        sys.unraisablehook = lambda _: None  # the message is printed at the end
        compiling = repeats and _within_llvm(frame)
        if repeats:
            signal.setitimer(signal.ITIMER_REAL, SOON if compiling else AGAIN)
        if not compiling:
            raise KeyboardInterrupt

    if before is not signal.default_int_handler:  # started in the background, or with a handler of its own
        yield pressed
        return
    signal.signal(signal.SIGINT, interrupt)
    if repeats:
        signal.signal(signal.SIGALRM, interrupt)
    try:
        yield pressed
    finally:
        sys.unraisablehook = unraisable
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, before)


def _within_llvm(frame: FrameType | None) -> bool:
    """Whether LLVM is running in this frame or one that called it."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("llvmlite"):
            return True
        frame = frame.f_back
    return False


def _run(arguments: list[str], streams: Streams) -> int:
    """Run a command; returns its exit code."""
    try:
        from clorg_scale.cli import (  # noqa: F401  registers them
            bench,
            commands,
            figures,
            issues,
            stages,
            studies,
            track,
            training,
        )

        result = app(arguments or ["--help"], prog_name="clorg-scale", standalone_mode=False)
        streams.flush()
    except (InputError, MissingDependencyError) as error:
        return _fail(str(error))
    except (EndedError, typer.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):
            return _fail("A file or a connection to another process ended unexpectedly.")
        return INTERRUPTED
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # Typer turns it into an exit
            return _fail(_refused(error.__context__))
        return _exit_code(error)
    except Exception as error:
        from clorg_scale.arrays.gpu import is_out_of_memory

        if is_out_of_memory(error):
            return _fail(_too_little_memory(error, "The device's memory", "use --device cpu"))
        if lacks_memory(error):
            advice = "raise the memory limit of the shell, the job or the container"
            return _fail(_too_little_memory(error, "The main memory", advice))
        if isinstance(error, OSError):
            return _fail(_refused(error))
        # Typer's own errors (unknown option, missing argument) come from Click or, by version, from its copy of it.
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "clorg-scale"
        return _fail(f"{error.format_message().rstrip('.')}; see '{command} --help'.")
    if streams.refused is not None:
        return _fail(f"The output cannot be written: {_reason(streams.refused)}.")
    return result if isinstance(result, int) else 0


def _exit_code(error: SystemExit) -> int:
    """Exit code that Python would end with."""
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    _print_error(error.code)
    return 1


def _fail(sentence: str) -> int:
    _print_error(f"error: {sentence}")
    return 2


def _too_little_memory(error: Exception, what: str, advice: str) -> str:
    first = str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
    return f"{what} does not suffice ({first}); {advice}, set --memory-limit, or use fewer points."


def _refused(error: OSError) -> str:
    """One sentence on an operation that the system refused."""
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)} cannot be read or written: {_reason(error)}."
    if isinstance(error, ConnectionError):
        return f"The connection to another process was lost ({_reason(error)}); run the same command again to continue."
    return f"A file or a connection to another process cannot be read or written: {_reason(error)}."


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).rstrip(".")


def _print_error(sentence: str) -> None:
    """Print one line on stderr, free of terminal control characters."""
    if sys.stderr is not None:
        print(escaped(" ".join(sentence.split())), file=sys.stderr)


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    """Print one line, without the location in the code."""
    _print_error(f"warning: {message}")
