"""Progress of long stages: description, share done, rate and remaining time.

On a terminal this is a bar. Elsewhere (a pipe, a log file, nohup) it is a line on stderr at intervals, or none for
short work.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Advance", "Report", "ShownReports", "progress_bar", "relayed_progress", "stage_progress"]

Advance = Callable[[float], None]
"""Function to call with the units of work done since the last call."""

FIRST_LINE, NEXT_LINE = 10.0, 20.0
"""Seconds of work before the first line off a terminal, and between lines."""

PAUSE = 60.0
"""Seconds without a stage after which the first line is delayed again."""

RATE_WINDOW, RATE_STEP = 60.0, 0.5
"""Window in seconds over which the rate is averaged, and interval of its samples."""


@contextmanager
def progress_bar(description: str, total: float, *, unit: str, scale: float = 1.0, enabled: bool) -> Iterator[Advance]:
    """Show progress on stderr while the block runs: a bar on a terminal, otherwise a line at intervals.

    Parameters
    ----------
    description
        Short description of the work.
    total
        Total units of work.
    unit
        Unit in which the rate is shown, per second ("points", "GFLOP").
    scale
        Units of work per shown `unit`.
    enabled
        If False, nothing is shown and the returned function does nothing.
    """
    send = _relay.get()
    if not enabled:
        yield lambda done: None
    elif send is not None:
        with _relayed(send, (description, total, unit, scale)) as advance:
            yield advance
    elif _shows_bars():
        with _bar(description, total, unit, scale) as advance:
            yield advance
    else:
        work = _Work(description, total, unit, scale)
        with _LINES.of(work):
            yield work.advance


Report = tuple[str, str, Any]
"""Kind, stage, and: arguments of `progress_bar` for "begin", the work done for "advance", nothing for "end"."""

_relay: ContextVar[Callable[[Report], None] | None] = ContextVar("relay", default=None)


@contextmanager
def relayed_progress(send: Callable[[Report], None]) -> Iterator[None]:
    """Report the progress of stages within the block by a function instead of on stderr; `ShownReports` shows it."""
    token = _relay.set(send)
    try:
        yield
    finally:
        _relay.reset(token)


@contextmanager
def _relayed(send: Callable[[Report], None], settings: tuple[str, float, str, float]) -> Iterator[Advance]:
    name, waiting, last = uuid.uuid4().hex, 0.0, time.monotonic()

    def advance(done: float) -> None:
        nonlocal waiting, last
        waiting += done
        if time.monotonic() - last >= RATE_STEP:
            send(("advance", name, waiting))
            waiting, last = 0.0, time.monotonic()

    send(("begin", name, settings))
    try:
        yield advance
    finally:
        send(("end", name, None))


class ShownReports:
    """Progress bars of this process for reports from another one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars: dict[str, tuple[ExitStack, Advance]] = {}

    def show(self, report: Report) -> None:
        """Show a report."""
        kind, name, what = report
        with self._lock:
            if kind == "begin":
                description, total, unit, scale = what
                shown = ExitStack()
                bar = progress_bar(description, total, unit=unit, scale=scale, enabled=True)
                self._bars[name] = shown, shown.enter_context(bar)
            elif kind == "end" and name in self._bars:
                self._bars.pop(name)[0].close()
            elif name in self._bars:
                self._bars[name][1](what)

    def close(self) -> None:
        """End all bars."""
        with self._lock:
            while self._bars:
                self._bars.popitem()[1][0].close()


@contextmanager
def stage_progress(description: str, *, enabled: bool) -> Iterator[None]:
    """Name a stage whose progress is unknown in the lines that are printed where stderr is not a terminal.

    A progress bar within the block takes precedence.
    """
    if not enabled or _shows_bars():
        yield
    else:
        with _LINES.of(_Work(description)):
            yield


@dataclass
class _Work:
    """A stage in progress; without a total, the share done is unknown."""

    description: str
    total: float | None = None
    unit: str = ""
    scale: float = 1.0
    done: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._moments = deque([(self.started, 0.0)])

    def advance(self, done: float) -> None:
        """Count work; thread-safe."""
        now = time.monotonic()
        with self._lock:
            self.done += done
            if now - self._moments[-1][0] >= RATE_STEP:
                self._moments.append((now, self.done))

    def line(self) -> str:
        """Describe the stage: share done, rate and remaining time, as far as they are known."""
        now = time.monotonic()
        elapsed = f"{_duration(now - self.started)} so far"
        if self.total is None:
            return f"{self.description}: {elapsed}"
        with self._lock:
            while len(self._moments) > 1 and self._moments[1][0] < now - RATE_WINDOW:
                self._moments.popleft()
            (since, before), done = self._moments[0], self.done
        rate = (done - before) / max(now - since, 1e-9)
        share = f"{self.description}: {100 * min(done / max(self.total, 1e-9), 1.0):.0f} %"
        if rate <= 0:
            return f"{share}, {elapsed}"
        left = _duration(max(self.total - done, 0.0) / rate)
        return f"{share}, {_rate(rate / self.scale)} {self.unit}/s, {elapsed}, {left} left"


class _Lines:
    """Print lines about the innermost stage at intervals, from a thread, so also during a long step."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: list[_Work] = []
        self._due = self._last_used = float("-inf")
        self._ended = threading.Event()

    @contextmanager
    def of(self, work: _Work) -> Iterator[None]:
        """Report on this stage while the block runs."""
        self._enter(work)
        try:
            yield
        finally:
            self._leave(work)

    def _enter(self, work: _Work) -> None:
        now = time.monotonic()
        with self._lock:
            if not self._stages:
                if now - self._last_used > PAUSE:
                    self._due = now + FIRST_LINE
                self._ended = threading.Event()
                threading.Thread(target=self._write, args=(self._ended,), name="progress", daemon=True).start()
            self._stages.append(work)

    def _leave(self, work: _Work) -> None:
        with self._lock:
            self._stages.remove(work)
            self._last_used = time.monotonic()
            if not self._stages:
                self._ended.set()

    def _write(self, ended: threading.Event) -> None:
        while not ended.wait(max(self._due - time.monotonic(), 0.01)):
            with self._lock:
                if not self._stages or time.monotonic() < self._due:
                    continue
                line = self._stages[-1].line()
                self._due = time.monotonic() + NEXT_LINE
                # Within the lock: once its stage has ended, no line is written into an error message.
                with suppress(OSError, ValueError):  # stderr is closed: continue (None: print does nothing)
                    print(f"{line}\n", end="", file=sys.stderr, flush=True)


_LINES = _Lines()


def _duration(seconds: float) -> str:
    """Format a time with two units at most: 45 s, 2 min 10 s, 3 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _rate(rate: float) -> str:
    """Format a rate: whole numbers from ten on, two digits below."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _shows_bars() -> bool:
    """Whether stderr is a terminal, or a notebook, that can redraw a line."""
    if sys.stderr is None or sys.stderr.closed:
        return False
    from rich.console import Console

    console = Console(stderr=True)
    return console.is_jupyter or (sys.stderr.isatty() and not console.is_dumb_terminal)


@contextmanager
def _bar(description: str, total: float, unit: str, scale: float) -> Iterator[Advance]:
    """Show a bar on a terminal."""
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
            return Text("" if task.speed is None else f"{_rate(task.speed / scale)} {unit}/s", style="dim")

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
