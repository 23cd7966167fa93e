"""The application that all commands are registered with."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    name="clorg-scale",
    help="Measure how embeddings are organized: local density, class homogeneity, communities and probes, at any size.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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
    """Measure how embeddings are organized: local density, class homogeneity, communities and probes, at any size."""
