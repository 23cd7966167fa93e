"""Compiled loops on threads of Python.

Numba compiles a `prange` again and again: the loop, its wrapper, the function around it, and the wrapper of that. A
function that releases the GIL and takes a share of the work is compiled once, and threads that call it are as fast:
the loops of exact RLD are ready after 11 s instead of 38.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any

import numpy as np
from numba import config, get_num_threads
from threadpoolctl import ThreadpoolController

from clorg_scale.numerics.interrupts import held_interrupts

__all__ = ["Rows", "on_threads", "over_rows", "shares_of"]

Rows = tuple[np.uintp, np.uintp]
"""A range of rows: the first one, and the one after the last."""

LEAST_NUMBERS = 1 << 16
"""Numbers of a share of rows: some 30 microseconds, about what it costs to hand a share to a thread."""


def shares_of(n_items: int) -> int:
    """Shares that some items are worth: no more than the threads that Numba may use here.

    Its limits hold: NUMBA_NUM_THREADS, and `numba.set_num_threads` of the calling thread.
    """
    return max(1, min(int(get_num_threads()), n_items))


def on_threads(work: Callable[[int], None], n_shares: int, *, products: bool = False) -> None:
    """Call work(share) for each share, each on a thread, and wait for all of them; Ctrl-C waits as well.

    Parameters
    ----------
    work
        A compiled function that releases the GIL. It starts no threads through this function.
    n_shares
        Number of shares (`shares_of`).
    products
        Whether it multiplies matrices: meanwhile BLAS has one thread for each of these.
    """
    if products:
        blas = ThreadpoolController().select(user_api="blas")
        with blas.limit(limits=1):
            on_threads(lambda share: _with_one_thread(blas, work, share), n_shares)
        return
    with held_interrupts():
        others = [_pool().submit(work, share) for share in range(1, n_shares)]
        try:
            work(0)
        finally:
            wait(others)
    for other in others:
        other.result()


def over_rows(loop: Callable[..., None], n_rows: int, width: int, *arguments: Any) -> None:
    """Call loop((start, stop), *arguments) for ranges of rows, of some `width` numbers each, on threads."""
    n_shares = shares_of(n_rows * max(1, width) // LEAST_NUMBERS)
    # Unsigned: of signed numbers Numba must allow for negative ones, and LLVM no longer vectorizes.
    bounds = [np.uintp(n_rows * share // n_shares) for share in range(n_shares + 1)]
    on_threads(lambda share: loop((bounds[share], bounds[share + 1]), *arguments), n_shares)


def _with_one_thread(blas: ThreadpoolController, work: Callable[[int], None], share: int) -> None:
    """Work after limiting BLAS here, too: where it runs on OpenMP, every thread has a limit of its own."""
    for library in blas.lib_controllers:
        library.set_num_threads(1)
    work(share)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(config.NUMBA_NUM_THREADS, thread_name_prefix="clorg-scale")


# A forked process has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
