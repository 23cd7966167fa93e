"""The idx format of MNIST and its relatives: big-endian sizes, then the bytes of the array."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clorg_scale.errors import InputError

__all__ = ["is_idx", "read_idx"]

_UNSIGNED_BYTES = b"\x00\x00\x08"
"""First three of the four magic bytes; the fourth is the number of dimensions."""


def is_idx(path: Path) -> bool:
    """Whether a file, compressed or not, begins as idx files of unsigned bytes do, whatever its name is."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(3) == _UNSIGNED_BYTES
    except (OSError, EOFError, zlib.error):
        return False


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, compressed (``.gz``) or not.

    Raises
    ------
    InputError
        If the file is not one, is damaged, or holds fewer or more bytes than its sizes say.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); fetch the file again.") from error
    if len(data) < 4 or data[:3] != _UNSIGNED_BYTES:
        raise InputError(f"{path} is not an idx file of unsigned bytes; fetch the file again.")
    header = 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:header].ljust(header - 4, b"\0"))
    if len(data) < header or len(data) - header != math.prod(shape):
        raise InputError(
            f"{path} holds {len(data)} bytes, but its header announces an array of shape {shape}; "
            "it is truncated or damaged: fetch the file again."
        )
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)
