"""Matrix products of float32 numbers with torch, in an explicit precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

__all__ = ["TF32_ROUNDING", "float32_products", "rounded_to_tf32"]

TF32_ROUNDING = 2.0**-11
"""Relative error of a number that is rounded to tf32."""


@contextmanager
def float32_products(precision: Literal["ieee", "tf32"]) -> Iterator[None]:
    """Float32 products on a GPU with all 24 bits, or in tf32, whatever the program has set for its own.

    The eleven bits of tf32 would swap neighbors and move small distances unexpectedly; tensor cores multiply them ten
    times as fast.
    """
    import torch

    matmul: Any = torch.backends.cuda.matmul
    # Asked for the older of its two names, torch fails where the program has set the newer one.
    newer = hasattr(matmul, "fp32_precision")
    name, wanted = ("fp32_precision", precision) if newer else ("allow_tf32", precision == "tf32")
    before = getattr(matmul, name)
    setattr(matmul, name, wanted)
    try:
        yield
    finally:
        setattr(matmul, name, before)


def rounded_to_tf32(coordinates: Any) -> Any:
    """A float32 tensor rounded to the nearest numbers of tf32, whose products tensor cores compute exactly."""
    import torch

    bits = coordinates.view(torch.int32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)
