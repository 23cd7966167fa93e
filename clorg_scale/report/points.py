"""Points of the maps as bytes: a few for each point, in the page or, above a bound, in a file beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from clorg_scale.analysis.record import AnalysisRecord

__all__ = ["Packed", "pack_points"]

STEPS = 65_535
"""Positions are rounded to so many steps along the longer side of the map: finer than the pixels at full zoom."""

NO_DENSITY = 255
"""Byte of a point without a label; local densities are rounded to 1/254."""

NO_GROUP = 65_535
"""Code of a point without a label; of more classes or communities than that, all further ones share the last code."""


@dataclass(frozen=True)
class Packed:
    """Layout of the bytes, one entry for each map, and the bytes in base64."""

    maps: list[dict[str, Any]]
    text: str


def pack_points(analyses: Iterable[AnalysisRecord]) -> Packed:
    """Pack the points on the maps: all where a record holds the positions of all, else those of its sample.

    An entry of `Packed.maps` holds ``n``, ``n_points`` of the record, ``left``, ``bottom`` and ``size`` of its square,
    and the offset in bytes of each column: ``x``, ``y``, ``class_code`` and ``community`` (n uint16 each, little
    endian), ``density`` (n uint8) and ``index`` (n uint32; absent where the points are the rows 0 to n - 1). Equal
    columns of several maps stand there once.
    """
    columns = _Columns()
    maps = [_describe(analysis, columns) for analysis in analyses]
    return Packed(maps, base64.b64encode(b"".join(columns.pieces)).decode("ascii"))


class _Columns:
    """Bytes of columns, each aligned to four bytes."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._offsets: dict[bytes, int] = {}
        self._end = 0

    def add(self, values: npt.NDArray[Any]) -> int:
        """Append a column, or find it; returns its offset."""
        content = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        if content not in self._offsets:
            self._offsets[content] = self._end
            padded = content + b"\0" * (-len(content) % 4)
            self.pieces.append(padded)
            self._end += len(padded)
        return self._offsets[content]


def _describe(analysis: AnalysisRecord, columns: _Columns) -> dict[str, Any]:
    x, y, index, codes, community, density = _points_of(analysis)
    entry: dict[str, Any] = {"n": len(x), "n_points": analysis.n_points, "left": 0.0, "bottom": 0.0, "size": 1.0}
    if not len(x):
        return entry
    size = max(float(np.ptp(x)), float(np.ptp(y)), 1e-9)
    left, bottom = ((float(axis.min()) + float(axis.max()) - size) / 2 for axis in (x, y))
    entry |= {"left": left, "bottom": bottom, "size": size}
    byte = np.where(np.isnan(density), NO_DENSITY, np.round(np.clip(density, 0, 1) * (NO_DENSITY - 1)))
    entry |= {
        "x": columns.add(np.round(np.clip((x - left) / size, 0, 1) * STEPS).astype(np.uint16)),
        "y": columns.add(np.round(np.clip((y - bottom) / size, 0, 1) * STEPS).astype(np.uint16)),
        "class_code": columns.add(_codes(codes)),
        "community": columns.add(_codes(community)),
        "density": columns.add(byte.astype(np.uint8)),
    }
    if len(x) < analysis.n_points or not np.array_equal(index, np.arange(len(index))):
        entry["index"] = columns.add(index.astype(np.uint32))
    return entry


def _codes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    return np.where(values < 0, NO_GROUP, np.minimum(values, NO_GROUP - 1)).astype(np.uint16)


def _points_of(analysis: AnalysisRecord) -> tuple[npt.NDArray[Any], ...]:
    """x, y, row, class code, community and local density of the points that have a position."""
    values, sample = analysis.points, analysis.point_map
    if {"map_x", "map_y", "class_code", "community", "local_density"} <= values.keys():
        rows = np.flatnonzero(np.isfinite(values["map_x"]) & np.isfinite(values["map_y"]))
        if len(rows) > len(sample.index):
            names = ("map_x", "map_y", "class_code", "community", "local_density")
            x, y, codes, community, density = (np.asarray(values[name])[rows] for name in names)
            return x.astype(np.float64), y.astype(np.float64), rows, codes, community, density.astype(np.float64)
    density = np.array([np.nan if value is None else value for value in sample.local_density], np.float64)
    return (
        np.array(sample.x, np.float64),
        np.array(sample.y, np.float64),
        np.array(sample.index, np.int64),
        np.array(sample.class_code, np.int64),
        np.array(sample.community, np.int64),
        density,
    )
