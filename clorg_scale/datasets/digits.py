"""The handwritten digits that scikit-learn ships."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["load_digits"]


def load_digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Load the 8 x 8 handwritten digits of `sklearn.datasets.load_digits`.

    Returns
    -------
    (1797, 64) float32 pixels from 0 to 16 and (1797,) int64 digits.
    """
    from sklearn.datasets import load_digits as sklearn_digits

    pixels, digits = sklearn_digits(return_X_y=True)
    return pixels.astype(np.float32), digits.astype(np.int64)
