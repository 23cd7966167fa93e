"""The application that all commands are registered with."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

__all__ = ["EndedError", "app"]


class EndedError(Exception):
    """Ctrl-C or the end of a file, as its cause, on the way past Typer."""


class _Commands(TyperGroup):
    """All commands. Typer would write an empty line to stderr for an end of file, as for a user who has left."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was given."""
        try:
            return super().invoke(ctx)
        except (EOFError, KeyboardInterrupt) as error:
            raise EndedError from error


app = typer.Typer(
    name="clorg-scale",
    cls=_Commands,
    help="Measure how embeddings are organized: local density, class homogeneity, communities and probes, at any size.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:  # noqa: FBT001  Typer calls it so
    if asked:
        from clorg_scale.version import __version__

        print(f"clorg-scale {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure how embeddings are organized: local density, class homogeneity, communities and probes, at any size."""
