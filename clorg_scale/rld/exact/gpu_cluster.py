"""Exact RLD on the GPUs of a cluster: each gets the points once, keeps or streams them, and takes some rows of panels.

A panel with all those behind it is less work the further behind it is, so the first and the last make one share, the
second and the last but one the next. The sums of the shares are added in their order, on the machine of the client.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from clorg_scale.distributed import Map
from clorg_scale.kept_results import hand_over, with_kept
from clorg_scale.progress import Advance
from clorg_scale.rld.exact import passes
from clorg_scale.rld.exact.launch_plan import MOST_PANEL_ROWS, DeviceSettings
from clorg_scale.rld.exact.passes import AffinitySums, Engine, ExactSums, KernelSums
from clorg_scale.rld.points import ClassOrderedPoints
from clorg_scale.rld.types import Floats

if TYPE_CHECKING:
    from clorg_scale.rld.exact.gpu import GPUEngine

__all__ = ["ClusterEngine", "exact_sums"]

PANELS = 32
"""Panels of points at least, where they are large enough to keep a GPU busy: 16 shares."""

LEAST_PANEL_ROWS = 1 << 13


def exact_sums(
    points: ClassOrderedPoints,
    temperatures: Floats,
    *,
    ordered_map: Map,
    advance: Advance,
    seed: int = 0,
    **settings: Any,
) -> ExactSums:
    """Sum the affinities of every point at every temperature, as `rld.exact.gpu.exact_sums` does on one GPU.

    `ordered_map` maps the shares on the workers (`clorg_scale.distributed.ordered_map`).
    """
    # A power of two: a worker that wants smaller panels halves it, and they begin at the same points.
    panel_rows = min(MOST_PANEL_ROWS, max(LEAST_PANEL_ROWS, 1 << (-(-points.n_points // PANELS) - 1).bit_length()))
    planned = DeviceSettings(**settings, most_panel_rows=panel_rows)

    def engine_for(falling: Floats) -> ClusterEngine:
        return ClusterEngine(_WorkerEngine(points, falling, planned), ordered_map, advance)

    return passes.exact_sums(engine_for, points, temperatures, seed)


class ClusterEngine(Engine):
    """The `clorg_scale.rld.exact.passes.Engine` whose work the GPUs of a cluster share."""

    xp: Any = np

    def __init__(self, worker: _WorkerEngine, ordered_map: Map, advance: Advance) -> None:
        self._worker, self._map, self._advance = worker, ordered_map, advance
        self._handed = hand_over(ordered_map, worker)
        self.temperatures = worker.temperatures
        self.scale, self.kernels = 1.0, ""

    def guess_mean_distance(self, seed: int) -> float:
        """Mean distance that one worker finds."""
        mean, self.scale, self.kernels = self._on_one("guess_mean_distance", seed)
        return float(mean)

    def kernel_pass(self, mu: float) -> KernelSums:
        """Pass 1."""
        return KernelSums(*self._on_all("kernel_pass", mu))

    def rescue_log_r(self, mu: float, R: Floats, log_r: Floats) -> tuple[Floats, Any]:
        """Rows summed again by one worker."""
        found, _, _ = self._on_one("rescue_log_r", mu, R, log_r)
        log_r, accurate = found
        return log_r, accurate

    def affinity_pass(self, mu: float, log_r: Floats) -> AffinitySums:
        """Pass 2."""
        return AffinitySums(*self._on_all("affinity_pass", mu, log_r))

    def spread(self, mu: float, log_r: Floats, sums: AffinitySums, seed: int) -> Any:
        """(t,) sum of B^2 over all pairs, from rows that one worker samples."""
        spread, _, self.kernels = self._on_one("spread", mu, log_r, sums, seed)
        return spread

    def _on_one(self, method: str, *arguments: Any) -> Any:
        """Result of a method of one worker's engine, and the engine's scale and kernels."""
        (result,) = with_kept(self._map, _Task(method, arguments), [(None, self._handed)])
        return result

    def _on_all(self, method: str, *arguments: Any) -> list[Any]:
        """Sums of all shares."""
        total: list[Any] = []
        shares = list(self._worker.shares())
        results = with_kept(self._map, _Task(method, arguments), ((some, self._handed) for some in shares))
        for share, (sums, _, kernels) in zip(shares, results, strict=True):
            total = [a + b for a, b in zip(total, sums, strict=True)] if total else list(sums)
            self.kernels = kernels
            self._advance(self._worker.n_pairs(share))
        return total


@dataclass(frozen=True)
class _WorkerEngine:
    """Handle by which a worker has the points on its GPU, where they stay as long as it keeps the handle."""

    points: ClassOrderedPoints
    temperatures: Floats
    settings: DeviceSettings

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _engine(self) -> GPUEngine:
        from clorg_scale.rld.exact.gpu import GPUEngine

        return GPUEngine.on_device(self.points, self.temperatures, self.settings, lambda _: None)

    @contextmanager
    def open(self) -> Iterator[GPUEngine]:
        """The engine on this worker's GPU."""
        from clorg_scale.rld.exact.device_points import torch_numerics

        with torch_numerics("exact RLD"):
            yield self._engine

    def shares(self) -> Iterator[tuple[int, ...]]:
        """First points of the panels of each share: one from the front and one from the back."""
        starts = range(0, self.points.n_points, self.settings.most_panel_rows)
        half = -(-len(starts) // 2)
        return (tuple(dict.fromkeys((starts[i], starts[-1 - i]))) for i in range(half))

    def panels(self, share: tuple[int, ...], panel_rows: int) -> list[int]:
        """First points of a share's panels, on a worker whose memory may want smaller ones."""
        most = self.settings.most_panel_rows
        ends = ((first, min(self.points.n_points, first + most)) for first in share)
        return [start for first, end in ends for start in range(first, end, panel_rows)]

    def n_pairs(self, share: tuple[int, ...]) -> float:
        """Pairs of points that a share visits."""
        n = self.points.n_points
        sizes = ((min(self.settings.most_panel_rows, n - start), n - start) for start in share)
        return float(sum(rows * behind - rows * (rows + 1) / 2 for rows, behind in sizes))


@dataclass(frozen=True)
class _Task:
    """A method of a worker's engine, for a share of the panels or as a whole; with the engine's scale and kernels."""

    method: str
    arguments: tuple[Any, ...]

    def __call__(self, handed: tuple[tuple[int, ...] | None, _WorkerEngine]) -> tuple[Any, float, str]:
        share, worker = handed
        with worker.open() as engine:
            panels = () if share is None else (worker.panels(share, engine.panel_rows),)
            result = getattr(engine, self.method)(*self.arguments, *panels)
            return passes.on_host(result), engine.scale, engine.kernels
