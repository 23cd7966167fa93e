"""States of PyTorch's modules and optimizers on disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from clorg_scale.store.atomic import write_whole

__all__ = ["write_state"]


def write_state(path: Path | str, state: dict[str, Any]) -> None:
    """Write a dictionary of tensors and plain values, whole or not at all.

    Raises
    ------
    InputError
        If the folder is missing or not writable, or the disk is full.
    """
    import torch

    # By way of memory: what a full disk says does not come through torch.save.
    memory = io.BytesIO()
    torch.save(state, memory)
    with write_whole(path) as file:
        file.write(memory.getbuffer())
