"""A mapped file that is shortened while it is read: one sentence in place of the kernel's silent end of the process."""

from __future__ import annotations

import ctypes
import signal
from functools import cache
from typing import Any

from clorg_scale.arrays.mapped import mapped_array

__all__ = ["explain_lost_pages"]

SENTENCE = (
    b"error: A memory-mapped file of embeddings was shortened, or can no longer be read, while it was computed on; run "
    b"the same command again once it is complete.\n"
)


def explain_lost_pages(array: Any) -> None:
    """If the array is mapped, end the process with the sentence and exit code 2 where a page of its file is gone.

    The read that fails is repeated when a handler returns, so that one written in Python, which runs afterward, never
    comes to run; this one is compiled.
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
