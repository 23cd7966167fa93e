"""Rows of embeddings gathered, centered and rounded in one compiled pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.numerics.compiler import callee, njit
from clorg_scale.numerics.threads import Rows, over_rows

__all__ = ["centered_rows", "divided_rows", "half_value", "has_compiled_path", "pair_lengths", "row_lengths"]

CHUNK_BYTES = 4 << 20
"""Half-precision rows converted at a time."""

LEAST_SQUARE, LARGEST_SQUARE = 1e-200, 1e300
"""Sums of squares beyond which squares have left float64, or digits of them."""


def has_compiled_path(embeddings: npt.NDArray[Any]) -> bool:
    """Whether the compiled loops read these: aligned numbers in native byte order."""
    known = embeddings.dtype.kind in "iuf" and embeddings.dtype.itemsize <= 8
    return known and embeddings.dtype.isnative and embeddings.flags.aligned


def centered_rows(
    embeddings: npt.NDArray[Any], which: npt.NDArray[np.int64], mean: npt.NDArray[np.float64], out: npt.NDArray[Any]
) -> None:
    """Out (b, d) = embeddings[which] - mean (d,), subtracted in float64.

    Embeddings (n, d) that the compiled loops read (`has_compiled_path`); out float32 or float64.
    """
    if embeddings.dtype == np.float16:
        over_rows(_of_halves, *out.shape, _read_only(embeddings.view(np.uint16)), which, mean, out)
    else:
        over_rows(_of_numbers, *out.shape, _read_only(embeddings), which, mean, out)


def row_lengths(embeddings: npt.NDArray[Any], mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n,) Euclidean lengths of embeddings (n, d), less mean (d,), as `centered_rows`; no square leaves float64."""
    lengths = np.empty(len(embeddings))
    if embeddings.dtype == np.float16:
        over_rows(_lengths_of_halves, *embeddings.shape, _read_only(embeddings.view(np.uint16)), mean, lengths)
    else:
        over_rows(_lengths, *embeddings.shape, _read_only(embeddings), mean, lengths)
    return lengths


def divided_rows(
    embeddings: npt.NDArray[Any],
    which: npt.NDArray[np.int64],
    divisors: npt.NDArray[np.float64],
    out: npt.NDArray[np.float32],
) -> None:
    """Out (b, d) = embeddings[which] / divisors (b,), divided in float64.

    Embeddings (n, d) that the compiled loops read (`has_compiled_path`).
    """
    if embeddings.dtype == np.float16:
        over_rows(_halves_divided, *out.shape, _read_only(embeddings.view(np.uint16)), which, divisors, out)
    else:
        over_rows(_numbers_divided, *out.shape, _read_only(embeddings), which, divisors, out)


def pair_lengths(
    embeddings: npt.NDArray[Any], first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(p,) Euclidean distances of pairs of rows of embeddings (n, d) that the compiled loops read."""
    lengths = np.empty(len(first))
    if embeddings.dtype != np.float16:
        over_rows(_pair_lengths, len(first), embeddings.shape[1], _read_only(embeddings), first, second, lengths)
        return lengths
    step, nothing = max(1, CHUNK_BYTES // (8 * embeddings.shape[1])), np.zeros(embeddings.shape[1])
    space = np.empty((2 * step, embeddings.shape[1]), dtype=np.float32)
    for start in range(0, len(first), step):
        which = np.concatenate([first[start : start + step], second[start : start + step]])
        centered_rows(embeddings, which, nothing, space[: len(which)])
        half = len(which) // 2
        pairs = np.arange(half), np.arange(half, 2 * half)
        over_rows(_pair_lengths, half, embeddings.shape[1], _read_only(space), *pairs, lengths[start : start + half])
    return lengths


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """View that cannot be written to: of arrays that can and cannot, Numba would compile a version each."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


@njit(nogil=True, cache=True)
def _of_numbers(rows: Rows, embeddings: Any, which: Any, mean: Any, out: Any) -> None:
    for i in range(rows[0], rows[1]):
        row = which[i]
        for j in range(len(mean)):
            out[i, j] = np.float64(embeddings[row, j]) - mean[j]


@njit(nogil=True, cache=True)
def _of_halves(rows: Rows, bits: Any, which: Any, mean: Any, out: Any) -> None:
    for i in range(rows[0], rows[1]):
        row = which[i]
        for j in range(len(mean)):
            out[i, j] = half_value(bits[row, j]) - mean[j]


@callee(inline="always")
def half_value(bits: Any) -> Any:
    """Value of a finite half-precision number: its exponent and fraction read as a float32 are too small by 2^112."""
    small = np.int32((np.int32(bits) & np.int32(0x7FFF)) << np.int32(13)).view(np.float32)
    magnitude = np.float64(small) * np.float64(2.0**112)
    return -magnitude if bits & 0x8000 else magnitude


@njit(nogil=True, cache=True)
def _numbers_divided(rows: Rows, embeddings: Any, which: Any, divisors: Any, out: Any) -> None:
    for i in range(rows[0], rows[1]):
        row, divisor = which[i], divisors[i]
        for j in range(embeddings.shape[1]):
            out[i, j] = np.float64(embeddings[row, j]) / divisor


@njit(nogil=True, cache=True)
def _halves_divided(rows: Rows, bits: Any, which: Any, divisors: Any, out: Any) -> None:
    for i in range(rows[0], rows[1]):
        row, divisor = which[i], divisors[i]
        for j in range(bits.shape[1]):
            out[i, j] = half_value(bits[row, j]) / divisor


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def _lengths_of_halves(rows: Rows, bits: Any, mean: Any, lengths: Any) -> None:
    # In one parallel loop: threads that wait for each other at the end of many short ones cost more than the sums.
    for i in range(rows[0], rows[1]):
        total = 0.0
        for j in range(len(mean)):
            value = half_value(bits[i, j]) - mean[j]
            total += value * value
        lengths[i] = np.sqrt(total)  # no square of half-precision numbers leaves float64


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def _lengths(rows: Rows, embeddings: Any, mean: Any, lengths: Any) -> None:
    for i in range(rows[0], rows[1]):
        total = 0.0
        for j in range(len(mean)):
            value = np.float64(embeddings[i, j]) - mean[j]
            total += value * value
        if total < LEAST_SQUARE or total > LARGEST_SQUARE:
            lengths[i] = _length_of_extremes(embeddings[i], mean)
        else:
            lengths[i] = np.sqrt(total)


# Without contraction into fused multiply-adds: equal rows are at distance 0.
@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def _pair_lengths(rows: Rows, embeddings: Any, first: Any, second: Any, lengths: Any) -> None:
    for p in range(rows[0], rows[1]):
        total = 0.0
        for j in range(embeddings.shape[1]):
            difference = np.float64(embeddings[first[p], j]) - np.float64(embeddings[second[p], j])
            total += difference * difference
        lengths[p] = np.sqrt(total)


@callee
def _length_of_extremes(row: Any, mean: Any) -> Any:
    """Length of a row less the mean, the largest value factored out before squaring."""
    largest, total = 0.0, 0.0
    for j in range(len(mean)):
        largest = max(largest, abs(np.float64(row[j]) - mean[j]))
    for j in range(len(mean)):
        total += ((np.float64(row[j]) - mean[j]) / largest) ** 2 if largest > 0 else 0.0
    return largest * np.sqrt(total)
