"""A message where a memory-mapped file is truncated while it is read; the kernel would silently kill the process."""

from __future__ import annotations

import ctypes
import signal
from functools import cache
from typing import Any

from clorg_scale.arrays.mapped import mapped_array

__all__ = ["explain_lost_pages"]

SENTENCE = (
    b"error: A memory-mapped file of embeddings was shortened, or became unreadable, during the computation; run the "
    b"same command again once the file is complete.\n"
)


def explain_lost_pages(array: Any) -> None:
    """Exit with a message and code 2 when a page of a memory-mapped array can no longer be read.

    The failing read is repeated as soon as the handler returns, so a handler in Python, which only runs later, would
    never be called; this one is compiled.
    """
    if hasattr(signal, "SIGBUS") and mapped_array(array) is not None:
        _install()


@cache
def _install() -> Any:
    import numba

    library = ctypes.CDLL(None)
    write, leave, install = library.write, library._exit, library.signal
    write.argtypes, write.restype = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_ssize_t
    leave.argtypes, leave.restype = (ctypes.c_int,), None
    install.argtypes, install.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    buffer = ctypes.create_string_buffer(SENTENCE)
    address, length = ctypes.addressof(buffer), len(SENTENCE)

    def say(_: Any) -> None:
        write(2, address, length)
        leave(2)

    handler = numba.cfunc(numba.types.void(numba.types.int32))(say)
    install(signal.SIGBUS, handler.address)
    return handler, buffer  # kept alive by the cache
