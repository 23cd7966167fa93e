"""Exact RLD on the GPUs of a cluster: each holds the points, or streams them, and takes some rows of panels.

A panel with all those behind it is less work the further behind it is, so the first and the last make one part, the
second and the last but one the next. The parts' sums are added in their order, on the machine that asks.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.distributed import Map
from clorg_scale.progress import Advance
from clorg_scale.rld.exact.gpu import (
    MOST_PANEL_ROWS,
    Engine,
    Passes,
    as_handed_in,
    computing,
    mean_distance,
    needs_logarithms,
    on_device,
)
from clorg_scale.rld.exact.passes import ExactSums
from clorg_scale.rld.points import ClassOrderedPoints

__all__ = ["exact_sums"]

Floats = npt.NDArray[np.float64]

PANELS = 32
"""Panels of points at least, where they are large enough to keep a GPU busy: 16 parts to share."""

LEAST_PANEL_ROWS = 1 << 13


@dataclass(frozen=True)
class _Points:
    """What a worker needs to have the points on its GPU; kept there from one task to the next.

    Parameters
    ----------
    points, temperatures, memory_limit, precision, engine, device
        As for `clorg_scale.rld.exact.gpu.on_device`.
    panel_rows
        Points of a panel, at most.
    name
        By which a worker knows them again.
    """

    points: ClassOrderedPoints
    temperatures: Floats
    memory_limit: int | None
    precision: str
    engine: Engine
    device: str
    panel_rows: int
    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    @contextmanager
    def there(self) -> Iterator[Passes]:
        """The passes over the points on this worker's GPU; those of another run are given up."""
        with computing():
            if self.name not in _HELD:
                _HELD.clear()
                _HELD[self.name] = on_device(
                    self.points, self.temperatures, self.memory_limit, lambda _: None, self.precision, self.engine,
                    self.device, most_panel_rows=self.panel_rows,
                )  # fmt: skip
            yield _HELD[self.name]

    def parts(self) -> Iterator[tuple[int, ...]]:
        """First points of the panels of each part: one from the front and one from the back."""
        starts = range(0, self.points.n_points, self.panel_rows)
        half = -(-len(starts) // 2)
        return (tuple(dict.fromkeys((starts[i], starts[-1 - i]))) for i in range(half))

    def panels(self, part: tuple[int, ...], panel_rows: int) -> list[int]:
        """First points of a part's panels, on a worker whose memory may want smaller ones."""
        ends = ((first, min(self.points.n_points, first + self.panel_rows)) for first in part)
        return [start for first, end in ends for start in range(first, end, panel_rows)]

    def n_pairs(self, part: tuple[int, ...]) -> float:
        """Pairs of points that a part visits."""
        n = self.points.n_points
        sizes = ((min(self.panel_rows, n - start), n - start) for start in part)
        return float(sum(rows * behind - rows * (rows + 1) / 2 for rows, behind in sizes))


_HELD: dict[str, Passes] = {}


@dataclass(frozen=True)
class _FirstMean:
    """Mean distance to begin with, and the factor on all coordinates."""

    points: _Points
    seed: int

    def __call__(self, _: None) -> tuple[float, float]:
        with self.points.there() as passes:
            return passes.first_mean(self.seed), passes.points.scale


@dataclass(frozen=True)
class _KernelTotals:
    """Pass 1 of a part: R and D (2t, n), sum of distances."""

    points: _Points
    mu: float

    def __call__(self, part: tuple[int, ...]) -> tuple[Floats, float]:
        with self.points.there() as passes:
            into, total = passes.kernel_totals(self.mu, self.points.panels(part, passes.panel_rows))
            return into.cpu().numpy(), float(total)


@dataclass(frozen=True)
class _Rescue:
    """Rows summed again: log r of all (t, n), and how many."""

    points: _Points
    mu: float
    R: Floats
    log_r: Floats

    def __call__(self, _: None) -> tuple[Floats, npt.NDArray[np.int64]]:
        with self.points.there() as passes:
            R, log_r = _tensors(passes, self.R, self.log_r)
            n_rescued = passes.rescue(R, self.mu, log_r)
            return log_r.cpu().numpy(), n_rescued


@dataclass(frozen=True)
class _AffinitySums:
    """Pass 2 of a part: B and W (2t, n), squares of near affinities (t,)."""

    points: _Points
    mu: float
    log_r: Floats
    safe: bool

    def __call__(self, part: tuple[int, ...]) -> tuple[Floats, Floats]:
        with self.points.there() as passes:
            (log_r,) = _tensors(passes, self.log_r)
            panels = self.points.panels(part, passes.panel_rows)
            B, W, squares = passes.affinity_sums(self.mu, log_r, safe=self.safe, some=panels)
            return passes.torch.cat([B, W]).cpu().numpy(), squares.cpu().numpy()


@dataclass(frozen=True)
class _Spread:
    """(t,) sum of B^2 over all pairs."""

    points: _Points
    mu: float
    log_r: Floats
    k: Floats
    near_squares: Floats
    seed: int

    def __call__(self, _: None) -> Floats:
        with self.points.there() as passes:
            log_r, k, near_squares = _tensors(passes, self.log_r, self.k, self.near_squares)
            return np.asarray(passes.spread(self.mu, log_r, k, near_squares, self.seed).cpu().numpy())


def exact_sums(
    points: ClassOrderedPoints,
    temperatures: Floats,
    *,
    seed: int = 0,
    memory_limit: int | None = None,
    advance: Advance,
    run: Map,
    precision: str = "fp16",
    engine: Engine = "auto",
    device: str = "cuda",
) -> ExactSums:
    """Sum the affinities of every point at every temperature, as `rld.exact.gpu.exact_sums` does on one GPU.

    Parameters
    ----------
    points, temperatures, seed, memory_limit, advance, precision, engine, device
        As there.
    run
        Maps the parts on the workers (`clorg_scale.distributed.ordered_map`).

    Raises
    ------
    InputError, MissingDependencyError
        As there.
    """
    n, falling = points.n_points, np.argsort(-temperatures, kind="stable")
    # A power of two: a worker that wants smaller panels halves it, and they begin at the same points.
    panel_rows = min(MOST_PANEL_ROWS, max(LEAST_PANEL_ROWS, 1 << (-(-n // PANELS) - 1).bit_length()))
    there = _Points(points, temperatures[falling], memory_limit, precision, engine, device, panel_rows)
    guess, scale = _one(run, _FirstMean(there, seed))
    R_and_D, total = _added(run, _KernelTotals(there, guess), there, advance)
    R, D = np.split(R_and_D, 2)
    mu = mean_distance(float(total), n)
    with np.errstate(divide="ignore", invalid="ignore"):  # rows to be rescued
        log_r = np.log(R) + np.log(mu / guess) * D / (R * guess * there.temperatures[:, None])
    log_r, n_rescued = _one(run, _Rescue(there, mu, R, log_r))
    safe = needs_logarithms(float(R.min()), n)
    B_and_W, near_squares = _added(run, _AffinitySums(there, mu, log_r, safe), there, advance)
    B, W = np.split(B_and_W, 2)
    spread = _one(run, _Spread(there, mu, log_r, B + W, near_squares, seed))
    return as_handed_in(ExactSums(B + W, W, log_r, mu / scale, n_rescued, spread=spread), falling, points.order)


def _one(run: Map, task: Any) -> Any:
    """Result of a task that one worker does."""
    (result,) = run(task, [None])
    return result


def _added(run: Map, task: Any, there: _Points, advance: Advance) -> tuple[Floats, Any]:
    """Both sums of all parts."""
    into, beside = 0.0, 0.0
    for part, sums in zip(there.parts(), run(task, there.parts()), strict=True):
        into, beside = into + sums[0], beside + sums[1]
        advance(there.n_pairs(part))
    return np.asarray(into), beside


def _tensors(passes: Passes, *arrays: Any) -> list[Any]:
    """Float64 on the device."""
    return [passes.torch.as_tensor(array, dtype=passes.torch.float64, device=passes.points.device) for array in arrays]
