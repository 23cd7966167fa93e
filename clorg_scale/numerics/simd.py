"""Wide vectors and aligned memory for compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

__all__ = ["aligned_empty", "use_wide_vectors"]

CACHE_LINE = 64


@intrinsic
def use_wide_vectors(typingctx: Any) -> Any:
    """Let LLVM use 512-bit vectors in the function that calls this, where the processor has them.

    LLVM avoids them on Intel's processors for the sake of older ones that lowered their clock; the matrix products
    around these loops use them anyway. Only memory at multiples of a cache line makes them worth it.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> None:
        # llvmlite knows no attributes with a value, but prints what the set holds.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')

    return types.void(), codegen


def aligned_empty(n_rows: int, n_columns: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """(n_rows, n_columns) uninitialized numbers, starting at a cache line."""
    itemsize = np.dtype(dtype).itemsize
    memory = np.empty(n_rows * n_columns + CACHE_LINE // itemsize, dtype)
    start = (-memory.ctypes.data) % CACHE_LINE // itemsize
    return memory[start : start + n_rows * n_columns].reshape(n_rows, n_columns)
