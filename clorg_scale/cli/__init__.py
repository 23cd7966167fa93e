"""The command line."""

from clorg_scale.cli.app import main

__all__ = ["main"]
