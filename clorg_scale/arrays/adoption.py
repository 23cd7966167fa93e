"""Arrays, data frames and columns of other libraries as NumPy or CuPy arrays that share their memory."""

from __future__ import annotations

from typing import Any

from clorg_scale.arrays.arrow import from_arrow, from_arrow_stream
from clorg_scale.arrays.device import Array
from clorg_scale.arrays.frames import from_frame
from clorg_scale.arrays.plain import plain_array

__all__ = ["as_array"]


def as_array(data: Any, *, name: str = "embeddings") -> Array:
    """Take an array of any library as NumPy or CuPy, sharing memory where the libraries allow it.

    Only these are copied, block by block: bfloat16 and 8-bit floats, which NumPy lacks (to float32); arrays that are
    read in slices, such as HDF5 and Zarr datasets (see `gather_blocks`); frames with columns of several types; nested
    lists.

    Parameters
    ----------
    data
        NumPy, CuPy, torch, pandas, cuDF, Polars, PyArrow, h5py, Zarr, Dask arrays and columns, anything with DLPack,
        ``__array_interface__``, ``__cuda_array_interface__`` or ``__arrow_c_stream__``, nested lists.
    name
        Name used in error messages.

    Raises
    ------
    InputError
        If it cannot be read as an array.
    """
    library = type(data).__module__.partition(".")[0]
    if library in ("pandas", "cudf"):
        return from_frame(data, name=name)
    if library == "pyarrow":
        return from_arrow(data, name=name)
    if library == "polars" or hasattr(data, "__arrow_c_stream__"):
        return from_arrow_stream(data, name=name)
    return plain_array(data, name=name)
