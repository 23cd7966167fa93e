"""Matrix products of torch in the precision of their factors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["full_float32_products"]


@contextmanager
def full_float32_products() -> Iterator[None]:
    """Float32 products on a GPU without tf32 while the block runs, whatever the program has set for its own.

    Its ten bits would swap neighbours and move small distances.
    """
    import torch

    matmul: Any = torch.backends.cuda.matmul
    # Asked for the older of its two names, torch fails where the program has set the newer one.
    name, full = ("fp32_precision", "ieee") if hasattr(matmul, "fp32_precision") else ("allow_tf32", False)
    before = getattr(matmul, name)
    setattr(matmul, name, full)
    try:
        yield
    finally:
        setattr(matmul, name, before)
