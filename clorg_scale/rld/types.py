"""Types of arrays that all of RLD's modules take and return."""

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Integers"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
