"""`clorg-scale`: its commands, and what a user sees when something is wrong."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from threading import Event
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from clorg_scale.cli.output import EscapingStream, escaped
from clorg_scale.cli.streams import Streams, lasting_streams
from clorg_scale.errors import InputError, MissingDependencyError, lacks_memory

__all__ = ["app", "main"]

AGAIN, SOON = 2.0, 0.02
"""Seconds after which Ctrl-C is raised again; cleaning up takes less than the former."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, 128 and the number of the signal."""


class _EndedError(Exception):
    """Ctrl-C or the end of a file, as its cause, on the way past Typer."""


class _Commands(TyperGroup):
    """All commands. Typer would write an empty line to stderr for an end of file, as for a user who has left."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was given."""
        try:
            return super().invoke(ctx)
        except (EOFError, KeyboardInterrupt) as error:
            raise _EndedError from error


app = typer.Typer(
    name="clorg-scale",
    cls=_Commands,
    help="How embeddings are organized: local density, class homogeneity, communities and probes, at any size.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line: exit code 0, 2 with one sentence for a user's mistake, 130 when interrupted.

    A reader of the output that goes away (`| head -1`) stops nothing: the work goes on and its results are written.
    """
    with warnings.catch_warnings(), lasting_streams() as streams, _watched_keyboard() as pressed:
        warnings.showwarning = _show_warning
        try:
            with redirect_stdout(None if sys.stdout is None else EscapingStream(sys.stdout)):
                code = _run(sys.argv[1:], streams)
        except BaseException:
            # Ctrl-C in compiled code comes out as any error at all.
            code = INTERRUPTED
            if not pressed.is_set():
                raise
        _raise_no_more()
        if code == INTERRUPTED:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends at once what is still running
            _say("Interrupted; what was finished is kept, run the same command again to go on.")
    sys.exit(code)


def _raise_no_more() -> None:
    """End the repetition of Ctrl-C."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _watched_keyboard() -> Iterator[Event]:
    """Tell whether Ctrl-C was pressed during the block.

    Callbacks of compiled libraries may swallow the exception; so it is raised again until the block ends. Within LLVM
    it would end the process by a crash; there it waits.
    """
    pressed = Event()
    before, unraisable = signal.getsignal(signal.SIGINT), sys.unraisablehook
    repeats = hasattr(signal, "setitimer")

    def interrupt(_: int, frame: FrameType | None) -> None:
        pressed.set()
        sys.unraisablehook = lambda _: None  # the one sentence is said at the end
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
    """Whether LLVM is at work somewhere below."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("llvmlite"):
            return True
        frame = frame.f_back
    return False


def _run(arguments: list[str], streams: Streams) -> int:
    """Run a command; gives the exit code."""
    try:
        from clorg_scale.cli import commands, stages, studies, training  # noqa: F401  registers them

        result = app(arguments or ["--help"], prog_name="clorg-scale", standalone_mode=False)
        streams.flush()
    except (InputError, MissingDependencyError) as error:
        return _fail(str(error))
    except (_EndedError, typer.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):
            return _fail("A file or a connection to another process ended before all was read from it.")
        return INTERRUPTED
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # what Typer makes of one
            return _fail(_refused(error.__context__))
        return _exit_code(error)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's and CuPy's
            return _fail(_too_little_memory(error, "The device's memory", "use --device cpu"))
        if lacks_memory(error):
            advice = "raise its limit (of the shell, the job or the container)"
            return _fail(_too_little_memory(error, "The main memory", advice))
        if isinstance(error, OSError):
            return _fail(_refused(error))
        # Typer's own errors (unknown option, missing argument) come from Click or from a copy of it, by its version.
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "clorg-scale"
        return _fail(f"{error.format_message().rstrip('.')}; see '{command} --help'.")
    if streams.refused is not None:
        return _fail(f"The output cannot be written: {_reason(streams.refused)}.")
    return result if isinstance(result, int) else 0


def _exit_code(error: SystemExit) -> int:
    """Give the exit code that Python would end with."""
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    _say(error.code)
    return 1


def _fail(sentence: str) -> int:
    _say(f"error: {sentence}")
    return 2


def _too_little_memory(error: Exception, what: str, advice: str) -> str:
    first = str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
    return f"{what} does not suffice ({first}); {advice}, give a --memory-limit, or fewer points."


def _refused(error: OSError) -> str:
    """What the system refused, as a sentence."""
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)} cannot be read or written: {_reason(error)}."
    if isinstance(error, ConnectionError):
        return f"The connection to another process was lost ({_reason(error)}); run the same command again to go on."
    return f"A file or a connection to another process cannot be read or written: {_reason(error)}."


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).rstrip(".")


def _say(sentence: str) -> None:
    """One line on stderr, in which nothing steers the terminal."""
    if sys.stderr is not None:
        print(escaped(" ".join(sentence.split())), file=sys.stderr)


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    """One line, without the place in the code."""
    _say(f"warning: {message}")


def _print_version(asked: bool) -> None:  # noqa: FBT001  Typer calls it so
    if asked:
        from clorg_scale import __version__

        print(f"clorg-scale {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """How embeddings are organized: local density, class homogeneity, communities and probes, at any size."""
