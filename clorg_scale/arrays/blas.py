"""Matrix products in compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["load_blas"]


def load_blas(dtype: npt.DTypeLike) -> None:
    """Let Numba import the matrix product of this precision, float32 or float64, now.

    It does so at the first product otherwise, running Python; Ctrl-C there, within a parallel loop, is a crash.
    """
    one = np.ones((1, 1), dtype=dtype)
    _product(one, one, np.empty_like(one))


@njit(cache=True)
def _product(a: Any, b: Any, out: Any) -> None:
    np.dot(a, b.T, out)
