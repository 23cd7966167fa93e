"""Time that training takes: of one epoch, of the augmentation in it, and an early estimate for all epochs."""

from __future__ import annotations

import math
import sys
import time

from clorg_scale.backbones.processes import Processes

__all__ = ["EpochTimer", "Forecast", "duration"]

FORECAST_STEPS = 50
FORECAST_SECONDS = (1.0, 5.0)
"""The time of a training is estimated after so many steps, after two steps and the former time, or after the latter."""

SLOW_SECONDS = 3_600.0
"""Estimated time of a training on a CPU from which on faster settings are suggested."""


class EpochTimer:
    """Time an epoch, and one part of some of its steps: synchronizing with a GPU at every step would slow it down.

    Parameters
    ----------
    processes
        Whose device is synchronized before the time is taken.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.every = 1 if processes.device.type == "cpu" else 20
        self.measured, self.n_timed = 0.0, 0
        self.started = self.before = time.perf_counter()

    def start(self, step: int) -> None:
        """Begin the timed part of a step."""
        if step % self.every == 0:
            self.processes.synchronize()
            self.before = time.perf_counter()

    def stop(self, step: int) -> None:
        """End the timed part of a step."""
        if step % self.every == 0:
            self.processes.synchronize()
            self.measured += time.perf_counter() - self.before
            self.n_timed += 1

    def seconds(self) -> float:
        """Seconds since the beginning of the epoch."""
        self.processes.synchronize()
        return time.perf_counter() - self.started

    def share(self, n_steps: int) -> float:
        """Share of the epoch that the timed part takes."""
        return self.measured / self.n_timed * n_steps / self.seconds()


class Forecast:
    """Print on stderr, once and after few steps, how long a training will take.

    The first step counts only where it takes very long: it is slower than those that follow.

    Parameters
    ----------
    processes
        The processes of the training.
    n_steps, n_epochs
        Steps of an epoch, and epochs that are left.
    shown
        Whether to print anything.
    """

    def __init__(self, processes: Processes, n_steps: int, n_epochs: int, *, shown: bool) -> None:
        self.processes, self.n_steps, self.n_epochs = processes, n_steps, n_epochs
        self.waiting = shown
        self.n_done = 0
        self.started = self.first_done = time.perf_counter()

    def step(self) -> None:
        """Count a step."""
        if not self.waiting:
            return
        self.processes.synchronize()
        now = time.perf_counter()
        self.n_done += 1
        if self.n_done == 1:
            self.first_done = now
            if now - self.started > FORECAST_SECONDS[1]:
                self._print(now - self.started)
            return
        spent, n_timed = now - self.first_done, self.n_done - 1
        if n_timed >= FORECAST_STEPS or spent > FORECAST_SECONDS[1] or (n_timed > 1 and spent > FORECAST_SECONDS[0]):
            self._print(spent / n_timed)

    def epoch(self, seconds: float) -> None:
        """Count an epoch, and the seconds that it took."""
        if self.waiting:
            self._print(seconds / self.n_steps)

    def _print(self, seconds: float) -> None:
        self.waiting = False
        total = seconds * self.n_steps * self.n_epochs
        slow = self.processes.device.type == "cpu" and total > SLOW_SECONDS
        advice = "; a narrower network (width 16), the strided stem, fewer epochs or a GPU take less" if slow else ""
        many = "s" * (self.n_epochs > 1)
        print(
            f"Estimated time: about {duration(total)} for {self.n_epochs:,} epoch{many} of {self.n_steps:,} steps, "
            f"{seconds:.2g} s each, without measurements{advice}.",
            file=sys.stderr,
            flush=True,
        )


def duration(seconds: float) -> str:
    """A time in the unit that suits it: 40 seconds, 3.5 minutes, 12 hours, 3.2 days."""
    units = (("seconds", 1, 100), ("minutes", 60, 100), ("hours", 3_600, 48), ("days", 86_400, math.inf))
    unit, length = next((unit, length) for unit, length, most in units if seconds / length < most)
    count = seconds / length
    number = f"{count:.1f}" if count < 10 and unit != "seconds" else f"{count:.0f}"
    return f"{number} {unit.removesuffix('s') if number == '1' else unit}"
