"""The state of a training run on disk, so that a killed run goes on with the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from clorg_scale.errors import InputError

__all__ = ["load_checkpoint"]


def load_checkpoint(path: Path | str, fingerprint: str, device: torch.device) -> dict[str, Any] | None:
    """Read a state that this training run wrote; None where there is no file.

    Parameters
    ----------
    path
        Of the file; it is read without unpickling objects.
    fingerprint
        Of the graph, the labels and the settings of this run.
    device
        Where its tensors go.

    Raises
    ------
    InputError
        If the file is damaged or foreign, or belongs to another run.
    """
    if not Path(path).exists():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        written_by, _ = state["fingerprint"], state["full_batch"]
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise InputError(
            f"The checkpoint {path} cannot be read ({type(error).__name__}); delete it to start afresh."
        ) from error
    if written_by != fingerprint:
        raise InputError(
            f"The checkpoint {path} was written for other data or settings; "
            "name another file, or delete it to start afresh."
        )
    return state  # type: ignore[no-any-return]
