"""Memory format of images and filters."""

from __future__ import annotations

import torch

__all__ = ["memory_format"]


def memory_format(device: torch.device) -> torch.memory_format:
    """Channels last on a GPU, as its tensor cores read them; contiguous on a CPU.

    On CPUs without AVX-512, oneDNN 3.12 (torch 2.14) writes out of bounds in the gradient of strided 1 x 1
    convolutions of few channels in this format (uxlfoundation/oneDNN, issue 6035); on other CPUs it saves no time.
    """
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format
