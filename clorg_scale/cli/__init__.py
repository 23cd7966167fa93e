"""The command line."""

from clorg_scale.cli.main import main

__all__ = ["main"]
