"""The one handle that cuVS, cuGraph and pylibraft share: RAFT's device resources, on CuPy's current stream.

A library that is given none makes one for each call, with cuBLAS handles and workspaces of its own, on a stream that is
in order with the default stream alone. cuVS's own class is no way to give it a stream: 26.10 still takes the address of
the Python number for the stream. The C interfaces of cuVS and cuGraph both read a pointer to RAFT's object, which all
of one release are compiled with and require in that release.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clorg_scale.errors import require

__all__ = ["cugraph_handle", "cuvs_resources", "raft_handle"]


@contextmanager
def raft_handle(purpose: str) -> Iterator[Any]:
    """`pylibraft.common.DeviceResources` on CuPy's current stream, which is waited for at the end of the block.

    Parameters
    ----------
    purpose
        What needs it, as the beginning of a sentence.

    Raises
    ------
    MissingDependencyError
        If pylibraft is not installed.
    """
    common = require("pylibraft.common", extra="cuda13", purpose=purpose)
    handle = common.DeviceResources(stream=importlib.import_module("cupy").cuda.get_current_stream().ptr)
    yield handle
    handle.sync()


@contextmanager
def cuvs_resources(purpose: str) -> Iterator[Any]:
    """The same for cuVS: a `cuvs.common.Resources`, as `all_neighbors` wants it, with RAFT's handle inside."""
    own: Any = require("cuvs.common", extra="cuda13", purpose=purpose).Resources

    class Resources(own):  # type: ignore[misc]  # a class of cuVS, known where it runs
        """Hands out RAFT's handle instead of its own, which is on no stream of CuPy's."""

        def get_c_obj(self) -> int:
            return int(handle.getHandle())

        def sync(self) -> None:
            handle.sync()

    with raft_handle(purpose) as handle:
        yield Resources()


@contextmanager
def cugraph_handle(purpose: str) -> Iterator[Any]:
    """The same for cuGraph: a `pylibcugraph.ResourceHandle`, which does not keep RAFT's alive by itself."""
    library = require("pylibcugraph", extra="cuda13", purpose=purpose)
    with raft_handle(purpose) as handle:
        yield library.ResourceHandle(handle.getHandle())
