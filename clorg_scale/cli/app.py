"""`clorg-scale`: its commands, and what a user sees when something is wrong."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import typer

from clorg_scale.errors import InputError, MissingDependencyError

__all__ = ["app", "main"]

app = typer.Typer(
    name="clorg-scale",
    help="How embeddings are organised: local density, class homogeneity, communities and probes, at any size.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line: exit code 0, 2 with one sentence for a user's mistake, 130 when interrupted."""
    from clorg_scale.cli import commands  # noqa: F401  registers them

    if len(sys.argv) == 1:
        sys.argv.append("--help")
    warnings.showwarning = _show_warning
    try:
        result = app(standalone_mode=False)
    except (InputError, MissingDependencyError) as error:
        _leave(f"error: {error}", 2)
    except (typer.Abort, KeyboardInterrupt):
        _leave("Interrupted; finished stages are kept, run the same command again to go on.", 130)
    except MemoryError as error:
        _leave(f"error: Memory does not suffice ({error}); give a --memory-limit, or fewer points.", 2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        # Typer's own errors (unknown option, missing argument) come from Click or from a copy of it, by its version.
        if not hasattr(error, "format_message"):
            raise
        _leave(f"error: {error.format_message()} See 'clorg-scale --help'.", 2)
    sys.exit(result if isinstance(result, int) else 0)


def _leave(sentence: str, code: int) -> None:
    print(" ".join(sentence.split()), file=sys.stderr)
    sys.exit(code)


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    """One line on stderr, without the place in the code."""
    print(f"warning: {message}", file=sys.stderr)
