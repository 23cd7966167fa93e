"""Cross-entropy of a linear softmax classifier and its gradient, over embeddings read in large blocks.

The two products of a block, logits X W and gradient X^T (p - y), are float32 matrix products; sums over blocks are
float64. Logits of one block at a time exist, never those of all points.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from clorg_scale.arrays import Array, on_host
from clorg_scale.numerics.compiler import njit
from clorg_scale.numerics.exp2 import exp2
from clorg_scale.probes.standardize import StandardizedReader

__all__ = ["LabeledBlocks", "SoftmaxLoss", "softmax"]

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

BLOCK_NUMBERS = 1 << 22
"""Embedding values or logits of one block; matrix products of smaller blocks are slower."""

SERIAL_NUMBERS = 1 << 15
"""Logits below which starting threads costs more than it saves."""

LOG2_E = np.float32(np.log2(np.e))


class LabeledBlocks:
    """Standardized embeddings and class codes of chosen rows, read again in blocks at each pass.

    Parameters
    ----------
    reader
        Reads standardized rows.
    codes
        (n,) class codes of all points.
    rows
        (m,) row numbers, ascending.
    block_rows
        Rows in a block.
    cached
        Keep the standardized rows on the computing device, (m, d) float32, instead of reading them at each pass.
    """

    def __init__(
        self, reader: StandardizedReader, codes: Codes, rows: Codes, *, block_rows: int, cached: bool = False
    ) -> None:
        self.reader, self.rows, self.block_rows = reader, rows, block_rows
        self.codes = reader.xp.asarray(codes[rows])
        self.values: Array | None = None
        if cached:
            self.values = reader.xp.empty((len(rows), reader.X.shape[1]), dtype=np.float32)
            for chunk in self._slices():
                self.values[chunk] = reader(rows[chunk])

    def subset(self, rows: Codes) -> LabeledBlocks:
        """Blocks of some of the rows (ascending row numbers), taken from those in memory where they are cached."""
        chosen = LabeledBlocks.__new__(LabeledBlocks)
        chosen.reader, chosen.rows, chosen.block_rows = self.reader, rows, self.block_rows
        where = self.reader.xp.asarray(np.searchsorted(self.rows, rows))
        chosen.codes = self.codes[where]
        chosen.values = None if self.values is None else self.values[where]
        return chosen

    @property
    def n_features(self) -> int:
        """Features of a row."""
        return int(self.reader.X.shape[1])

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """Read (b, d) float32 embeddings and (b,) codes, block after block."""
        for chunk in self._slices():
            x = self.reader(self.rows[chunk]) if self.values is None else self.values[chunk]
            yield x, self.codes[chunk]

    def _slices(self) -> Iterator[slice]:
        for start in range(0, len(self.rows), self.block_rows):
            yield slice(start, min(start + self.block_rows, len(self.rows)))


class SoftmaxLoss:
    """Mean cross-entropy of p(y | x) = softmax(x W + b) over labeled blocks.

    Parameters
    ----------
    xp
        NumPy or CuPy, the module of the blocks.
    smoothing
        Share of each target spread evenly over all classes.
    """

    def __init__(self, xp: ModuleType, smoothing: float = 0.0) -> None:
        self.xp, self.smoothing = xp, smoothing

    def gradient(self, weights: Floats, blocks: LabeledBlocks) -> tuple[float, Floats]:
        """Loss, and gradient (d + 1, C) with respect to the weights (d + 1, C), whose last row is the intercept."""
        xp = self.xp
        w = xp.asarray(weights.astype(np.float32))
        total, gradient = 0.0, xp.zeros(w.shape)
        for x, y in blocks:
            logits = x @ w[:-1]
            logits += w[-1]
            total += self._errors(logits, y, self.smoothing)
            gradient[:-1] += x.T @ logits
            gradient[-1] += logits.sum(axis=0, dtype=np.float64)
        return total / len(blocks), on_host(gradient) / len(blocks)

    def value(self, weights: Floats, blocks: LabeledBlocks) -> float:
        """Loss without smoothing."""
        w = self.xp.asarray(weights.astype(np.float32))
        total = 0.0
        for x, y in blocks:
            logits = x @ w[:-1]
            logits += w[-1]
            total += self._errors(logits, y, 0.0)
        return total / len(blocks)

    def _errors(self, logits: Array, y: Array, smoothing: float) -> float:
        """Replace logits (b, C) by probabilities less targets; returns the sum of the losses."""
        if self.xp is not np:
            return _errors_reference(logits, y, smoothing, self.xp)
        losses = np.empty(len(y), dtype=np.float32)
        kernel = _errors_serial if logits.size < SERIAL_NUMBERS else _errors_parallel
        kernel(logits, y, np.float32(smoothing), losses)
        return float(losses.sum(dtype=np.float64))


def _errors_of_rows(
    logits: npt.NDArray[np.float32], codes: Codes, smoothing: np.float32, losses: npt.NDArray[np.float32]
) -> None:
    """Compute what `_errors_reference` does, a row at a time in cache."""
    n_classes = logits.shape[1]
    spread = smoothing / np.float32(n_classes)
    for i in prange(logits.shape[0]):
        row = logits[i]
        top, mean = row[0], np.float32(0)
        for j in range(n_classes):
            top = max(top, row[j])
        own = row[codes[i]] - top
        total = np.float32(0)
        for j in range(n_classes):
            shifted = row[j] - top
            mean += shifted
            p = exp2(shifted * LOG2_E)
            row[j] = p
            total += p
        scale = np.float32(1) / total
        for j in range(n_classes):
            row[j] = row[j] * scale - spread
        row[codes[i]] -= np.float32(1) - smoothing
        losses[i] = np.log(total) - (np.float32(1) - smoothing) * own - spread * mean


# "nnan" is left out: NaN in the embeddings must arrive in the loss.
_FAST = {"contract", "reassoc", "nsz"}
_errors_serial = njit(cache=True, nogil=True, fastmath=_FAST)(_errors_of_rows)
_errors_parallel = njit(parallel=True, cache=True, nogil=True, fastmath=_FAST)(_errors_of_rows)


def _errors_reference(logits: Array, codes: Array, smoothing: float, xp: ModuleType) -> float:
    """Replace logits by softmax less targets in place; returns the sum of the losses. Any array module."""
    rows, n_classes = xp.arange(len(codes)), logits.shape[1]
    logits -= logits.max(axis=1, keepdims=True)
    own, mean = logits[rows, codes], logits.mean(axis=1)
    xp.exp(logits, out=logits)
    sums = logits.sum(axis=1, keepdims=True)
    losses = xp.log(sums[:, 0]) - (1 - smoothing) * own - smoothing * mean
    logits /= sums
    logits -= smoothing / n_classes
    logits[rows, codes] -= 1 - smoothing
    return float(losses.sum(dtype=np.float64))


def softmax(logits: Any) -> npt.NDArray[np.float32]:
    """Softmax over the last axis, in place."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return np.asarray(logits)
