"""One progress bar for every long stage: what it does, how far it is, its rate, the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Advance", "progress_bar"]

Advance = Callable[[float], None]
"""Call it with the units of work done since the last call."""


@contextmanager
def progress_bar(description: str, total: float, *, unit: str, scale: float = 1.0, enabled: bool) -> Iterator[Advance]:
    """Show a progress bar on stderr while the block runs.

    Parameters
    ----------
    description
        What is done, in a few words.
    total
        Units of work in all.
    unit
        What the rate is shown in, per second ("points", "GFLOP").
    scale
        Units of work per shown `unit`.
    enabled
        If False, nothing is shown and the returned function does nothing.
    """
    if not enabled:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class RateColumn(ProgressColumn):
        """Work per second in the stage's own unit."""

        def render(self, task: Task) -> Text:
            """Render the rate, or nothing before it is known."""
            return Text("" if task.speed is None else f"{task.speed / scale:,.0f} {unit}/s", style="dim")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.advance(task, done)
