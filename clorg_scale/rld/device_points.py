"""Points in class order on the device of a torch tensor, rounded to the input mode of the matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from clorg_scale.arrays.products import rounded_to_tf32
from clorg_scale.errors import InputError
from clorg_scale.rld.points import ClassOrderedPoints

__all__ = ["PRECISIONS", "DevicePoints", "Panel"]

PRECISIONS = ("fp16", "bf16", "tf32", "tf32x3", "ieee", "fp64")
"""Input modes: rounding of the coordinates, and for float32 how many products stand for one."""

FEATURES = 64
"""Features are padded with zeros to a multiple of this: the kernels' tiles need no masks along them."""

BLOCK_BYTES = 64 << 20
"""Bytes of coordinates converted at a time."""


class Panel(NamedTuple):
    """Consecutive points on the device.

    `x`: (p, d) contiguous, d a multiple of 64; `norms`: (p,) squared norms of the rounded points; `codes`: (p,) int32
    ascending, negative where unlabelled; `start`: position of the first.
    """

    x: Any
    norms: Any
    codes: Any
    start: int

    def part(self, start: int, stop: int) -> Panel:
        """Points start..stop of the panel."""
        return Panel(self.x[start:stop], self.norms[start:stop], self.codes[start:stop], self.start + start)


class DevicePoints:
    """Embeddings on a device, all of them or a panel at a time.

    Points are centred in float64 before they are rounded, and norms are those of the rounded points: distances are
    then exact for the rounded points. In fp16 a power of two brings the coordinates into the middle of its range.

    Parameters
    ----------
    points
        The embeddings in class order; `points.rows` may give NumPy or CuPy arrays (taken over without a copy).
    device
        torch device.
    precision
        One of `PRECISIONS`.
    resident
        Keep all points on the device; otherwise every panel is gathered, copied and rounded while the tiles of
        the panel before are computed.

    Attributes
    ----------
    scale
        The factor on all coordinates and distances.
    """

    def __init__(self, points: ClassOrderedPoints, device: Any, precision: str, *, resident: bool) -> None:
        import torch

        self.points, self.device, self.precision, self.resident = points, device, precision, resident
        self.n = points.n_points
        self.d = -(-points.n_features // FEATURES) * FEATURES
        self.dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp64": torch.float64}.get(
            precision, torch.float32
        )
        self.codes = torch.as_tensor(points.codes.astype(np.int32), device=device)
        self.scale = self._first_scale() if precision == "fp16" else 1.0
        self._all: Panel | None = self._load_all() if resident else None

    @staticmethod
    def bytes_per_point(n_features: int, precision: str) -> int:
        """Device memory of one point."""
        d = -(-n_features // FEATURES) * FEATURES
        return d * {"fp16": 2, "bf16": 2, "fp64": 8}.get(precision, 4) + 8

    def panel_pairs(self, panel_rows: int) -> Iterator[tuple[Panel, Panel]]:
        """All pairs of panels on or above the diagonal; the next panel is on its way while one is worked on."""
        starts = range(0, self.n, panel_rows)
        pairs = [(i, j) for i in starts for j in starts[i // panel_rows :]]
        if self._all is not None:
            cut = {i: self._all.part(i, min(self.n, i + panel_rows)) for i in starts}
            yield from ((cut[i], cut[j]) for i, j in pairs)
            return
        with ThreadPoolExecutor(1) as loader:
            coming = loader.submit(self._load, pairs[0][0], panel_rows)
            X = None
            for number, (i, j) in enumerate(pairs):
                Y = self._arrived(coming.result())
                X = Y if i == j else X
                if number + 1 < len(pairs):
                    coming = loader.submit(self._load, pairs[number + 1][1], panel_rows)
                assert X is not None
                yield X, Y

    def rows(self, positions: Any) -> Any:
        """(b, d) float64 coordinates, centred, scaled, rounded, at positions in class order."""
        import torch

        if self._all is not None:
            return self._all.x[torch.as_tensor(positions, device=self.device)].double()
        return self._rounded(self._coordinates(self.points.order[np.asarray(positions)])).double()

    def _first_scale(self) -> float:
        """A power of two that puts the largest of some coordinates at 2^6: a factor 1000 below fp16's largest number.

        Six decimal orders below, rounding is still relative. A coordinate beyond doubles as proof: see `_rounded`.
        """
        some = np.random.default_rng(0).permutation(self.n)[:1024]
        largest = float(abs(self.points.rows(self.points.order[some])).max())
        return float(2.0 ** (6 - np.ceil(np.log2(largest)))) if largest > 0 else 1.0

    def _load_all(self) -> Panel:
        """All points, converted in blocks."""
        import torch

        x = torch.empty((self.n, self.d), dtype=self.dtype, device=self.device)
        norms = torch.empty(self.n, dtype=self._norm_dtype, device=self.device)
        step = max(1, BLOCK_BYTES // (4 * self.d))
        for start in range(0, self.n, step):
            stop = min(self.n, start + step)
            block = self._rounded(self._coordinates(self.points.order[start:stop]))
            x[start:stop] = block
            norms[start:stop] = self._squared_norms(block)
        return Panel(x, norms, self.codes, 0)

    def _load(self, start: int, panel_rows: int) -> tuple[Panel, Any]:
        """One panel, copied on a stream of its own; the event tells when it is there."""
        import torch

        stop = min(self.n, start + panel_rows)
        if self.device.type != "cuda":
            return self._panel(start, stop), None
        stream = torch.cuda.Stream(self.device)
        with torch.cuda.device(self.device), torch.cuda.stream(stream):
            panel = self._panel(start, stop)
            event = torch.cuda.Event()
            event.record(stream)
        return panel, event

    def _panel(self, start: int, stop: int) -> Panel:
        x = self._rounded(self._coordinates(self.points.order[start:stop]))
        return Panel(x, self._squared_norms(x), self.codes[start:stop], start)

    def _arrived(self, loaded: tuple[Panel, Any]) -> Panel:
        """Let the current stream wait for the copy, and keep its memory until that stream is done with it."""
        import torch

        panel, event = loaded
        if event is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(event)
            panel.x.record_stream(current)
            panel.norms.record_stream(current)
        return panel

    def _coordinates(self, which: Any) -> Any:
        """(b, features) centred coordinates on the device, float32 or float64."""
        import torch

        rows = self.points.rows(which, dtype=np.float64 if self.precision == "fp64" else np.float32)
        if not isinstance(rows, np.ndarray):
            return torch.from_dlpack(rows)
        host = torch.from_numpy(rows)
        return host.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else host

    def _rounded(self, coordinates: Any) -> Any:
        """Scale, round to the input mode, pad with zeros."""
        import torch

        if self.scale != 1:
            coordinates = coordinates * self.scale
        if self.precision == "tf32":
            coordinates = rounded_to_tf32(coordinates)
        out = torch.zeros((len(coordinates), self.d), dtype=self.dtype, device=coordinates.device)
        out[:, : coordinates.shape[1]] = coordinates
        if self.precision == "fp16" and not bool(torch.isfinite(out).all()):
            raise InputError(
                "Some coordinates are more than 500 times the largest of a random sample of points, beyond fp16; "
                "compute with precision='tf32'."
            )
        return out

    @property
    def _norm_dtype(self) -> Any:
        import torch

        return torch.float64 if self.precision == "fp64" else torch.float32

    def _squared_norms(self, block: Any) -> Any:
        """(b,) summed in float64, a slice at a time."""
        import torch

        step = max(1, BLOCK_BYTES // (8 * self.d))
        parts = [block[start : start + step].double().square().sum(1) for start in range(0, len(block), step)]
        return torch.cat(parts).to(self._norm_dtype)
