r"""Exact RLD on a GPU: the two passes of `clorg_scale.rld.exact.passes` over panels of points held by torch.

The tiles of two panels are computed by the CUDA kernels of `clorg_scale.kernels.rld_hopper` on a Hopper GPU, by the
Triton kernels of `clorg_scale.kernels.rld_tiles` on others and in other input modes, or with plain torch operations
where neither can run (`clorg_scale.rld.exact.tiles_torch`: any device, and float64). What they share is here:

* **Input modes.** The default is fp16: the rounding of the coordinates moves RLD by about 6e-6, as tf32 does; bf16
  by 4e-5; ``"tf32x3"`` and ``"ieee"`` keep float32 (4e-7).
* **Near pairs** (d^2 < 1e-3 (n_i + n_j)) come back as a list and are added from differences of the coordinates.
* **Small temperatures.** Rows whose r is near the end of float32's range are summed again by a running log-sum-exp
  in float64, and pass 2 then works with logarithms.
* **Memory.** All points stay on the device where they fit; else panels are streamed through pinned memory, the next
  one while this one is worked on. A pair of panels that runs out of memory is cut into four.

Sums are added in a fixed order: equal input gives equal bits on equal hardware and panels.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import free_device_memory, within_device_memory
from clorg_scale.errors import InputError, require
from clorg_scale.numerics.products import float32_products
from clorg_scale.progress import Advance
from clorg_scale.rld.exact.device_points import PRECISIONS, DevicePoints, Panel
from clorg_scale.rld.exact.passes import ExactSums
from clorg_scale.rld.exact.tiles_torch import NEAR, TILE_BYTES, NearPairs
from clorg_scale.rld.points import ClassOrderedPoints

__all__ = [
    "Engine",
    "Passes",
    "as_handed_in",
    "computing",
    "exact_sums",
    "mean_distance",
    "needs_logarithms",
    "on_device",
]

Floats = npt.NDArray[np.float64]

Engine = Literal["auto", "hopper", "triton", "torch"]

MOST_PANEL_ROWS = 1 << 16
"""Points in a panel: 32,768 programs of 8 tiles, so that the last, partly filled wave of them is below 1% of all."""

LEAST_RESIDENT_ROWS = 1 << 13
"""Smaller panels, to keep all points on the device, would take longer than streaming them."""

LEAST_PANEL_ROWS = 1 << 10
"""Where a pair of panels this small does not fit, nothing helps."""

SPARE_TILES = 64
"""Tiles with near pairs (16 KiB each) that there is room for, beyond those on the diagonal."""

N_RANDOM_PAIRS = 1 << 19
"""Random pairs for the first estimate of mu (relative error about 3e-4, corrected to first order)."""

EXACT_MEAN = 20_000
"""Up to this many points a pass over the distances alone gives mu itself before pass 1."""

AT_ONCE = 1 << 22
"""Float64 numbers (32 MiB) of each array of the work beside the tiles; some ten such arrays are in use at once."""

SPREAD_ROWS = 1 << 10
"""Rows from which the deviation over shuffled labels is found: to a few percent."""

LOG2_E = float(np.log2(np.e))


def exact_sums(
    points: ClassOrderedPoints,
    temperatures: Floats,
    *,
    seed: int = 0,
    memory_limit: int | None = None,
    advance: Advance,
    precision: str | None = None,
    engine: Engine = "auto",
    device: str = "cuda",
) -> ExactSums:
    """Sum the affinities of every point at every temperature, as `rld.exact.passes.exact_sums` does on the CPU.

    Parameters
    ----------
    points
        The embeddings in class order.
    temperatures
        (t,) T > 0.
    seed
        Of the random pairs for the first estimate of mu.
    memory_limit
        Bytes of device memory that may be taken; None takes 90% of what is free.
    advance
        Told the number of pairs done.
    precision
        ``"fp16"`` (default), ``"bf16"``, ``"tf32"``, ``"tf32x3"``, ``"ieee"`` (float32) or ``"fp64"``.
    engine
        ``"auto"`` takes the kernels for Hopper where they can run, else Triton's.
    device
        torch device; anything but CUDA is for tests of this code.

    Raises
    ------
    InputError
        If all points are identical (mu = 0), the precision is unknown, or device memory does not suffice.
    MissingDependencyError
        If torch is not installed, or Triton where asked for by name.
    """
    falling = np.argsort(-temperatures, kind="stable")
    with computing():
        passes = on_device(points, temperatures[falling], memory_limit, advance, precision, engine, device)
        return as_handed_in(_sums(passes, seed), falling, points.order)


@contextmanager
def computing() -> Iterator[None]:
    """What all work here needs around it: no gradients, float32 products as they are, a sentence where memory ends."""
    torch = require("torch", extra="cuda13", purpose="Exact RLD on a GPU")
    with torch.no_grad(), float32_products("ieee"), within_device_memory("exact RLD"):
        yield


def on_device(
    points: ClassOrderedPoints,
    temperatures: Floats,
    memory_limit: int | None,
    advance: Advance,
    precision: str | None,
    engine: Engine,
    device: str,
    *,
    most_panel_rows: int = MOST_PANEL_ROWS,
) -> Passes:
    """Points on a device and the passes over them; temperatures fall."""
    import torch

    precision = precision or "fp16"
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}.")
    place = torch.device(device)
    if place.type == "cuda" and place.index is None:  # what is current is so in this thread, not in the one that loads
        place = torch.device("cuda", torch.cuda.current_device())
    triton = _use_triton(torch, engine, precision, place)
    panel_rows, resident = _plan(
        points, len(temperatures), precision, memory_limit, place, triton=triton, most=most_panel_rows
    )
    held = DevicePoints(points, place, precision, resident=resident)
    hopper = (
        triton and engine in ("auto", "hopper") and _use_hopper(held, len(temperatures), required=engine == "hopper")
    )
    return Passes(held, temperatures, panel_rows, advance, triton=triton, hopper=hopper)


def _sums(passes: Passes, seed: int) -> ExactSums:
    """All passes; points in class order."""
    guess = passes.first_mean(seed)
    R, D, mu = passes.kernel_sums(guess)
    log_r = passes.torch.log(R) + np.log(mu / guess) * D / (R * guess * passes.temperatures[:, None])
    n_rescued = passes.rescue(R, mu, log_r)
    B, W, near_squares = passes.affinity_sums(mu, log_r, safe=needs_logarithms(float(R.min()), passes.points.n))
    spread = passes.spread(mu, log_r, B + W, near_squares, seed)
    k, w, logs, spread = (array.cpu().numpy() for array in (B + W, W, log_r, spread))
    return ExactSums(k, w, logs, mu / passes.points.scale, n_rescued, spread=spread)


def as_handed_in(sums: ExactSums, falling: npt.NDArray[np.int64], order: npt.NDArray[np.int64]) -> ExactSums:
    """Sums of falling temperatures and points in class order, in the order in which both were handed in."""
    back, place = np.argsort(falling), np.empty_like(order)
    place[order] = np.arange(len(order))
    k, w, log_r = (array[back][:, place] for array in (sums.k, sums.w, sums.log_r))
    assert sums.spread is not None
    return ExactSums(k, w, log_r, sums.mean_distance, sums.n_rescued[back], spread=sums.spread[back])


def _use_triton(torch: Any, engine: Engine, precision: str, device: Any) -> bool:
    """Whether the Triton kernels compute the tiles."""
    if engine == "torch" or (engine == "auto" and precision == "fp64"):
        return False
    if precision == "fp64":
        raise InputError("The Triton kernels have no fp64; use engine='torch' or another precision.")
    if engine == "auto" and importlib.util.find_spec("triton") is None:
        return False
    require("triton", extra="cuda13", purpose="The fused tiles of exact RLD")
    from clorg_scale.kernels.rld_launch import INTERPRETED

    able = INTERPRETED or (device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0))
    if engine == "triton" and not able:
        raise InputError(
            "The Triton kernels need an NVIDIA GPU of compute capability 8.0 or later; use engine='torch'."
        )
    return bool(able)


def _use_hopper(points: DevicePoints, n_temperatures: int, *, required: bool) -> bool:
    """Whether the CUDA kernels compute the tiles."""
    from clorg_scale.kernels import rld_hopper

    able = bool(rld_hopper.usable(points.device, points.precision, n_temperatures))
    if required and not able:
        raise InputError(
            "The kernels for Hopper need a GPU of compute capability 9, CuPy, cuda-core, precision fp16 or bf16 "
            f"and at most {rld_hopper.MOST_TEMPERATURES} temperatures; use engine='triton'."
        )
    return able


def _plan(
    points: ClassOrderedPoints,
    t: int,
    precision: str,
    memory_limit: int | None,
    device: Any,
    *,
    triton: bool,
    most: int = MOST_PANEL_ROWS,
) -> tuple[int, bool]:
    """Points of a panel, at `most`, and whether all points stay on the device."""
    limit = memory_limit
    if limit is None:
        limit = int(0.9 * free_device_memory()) if device.type == "cuda" else 2 << 30
    n, point = points.n_points, DevicePoints.bytes_per_point(points.n_features, precision)
    # R, D, log r, B, W and what is brought to main memory, all at once at the end.
    sums, converting = n * (9 * t + 4) * 8, DevicePoints.converting_bytes(precision)

    def working(rows: int) -> int:
        return _working_bytes(rows, points.n_features, t, precision, device, triton=triton)

    def resident(rows: int) -> int:
        return sums + n * point + max(working(rows), converting)

    def streamed(rows: int) -> int:
        # Two panels at work, one that the device is about to be done with, one that is coming.
        return sums + 4 * rows * point + working(rows) + converting

    rows = min(most, n)
    while rows > LEAST_RESIDENT_ROWS and resident(rows) > limit:
        rows = -(-rows // 2)
    if resident(rows) <= limit:
        return rows, True
    rows = min(most, n)
    while rows > LEAST_PANEL_ROWS and streamed(rows) > limit:
        rows = -(-rows // 2)
    if streamed(rows) > limit:
        raise InputError(
            f"Exact RLD of {n} points with {points.n_features} features needs at least {streamed(rows) / 1e6:.0f} MB "
            f"of device memory, of which {limit / 1e6:.0f} MB may be taken; use device='cpu' or method='sampled'."
        )
    return rows, False


def _working_bytes(rows: int, n_features: int, t: int, precision: str, device: Any, *, triton: bool) -> int:
    """Device memory beside points and their sums: what a pair of panels of so many rows takes, or the work between."""
    totals = 2 * t * rows * 16
    if triton:
        from clorg_scale.kernels import rld_launch

        config = rld_launch.tile_config(precision)
        tiles: int = rld_launch.buffer_bytes(rows, rows, 2 * t, config) + _near_tiles(rows) * config.m * config.n
        from clorg_scale.kernels import rld_hopper

        if rld_hopper.usable(device, precision, t):
            tiles += 4 * rows * (n_features + 64)  # both panels, packed
    else:
        tiles = 8 * min(TILE_BYTES[device.type], 4 * rows * rows) + 4 * rows * n_features
    return max(tiles + totals, 10 * 8 * AT_ONCE)


class Passes:
    """The passes over all pairs of panels; temperatures fall, distances are in units of the scaled points."""

    def __init__(
        self,
        points: DevicePoints,
        temperatures: Floats,
        panel_rows: int,
        advance: Advance,
        *,
        triton: bool,
        hopper: bool = False,
    ) -> None:
        import torch

        self.torch, self.points, self.panel_rows, self.advance = torch, points, panel_rows, advance
        self.triton, self.hopper = triton, hopper
        self.temperatures = torch.as_tensor(temperatures, dtype=torch.float64, device=points.device)
        halves = np.append(False, abs(temperatures[:-1] / temperatures[1:] - 2) < 1e-12)[: len(temperatures)]
        self.forms = torch.tensor([2 if half else 1 for half in halves], dtype=torch.int32, device=points.device)
        self.float = torch.float64 if points.precision == "fp64" else torch.float32

    def first_mean(self, seed: int) -> float:
        """Mean distance: of all pairs where that is cheap or float64 asked for, else of random ones."""
        if self.points.precision == "fp64" or self.points.n <= EXACT_MEAN:
            distances_only = Passes(self.points, np.empty(0), self.panel_rows, lambda _: None, triton=self.triton)
            return distances_only.kernel_sums(1.0)[2]
        return self.random_pair_mean(seed)

    def random_pair_mean(self, seed: int) -> float:
        """Mean distance of random pairs i, i + shift of random permutations."""
        rng = np.random.default_rng(seed)
        n, count = self.points.n, 0
        total = self.torch.zeros((), dtype=self.torch.float64, device=self.points.device)
        wanted = min(N_RANDOM_PAIRS if self.points.resident else N_RANDOM_PAIRS >> 3, n * (n - 1) // 2)
        step = max(1, AT_ONCE // self.points.d)
        while count < wanted:
            chosen = rng.permutation(n)[: wanted - count + 1]
            shift = int(rng.integers(1, len(chosen)))
            for start in range(0, len(chosen), step):
                here = np.arange(start, min(start + step, len(chosen)))
                apart = self.points.rows(chosen[here]) - self.points.rows(chosen[(here + shift) % len(chosen)])
                total += apart.square_().sum(1).sqrt_().sum()
            count += len(chosen)
        return _positive(float(total) / count)

    def kernel_sums(self, mu: float) -> tuple[Any, Any, float]:
        """Pass 1: R and D, (t, n) each, and the exact mean distance."""
        into, total = self.kernel_totals(mu)
        t = len(self.temperatures)
        return into[:t], into[t:], mean_distance(float(total), self.points.n)

    def kernel_totals(self, mu: float, some: Iterable[int] | None = None) -> tuple[Any, Any]:
        """R and D, one above the other (2t, n), and the sum of the distances; of `some` panels with those behind."""
        rates = -LOG2_E / (mu * self.temperatures)
        n, t = self.points.n, len(rates)
        into = self.torch.zeros((2 * t, n), dtype=self.torch.float64, device=self.points.device)
        total = self.torch.zeros((), dtype=self.torch.float64, device=self.points.device)

        def sums_of(X: Panel, Y: Panel, room: int) -> Any:
            if self.hopper:
                from clorg_scale.kernels import rld_hopper

                return rld_hopper.kernel_sums(
                    X, Y, rates.to(self.float), self.forms, precision=self.points.precision, capacity=room
                )
            if self.triton:
                from clorg_scale.kernels import rld_launch

                config = rld_launch.tile_config(self.points.precision)
                return rld_launch.kernel_sums(
                    X,
                    Y,
                    rates.to(self.float),
                    self.forms,
                    precision=self.points.precision,
                    config=config,
                    capacity=room,
                )
            from clorg_scale.rld.exact.tiles_torch import kernel_sums

            return kernel_sums(X, Y, rates, self.forms)

        def add(X: Panel, Y: Panel, sums: Any) -> None:
            over_rows, over_columns, sum_d, left_out = sums
            into[:, X.start : X.start + len(X.x)] += over_rows
            into[:, Y.start : Y.start + len(Y.x)] += over_columns
            total.add_(sum_d)
            for i, j, distance in _near_pairs(X, Y, left_out):
                total.add_(distance.sum())
                e = self.torch.exp2(rates[:, None] * distance)
                both = self.torch.cat([e, e * distance])
                _add_at(into, i, both)
                _add_at(into, j, both)

        self._visit_all(sums_of, add, some)
        return into, total

    def rescue(self, R: Any, mu: float, log_r: Any) -> npt.NDArray[np.int64]:
        """Sum the rows again whose R is not far above float32's smallest number, by log-sum-exp in float64."""
        torch, n = self.torch, self.points.n
        weak = n * 2.0 ** (-126 + 27) > R
        rows = torch.nonzero(weak.any(0)).flatten()
        for start in range(0, len(rows), 256):
            block = rows[start : start + 256]
            found = self._log_sums(block, mu)
            log_r[:, block] = torch.where(weak[:, block], found, log_r[:, block])
        return np.asarray(weak.sum(1).cpu().numpy(), dtype=np.int64)

    def _log_sums(self, positions: Any, mu: float) -> Any:
        """(t, b) log r of some points: running log-sum-exp against all points."""
        torch, shape = self.torch, (len(self.temperatures), len(positions))
        result = torch.full(shape, -torch.inf, dtype=torch.float64, device=self.points.device)
        for _, distance, _ in self._distances(positions):
            for t, temperature in enumerate(self.temperatures.tolist()):
                result[t] = torch.logaddexp(result[t], torch.logsumexp(distance / (-mu * temperature), 1))
        return result

    def _distances(self, positions: Any) -> Iterator[tuple[slice, Any, Any]]:
        """Float64 distances of some points to all, a slice of these at a time, and which pairs are near.

        To themselves they are infinite.
        """
        torch, n = self.torch, self.points.n
        block = self.points.rows(positions if self.points.resident else positions.cpu())
        norms = block.square().sum(1)
        step = max(1, AT_ONCE // max(self.points.d, len(positions)))
        for start in range(0, n, step):
            part = slice(start, min(n, start + step))
            other = self.points.rows(np.arange(part.start, part.stop))
            total = norms[:, None] + other.square().sum(1)
            square = torch.addmm(total, block, other.T, alpha=-2)
            near = square < NEAR * total
            distance = square.clamp_min_(0).sqrt_()
            itself = torch.nonzero((positions >= part.start) & (positions < part.stop)).flatten()
            distance[itself, positions[itself] - start] = torch.inf
            yield part, distance, near

    def spread(self, mu: float, log_r: Any, k: Any, near_squares: Any, seed: int) -> Any:
        """(t,) sum of B^2 over all pairs, B = A / 2m - k k' / (2m)^2, from a random sample of its rows.

        Near pairs, of which a few can make up most of it, are known: the sample only says by how much B^2 differs from
        (A / 2m)^2 there.
        """
        torch, n = self.torch, self.points.n
        chosen = np.sort(np.random.default_rng([seed, n]).permutation(n)[:SPREAD_ROWS])
        rows = torch.as_tensor(chosen, device=self.points.device)
        two_m = k.sum(1)
        shares = k / two_m[:, None]
        total = torch.zeros(len(two_m), dtype=torch.float64, device=self.points.device)
        for part, distance, near in self._distances(rows):
            for t, temperature in enumerate(self.temperatures.tolist()):
                exponent = distance * (-2 / (mu * temperature)) - log_r[t, rows, None] - log_r[t, part]
                A = torch.exp(exponent) / two_m[t]
                B = A - shares[t, rows, None] * shares[t, part]
                total[t] += B.square().sum() - torch.where(near, A, 0).square().sum()
        return total * (n / len(rows)) + near_squares / two_m**2

    def affinity_sums(
        self, mu: float, log_r: Any, *, safe: bool, some: Iterable[int] | None = None
    ) -> tuple[Any, Any, Any]:
        """Pass 2: B and W, (t, n) each, and (t,) the sum of the squares of the affinities of all near pairs.

        Of all panels, or of `some` with those behind.
        """
        torch, t = self.torch, len(self.temperatures)
        rates = -LOG2_E / (mu * self.temperatures)
        weights = (log_r * LOG2_E if safe else torch.exp(-log_r)).to(self.float)
        into = torch.zeros((2 * t, self.points.n), dtype=torch.float64, device=self.points.device)
        near_squares = torch.zeros(t, dtype=torch.float64, device=self.points.device)

        def of(panel: Panel) -> Any:
            return weights[:, panel.start : panel.start + len(panel.x)].contiguous()

        def sums_of(X: Panel, Y: Panel, room: int) -> Any:
            if self.hopper and not safe:
                from clorg_scale.kernels import rld_hopper

                return rld_hopper.affinity_sums(
                    X, Y, of(X), of(Y), rates.to(self.float), self.forms, precision=self.points.precision, capacity=room
                )
            if self.triton:
                from clorg_scale.kernels import rld_launch

                config = rld_launch.tile_config(self.points.precision)
                return rld_launch.affinity_sums(
                    X, Y, of(X), of(Y), rates.to(self.float), self.forms,
                    safe=safe, precision=self.points.precision, config=config, capacity=room,
                )  # fmt: skip
            from clorg_scale.rld.exact.tiles_torch import affinity_sums

            return affinity_sums(X, Y, of(X), of(Y), rates, self.forms, safe=safe)

        def add(X: Panel, Y: Panel, sums: Any) -> None:
            for panel, over in ((X, sums[0]), (Y, sums[1])):
                into[:, panel.start : panel.start + len(panel.x)] += (
                    over if safe else over * of(panel).double().repeat(2, 1)
                )
            for i, j, distance in _near_pairs(X, Y, sums[2]):
                exponent = -2 * distance / (mu * self.temperatures[:, None])
                a = torch.exp(exponent - log_r[:, i] - log_r[:, j])
                near_squares.add_(a.square().sum(1), alpha=2)
                codes = self.points.codes[i]
                same = (codes == self.points.codes[j]) & (codes >= 0)
                both = torch.cat([torch.where(same, 0, a), torch.where(same, a, 0)])
                _add_at(into, i, both)
                _add_at(into, j, both)

        self._visit_all(sums_of, add, some)
        return into[:t], into[t:], near_squares

    def _visit_all(
        self,
        sums_of: Callable[[Panel, Panel, int], Any],
        add: Callable[[Panel, Panel, Any], None],
        some: Iterable[int] | None,
    ) -> None:
        """Compute and add the sums of every pair of panels, in a fixed order."""
        for X, Y in self.points.panel_pairs(self.panel_rows, some):
            self._visit(X, Y, sums_of, add)
            same = X.start == Y.start
            self.advance(len(X.x) * (len(X.x) - 1) / 2 if same else len(X.x) * len(Y.x))

    def _visit(
        self, X: Panel, Y: Panel, sums_of: Callable[[Panel, Panel, int], Any], add: Callable[[Panel, Panel, Any], None]
    ) -> None:
        """One pair of panels; in parts if memory runs out or there is no room for its near pairs."""
        room = _near_tiles(max(len(X.x), len(Y.x)))
        try:
            sums = sums_of(X, Y, room)
            if isinstance(sums, int) and sums <= 4 * room:
                sums = sums_of(X, Y, sums)
            if not isinstance(sums, int):
                add(X, Y, sums)
                return
            if len(X.x) <= LEAST_PANEL_ROWS:
                add(X, Y, sums_of(X, Y, sums))
                return
        except self.torch.OutOfMemoryError as error:
            if len(X.x) <= LEAST_PANEL_ROWS:
                raise InputError(
                    "The device ran out of memory in exact RLD even with panels of "
                    f"{len(X.x)} points; free device memory, or use device='cpu'."
                ) from error
        if self.points.device.type == "cuda":
            self.torch.cuda.empty_cache()
        for x, y in _quarters(X, Y):
            self._visit(x, y, sums_of, add)


def _near_tiles(rows: int) -> int:
    """Tiles with near pairs that there is room for in a pair of panels: all of a diagonal, and some."""
    return 2 * -(-rows // 64) + SPARE_TILES


def _quarters(X: Panel, Y: Panel) -> Iterator[tuple[Panel, Panel]]:
    """A pair of panels in four parts, three where it is a panel with itself."""

    def halves(panel: Panel) -> tuple[Panel, Panel]:
        middle = len(panel.x) // 2
        return panel.part(0, middle), panel.part(middle, len(panel.x))

    (a, b), (c, d) = halves(X), halves(Y)
    yield from ((a, c), (a, d)) if X.start == Y.start else ((a, c), (a, d), (b, c))
    yield b, d


def needs_logarithms(least_r: float, n: int) -> bool:
    """Whether products of squared exponentials and 1 / r could leave float32's range where they matter.

    A row's affinities are decided by its largest E_ij >= R_i / n; their squares keep 24 bits above 2^-126 while
    R_i > n 2^-50.
    """
    return least_r < n * 2.0**-50


def _near_pairs(X: Panel, Y: Panel, left_out: list[NearPairs]) -> Iterator[tuple[Any, Any, Any]]:
    """Positions i, j and distances, from differences in float64, of the pairs that the tiles left out."""
    import torch

    step = max(1, AT_ONCE // X.x.shape[1])
    tiles = 1 << 8
    for near in left_out:
        for first in range(0, len(near.masks), tiles):
            tile, i, j = torch.nonzero(near.masks[first : first + tiles], as_tuple=True)
            i, j = near.rows[first + tile] + i, near.columns[first + tile] + j
            for start in range(0, len(i), step):
                here, there = i[start : start + step], j[start : start + step]
                distance = (X.x[here].double() - Y.x[there].double()).square_().sum(1).sqrt_()
                yield X.start + here, Y.start + there, distance


def _add_at(into: Any, positions: Any, values: Any) -> None:
    """Into[:, positions] += values, positions repeating, in a fixed order (no atomics)."""
    import torch

    order = torch.argsort(positions, stable=True)
    places, counts = torch.unique_consecutive(positions[order], return_counts=True)
    sums = torch.segment_reduce(values[:, order].T.contiguous(), "sum", lengths=counts, axis=0)
    into[:, places] += sums.T


def mean_distance(total: float, n: int) -> float:
    """Mu from the sum over all pairs of n points."""
    return _positive(2 * total / (n * (n - 1)))


def _positive(mu: float) -> float:
    """Refuse points that are all the same."""
    if not mu > 0:
        raise InputError("All points are identical (their mean distance is 0); RLD is not defined for them.")
    return mu
