r"""Exact RLD on a GPU: panels of points on the device, and tiles by one of three implementations.

The tiles of two panels are computed by the CUDA kernels of `clorg_scale.kernels.rld_hopper` on a Hopper GPU, by the
Triton kernels of `clorg_scale.kernels.rld_launch` on others and in other input modes, or with plain torch operations
where neither can run (`clorg_scale.rld.exact.tiles_torch`: any device, and float64). What they share is here:

* **Input modes.** The default is fp16: the rounding of the coordinates moves RLD by about 6e-6, as tf32 does; bf16
  by 4e-5; ``"tf32x3"`` and ``"ieee"`` keep float32 (4e-7).
* **Near pairs** (see `clorg_scale.rld.points.NEAR`) come back as a list and are added from differences of the
  coordinates.
* **Small temperatures.** Where some r is near the end of float32's range, pass 2 works in log space.
* **Memory.** All points stay on the device where they fit; else panels are streamed through pinned memory, the next
  one while this one is worked on. A pair of panels that runs out of memory is cut into four.

Sums are added in a fixed order: equal input gives equal bits on equal hardware and panels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from clorg_scale.errors import InputError
from clorg_scale.kernels.rld_panels import Exponents, Launch, NearPairs, Panel, Weights
from clorg_scale.numerics.segments import add_at
from clorg_scale.progress import Advance
from clorg_scale.rld.exact import launch_plan, passes
from clorg_scale.rld.exact.device_points import (
    AT_ONCE,
    PRECISIONS,
    DevicePoints,
    check_precision,
    torch_device,
    torch_numerics,
)
from clorg_scale.rld.exact.launch_plan import DeviceSettings, Problem, choose_kernels, plan_panels, tiles_of
from clorg_scale.rld.exact.passes import AffinitySums, Engine, ExactSums, KernelSums
from clorg_scale.rld.null import RowSample, relative_affinities, sample_rows
from clorg_scale.rld.points import (
    NEAR,
    ClassOrderedPoints,
    ColumnDistances,
    distances_to_all,
    positive_mean,
    random_pairs,
)
from clorg_scale.rld.temperatures import LOG2_E, needs_log_space, rates, square_of
from clorg_scale.rld.types import Floats, Integers

__all__ = ["GPUEngine", "exact_sums"]

N_RANDOM_PAIRS = 1 << 19
"""Random pairs for the first estimate of mu (relative error about 3e-4, corrected to first order)."""

EXACT_MEAN = 20_000
"""Up to this many points a pass over the distances alone gives mu itself before pass 1."""

SPREAD_ROWS = 1 << 10
"""Rows from which the deviation over shuffled labels is found: to a few percent."""

NEAR_TILES_AT_ONCE = 1 << 8
"""Tiles whose near pairs are listed at once."""


def exact_sums(
    points: ClassOrderedPoints,
    temperatures: Floats,
    *,
    seed: int = 0,
    advance: Advance,
    **settings: Any,
) -> ExactSums:
    """Sum the affinities of every point at every temperature, as `rld.exact.cpu.exact_sums` does on the CPU.

    `settings`: fields of `DeviceSettings`. The seed is that of the sample of rows for the spread, too.

    Raises
    ------
    InputError
        If all points are identical (mu = 0), the precision is unknown, the kernels cannot run, or device memory does
        not suffice.
    MissingDependencyError
        If Triton is not installed and was asked for by name.
    """
    planned = DeviceSettings(**settings)
    with torch_numerics("exact RLD"):
        return passes.exact_sums(
            lambda falling: GPUEngine.on_device(points, falling, planned, advance), points, temperatures, seed
        )


class GPUEngine(Engine):
    """The `clorg_scale.rld.exact.passes.Engine` of one device; distances are in units of the scaled points.

    `kernels`, ``"hopper"``, ``"triton"`` or ``"torch"``, work on panels of `panel_rows` points.
    """

    xp: Any = torch

    def __init__(
        self, points: DevicePoints, temperatures: Floats, panel_rows: int, advance: Advance, *, kernels: str
    ) -> None:
        self.points, self.panel_rows, self.advance = points, panel_rows, advance
        self.kernels = self._chosen = kernels
        self.scale = points.scale
        self._dtype = torch.float64 if points.precision == "fp64" else torch.float32
        self.temperatures = self._tensor(temperatures)
        squares = square_of(temperatures, adjacent=True)
        self._square_of = torch.as_tensor(squares.astype(np.int32), device=points.device)
        self._tiles = tiles_of(kernels)

    @classmethod
    def on_device(
        cls, points: ClassOrderedPoints, temperatures: Floats, settings: DeviceSettings, advance: Advance
    ) -> GPUEngine:
        """Bring points to a device."""
        precision, device = check_precision(settings.precision or "fp16", PRECISIONS), torch_device(settings.device)
        kernels = choose_kernels(settings.kernels, precision, device, len(temperatures))
        problem = Problem(points.n_points, points.n_features, len(temperatures), precision, device, kernels)
        panel_rows, resident = plan_panels(problem, settings.memory_limit, most=settings.most_panel_rows)
        on_device = DevicePoints(points, device, precision, resident=resident)
        return cls(on_device, temperatures, panel_rows, advance, kernels=kernels)

    def guess_mean_distance(self, seed: int) -> float:
        """Mean distance: of all pairs where that is cheap or float64 asked for, else of random ones."""
        if self.points.precision != "fp64" and self.points.n > EXACT_MEAN:
            return self.random_pair_mean(seed)
        without = GPUEngine(self.points, np.empty(0), self.panel_rows, lambda _: None, kernels=self._kernels_without)
        return passes.mean_distance(without.kernel_pass(1.0).distance_sum, self.points.n)

    def random_pair_mean(self, seed: int) -> float:
        """Mean distance of random pairs; of fewer where points are streamed."""
        wanted = N_RANDOM_PAIRS if self.points.resident else N_RANDOM_PAIRS >> 3
        lengths = self.points.distances(*random_pairs(self.points.n, seed, wanted))
        return positive_mean(float(lengths.mean()))

    def kernel_pass(self, mu: float, panels: Iterable[int] | None = None) -> KernelSums:
        """Pass 1; of all panels, or of those that begin at some points with those behind."""
        t, c = len(self.temperatures), rates(self.temperatures, mu)
        exponents = Exponents(c, self._square_of)
        into = self._zeros(2 * t, self.points.n)
        total = self._zeros()
        for X, Y, sums in self._pair_sums(
            lambda X, Y, launch: self._tiles.kernel_sums(X, Y, exponents, launch), panels
        ):
            into[:, X.start : X.start + len(X.x)] += sums.over_rows
            into[:, Y.start : Y.start + len(Y.x)] += sums.over_columns
            total.add_(sums.distance_sum)
            for i, j, distance in _near_distances(X, Y, sums.near_pairs):
                total.add_(distance.sum())
                e = torch.exp2(c[:, None] * distance)
                both = torch.cat([e, e * distance])
                add_at(into, i, both)
                add_at(into, j, both)
        return KernelSums(into[:t], into[t:], total)

    def rescue_log_r(self, mu: float, R: Any, log_r: Any) -> tuple[Any, Any]:
        """Sum again the rows whose R is not far above float32's smallest number."""
        accurate = self._tensor(R) >= self.points.n * 2.0 ** (-126 + 27)
        return passes.rescued_log_r(self, mu, self._tensor(log_r), accurate), accurate

    def distances_to_all(self, rows: Integers) -> Iterator[ColumnDistances]:
        """Float64 distances of some positions to all, a slice of these at a time."""
        n, step = self.points.n, max(1, AT_ONCE // max(self.points.d, len(rows)))
        blocks = ((start, self.points.rows(np.arange(start, min(n, start + step)))) for start in range(0, n, step))
        return distances_to_all(rows, self.points.rows(rows), blocks, torch)

    def affinity_pass(self, mu: float, log_r: Any, panels: Iterable[int] | None = None) -> AffinitySums:
        """Pass 2; of all panels, or of those that begin at some points with those behind."""
        t, log_r = len(self.temperatures), self._tensor(log_r)
        log_space = needs_log_space(float(log_r.min()), self.points.n)
        tiles = self._tiles
        if log_space and self._chosen == "hopper":  # its kernels have no log space
            tiles, self.kernels = tiles_of("triton"), "hopper, triton"
        exponents = Exponents(rates(self.temperatures, mu), self._square_of)
        weights = (log_r * LOG2_E if log_space else torch.exp(-log_r)).to(self._dtype)
        into, near_squares = self._zeros(2 * t, self.points.n), self._zeros(t)

        def weights_of(panel: Panel) -> Any:
            return weights[:, panel.start : panel.start + len(panel.x)].contiguous()

        def sums_of(X: Panel, Y: Panel, launch: Launch) -> Any:
            return tiles.affinity_sums(X, Y, exponents, Weights(weights_of(X), weights_of(Y), log_space), launch)

        for X, Y, sums in self._pair_sums(sums_of, panels):
            for panel, over in ((X, sums.over_rows), (Y, sums.over_columns)):
                factor = 1.0 if log_space else weights_of(panel).double().repeat(2, 1)
                into[:, panel.start : panel.start + len(panel.x)] += over * factor
            for i, j, distance in _near_distances(X, Y, sums.near_pairs):
                exponent = -2 * distance / (mu * self.temperatures[:, None])
                a = torch.exp(exponent - log_r[:, i] - log_r[:, j])
                near_squares.add_(a.square().sum(1), alpha=2)
                codes = self.points.codes[i]
                same = (codes == self.points.codes[j]) & (codes >= 0)
                both = torch.cat([torch.where(same, 0, a), torch.where(same, a, 0)])
                add_at(into, i, both)
                add_at(into, j, both)
        return AffinitySums(into[:t] + into[t:], into[t:], near_squares)

    def spread(self, mu: float, log_r: Any, sums: AffinitySums, seed: int) -> Any:
        """(t,) sum of B^2 over all pairs, B = A / 2m - k k' / (2m)^2, from a random sample of its rows.

        Near pairs, of which a few can make up most of it, are known: the sample only says by how much B^2 differs from
        (A / 2m)^2 there.
        """
        log_r, k, near_squares = (self._tensor(array) for array in (log_r, sums.k, sums.squares))
        rows = sample_rows(self.points.n, seed, SPREAD_ROWS)
        two_m, rates = k.sum(1), -2 / (mu * self.temperatures)
        sample = RowSample(np.sort(rows), log_r, k / two_m[:, None], two_m, rates)
        total = self._zeros(len(two_m))
        for t, near, A, B in relative_affinities(sample, self.distances_to_all(sample.rows), torch):
            total[t] += B.square().sum() - torch.where(near, A, 0).square().sum()
        return total * (self.points.n / len(rows)) + near_squares / two_m**2

    @property
    def _kernels_without(self) -> str:
        """Kernels of a pass without temperatures."""
        return "triton" if self._chosen == "hopper" else self._chosen

    def _tensor(self, array: Any) -> Any:
        """Float64 on the device."""
        return torch.as_tensor(array, dtype=torch.float64, device=self.points.device)

    def _zeros(self, *shape: int) -> Any:
        return torch.zeros(shape, dtype=torch.float64, device=self.points.device)

    def _pair_sums(
        self, sums_of: Callable[[Panel, Panel, Launch], Any], panels: Iterable[int] | None
    ) -> Iterator[tuple[Panel, Panel, Any]]:
        """Sums of every pair of panels, in a fixed order."""
        for X, Y in self.points.panel_pairs(self.panel_rows, panels):
            yield from self._sums_of_pair(X, Y, sums_of)
            self.advance(len(X.x) * (len(X.x) - 1) / 2 if X.start == Y.start else len(X.x) * len(Y.x))

    def _sums_of_pair(
        self, X: Panel, Y: Panel, sums_of: Callable[[Panel, Panel, Launch], Any]
    ) -> Iterator[tuple[Panel, Panel, Any]]:
        """Sums of one pair of panels; in quarters if memory runs out or there is no room for its near pairs."""
        smallest = len(X.x) <= launch_plan.LEAST_PANEL_ROWS
        launch = Launch(self.points.precision, NEAR, launch_plan.near_tiles(max(len(X.x), len(Y.x))))
        try:
            sums = sums_of(X, Y, launch)
            if isinstance(sums, int) and (smallest or sums <= 4 * launch.capacity):
                sums = sums_of(X, Y, launch._replace(capacity=sums))
        except torch.OutOfMemoryError as error:
            if smallest:
                raise InputError(
                    "The device ran out of memory in exact RLD even with panels of "
                    f"{len(X.x)} points; free device memory, or use device='cpu'."
                ) from error
            sums = 0
        if not isinstance(sums, int):
            yield X, Y, sums
            return
        if self.points.device.type == "cuda":
            torch.cuda.empty_cache()
        for x, y in _quarters(X, Y):
            yield from self._sums_of_pair(x, y, sums_of)


def _quarters(X: Panel, Y: Panel) -> Iterator[tuple[Panel, Panel]]:
    """A pair of panels in quarters, three where it is a panel with itself."""

    def halves(panel: Panel) -> tuple[Panel, Panel]:
        middle = len(panel.x) // 2
        return panel.slice(0, middle), panel.slice(middle, len(panel.x))

    (a, b), (c, d) = halves(X), halves(Y)
    yield from ((a, c), (a, d)) if X.start == Y.start else ((a, c), (a, d), (b, c))
    yield b, d


def _near_distances(X: Panel, Y: Panel, near_pairs: list[NearPairs]) -> Iterator[tuple[Any, Any, Any]]:
    """Positions i, j and distances, from differences in float64, of the pairs that the tiles left out."""
    step = max(1, AT_ONCE // X.x.shape[1])
    for near in near_pairs:
        for first in range(0, len(near.masks), NEAR_TILES_AT_ONCE):
            tile, i, j = torch.nonzero(near.masks[first : first + NEAR_TILES_AT_ONCE], as_tuple=True)
            i, j = near.rows[first + tile] + i, near.columns[first + tile] + j
            for rows, columns in zip(i.split(step), j.split(step), strict=True):
                distance = (X.x[rows].double() - Y.x[columns].double()).square_().sum(1).sqrt_()
                yield X.start + rows, Y.start + columns, distance
