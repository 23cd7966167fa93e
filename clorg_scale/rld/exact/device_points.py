"""Points in class order on the device of a torch tensor, rounded to the input mode of the matrix products."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from clorg_scale.arrays import array_module, within_device_memory
from clorg_scale.errors import InputError
from clorg_scale.kernels.rld_panels import Panel
from clorg_scale.numerics.products import float32_products, rounded_to_tf32
from clorg_scale.rld.points import ClassOrderedPoints
from clorg_scale.rld.types import Integers

__all__ = ["AT_ONCE", "PRECISIONS", "DevicePoints", "check_precision", "on_device", "torch_device", "torch_numerics"]

PRECISIONS = ("fp16", "bf16", "tf32", "tf32x3", "ieee", "fp64")
"""Input modes: rounding of the coordinates, and for float32 how many products stand for one."""

FEATURES = 64
"""Features are padded with zeros to a multiple of this: the kernels' tiles need no masks along them."""

BLOCK_BYTES = 32 << 20
"""Bytes of coordinates, as float32, converted at a time: a copy of that size runs at full speed."""

AT_ONCE = 1 << 22
"""Float64 numbers (32 MiB) of each array of the work beside the tiles; some ten such arrays are in use at once."""


@contextmanager
def torch_numerics(work: str) -> Iterator[None]:
    """No gradients, float32 products in full precision, and one clear error where device memory ends in this work."""
    with torch.no_grad(), float32_products("ieee"), within_device_memory(work):
        yield


def torch_device(name: Any) -> Any:
    """A torch device; "cuda" is the current one, which it would not be in the thread that loads panels."""
    device = torch.device(name)
    current = device.type == "cuda" and device.index is None
    return torch.device("cuda", torch.cuda.current_device()) if current else device


def on_device(device: Any, array: Any) -> Any:
    """The array as a tensor on the device; a CuPy array, or a tensor that is on it already, is not copied."""
    if array_module(array) is np:
        return torch.as_tensor(array, device=device)
    return torch.from_dlpack(array)  # unlike `as_tensor`, waits for CuPy's stream


def check_precision(precision: str, known: tuple[str, ...]) -> str:
    """Refuse a precision that is not among the known ones."""
    if precision not in known:
        raise InputError(f"precision must be one of {', '.join(known)}, not {precision!r}.")
    return precision


class DevicePoints:
    """Embeddings on a device, all of them or a panel at a time.

    Points are centered in float64 before they are rounded, and norms are those of the rounded points: distances are
    then exact for the rounded points. In fp16 a power of two brings the coordinates into the middle of its range.

    Arrays of CuPy are taken over without a copy. With `resident`, all points stay on the device; otherwise every panel
    is gathered, copied and rounded while the tiles of the panel before are computed. `precision`: one of `PRECISIONS`;
    `scale`: factor on all coordinates and distances.
    """

    def __init__(self, points: ClassOrderedPoints, device: Any, precision: str, *, resident: bool) -> None:
        self.points, self.device, self.precision, self.resident = points, device, precision, resident
        self.n = points.n_points
        self.d = -(-points.n_features // FEATURES) * FEATURES
        self.dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp64": torch.float64}.get(
            precision, torch.float32
        )
        self.codes = torch.as_tensor(points.codes.astype(np.int32), device=device)
        self.scale = self._first_scale() if precision == "fp16" else 1.0
        # One stream for all copies: torch keeps freed memory for the stream that it was taken on.
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" and not resident else None
        self._all: Panel | None = self._panel(0, self.n) if resident else None

    @staticmethod
    def bytes_per_point(n_features: int, precision: str) -> int:
        """Device memory of one point."""
        d = -(-n_features // FEATURES) * FEATURES
        return d * {"fp16": 2, "bf16": 2, "fp64": 8}.get(precision, 4) + 8

    @staticmethod
    def converting_bytes(precision: str) -> int:
        """Device memory that the conversion of a block takes: coordinates, scaled, rounded, as float64 for norms."""
        return (12 if precision == "fp64" else 8) * BLOCK_BYTES

    def panel_pairs(self, panel_rows: int, some: Iterable[int] | None = None) -> Iterator[tuple[Panel, Panel]]:
        """All pairs of panels on or above the diagonal; the next panel is on its way while one is worked on.

        With `some`, only the pairs whose first panel begins at one of these points.
        """
        starts = range(0, self.n, panel_rows)
        pairs = [(i, j) for i in (starts if some is None else some) for j in starts[i // panel_rows :]]
        if self._all is not None:
            cut = {i: self._all.slice(i, min(self.n, i + panel_rows)) for i in starts}
            yield from ((cut[i], cut[j]) for i, j in pairs)
            return
        X = None
        for (i, j), Y in zip(pairs, self.loaded([j for _, j in pairs], panel_rows), strict=True):
            X = Y if i == j else X
            assert X is not None
            yield X, Y

    def loaded(self, starts: Sequence[int], panel_rows: int) -> Iterator[Panel]:
        """Panels that begin at these points; the next is copied while one is worked on."""
        with ThreadPoolExecutor(1) as loader:
            coming = loader.submit(self._load, starts[0], panel_rows)
            for following in [*starts[1:], None]:
                panel = self._arrived(coming.result())
                if following is not None:
                    coming = loader.submit(self._load, following, panel_rows)
                yield panel

    def gathered(self, positions: Integers) -> tuple[Any, Any]:
        """(b, d) coordinates, centered, scaled, rounded, and (b,) squared norms of the points at some positions."""
        if self._all is not None:
            chosen = torch.as_tensor(positions, device=self.device)
            return self._all.x[chosen], self._all.norms[chosen]
        x = self._read(self.points.order[positions])
        norms = x.double().square().sum(1).to(self._norm_dtype)
        self._check_range(norms)
        return x, norms

    def rows(self, positions: Integers) -> Any:
        """(b, d) float64 coordinates of `gathered` points."""
        return self.gathered(positions)[0].double()

    def distances(self, first: Integers, second: Integers) -> Any:
        """(p,) float64 distances of the points at two positions each."""
        step = max(1, AT_ONCE // self.d)
        chunks = (slice(start, start + step) for start in range(0, len(first), step))
        lengths = [(self.rows(first[c]) - self.rows(second[c])).square_().sum(1).sqrt_() for c in chunks]
        return torch.cat(lengths)

    def _first_scale(self) -> float:
        """A power of two that puts the largest of some coordinates at 2^6: a factor 1000 below fp16's largest number.

        Six decimal orders below, rounding is still relative. A coordinate beyond is refused: see `_check_range`.
        """
        some = np.random.default_rng(0).permutation(self.n)[:1024]
        largest = float(abs(self.points.rows(self.points.order[some])).max())
        return float(2.0 ** (6 - np.ceil(np.log2(largest)))) if largest > 0 else 1.0

    def _load(self, start: int, panel_rows: int) -> tuple[Panel, Any]:
        """One panel, copied on a stream of its own, and the event after it."""
        stop = min(self.n, start + panel_rows)
        if self._copies is None:
            return self._panel(start, stop), None
        with torch.cuda.device(self.device), torch.cuda.stream(self._copies):
            panel = self._panel(start, stop)
            event = torch.cuda.Event()
            event.record(self._copies)
        return panel, event

    def _panel(self, start: int, stop: int) -> Panel:
        """Points start..stop, converted a block at a time."""
        x = torch.empty((stop - start, self.d), dtype=self.dtype, device=self.device)
        norms = torch.empty(stop - start, dtype=self._norm_dtype, device=self.device)
        step = max(1, BLOCK_BYTES // (4 * self.d))
        for first in range(0, stop - start, step):
            rows = slice(first, min(first + step, stop - start))
            block = self._read(self.points.order[start + rows.start : start + rows.stop])
            x[rows] = block
            norms[rows] = block.double().square().sum(1)
        self._check_range(norms)
        return Panel(x, norms, self.codes[start:stop], start)

    def _arrived(self, loaded: tuple[Panel, Any]) -> Panel:
        """Panel for which the current stream waits, its memory kept until that stream is done with it."""
        panel, event = loaded
        if event is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(event)
            panel.x.record_stream(current)
            panel.norms.record_stream(current)
        return panel

    def _read(self, which: Any) -> Any:
        """(b, d) rows of the embeddings, rounded; on the current stream."""
        rounded = self._rounded(self._coordinates(which))
        if self.points.on_gpu and self.device.type == "cuda":
            # The coordinates go back to CuPy, which may write there at once, on a stream that does not wait for ours.
            torch.cuda.current_stream(self.device).synchronize()
        return rounded

    def _coordinates(self, which: Any) -> Any:
        """(b, features) centered coordinates on the device, float32 or float64."""
        kind = "float64" if self.precision == "fp64" else "float32"
        if self.points.on_gpu:
            return on_device(self.device, self.points.rows(which, dtype=kind))
        pinned = self.device.type == "cuda"
        # Pinned memory is taken from a pool of torch's, which waits for copies out of it before it gives it out again.
        host = torch.empty((len(which), self.points.n_features), dtype=getattr(torch, kind), pin_memory=pinned)
        self.points.rows(which, dtype=kind, space=host.numpy())
        return host.to(self.device, non_blocking=True)

    def _rounded(self, coordinates: Any) -> Any:
        """Scale, round to the input mode, pad with zeros."""
        if self.scale != 1:
            coordinates = coordinates * self.scale
        if self.precision == "tf32":
            coordinates = rounded_to_tf32(coordinates)
        out = torch.zeros((len(coordinates), self.d), dtype=self.dtype, device=coordinates.device)
        out[:, : coordinates.shape[1]] = coordinates
        return out

    def _check_range(self, rounded: Any) -> None:
        """Refuse coordinates that fp16 does not hold, or norms made of them; once a panel: the device is waited for."""
        if self.precision == "fp16" and not bool(rounded.isfinite().all()):
            raise InputError(
                "Some coordinates are more than 500 times the largest of a random sample of points, beyond fp16; "
                "compute with precision='tf32'."
            )

    @property
    def _norm_dtype(self) -> Any:
        return torch.float64 if self.precision == "fp64" else torch.float32
