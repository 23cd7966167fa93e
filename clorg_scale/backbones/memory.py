"""How images and filters lie in memory."""

from __future__ import annotations

import torch

__all__ = ["memory_format"]


def memory_format(device: torch.device) -> torch.memory_format:
    """Channels innermost on a GPU, as its tensor cores read them.

    On CPUs without AVX-512, oneDNN 3.12 (torch 2.14) writes past its memory in the gradient of strided 1 x 1
    convolutions of few channels that lie so (uxlfoundation/oneDNN issue 6035), and elsewhere it gains no time.
    """
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format
