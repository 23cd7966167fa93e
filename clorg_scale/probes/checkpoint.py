"""The state of a training run on disk, so that a killed run continues with the same numbers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clorg_scale.arrays import on_host, row_slices
from clorg_scale.errors import InputError
from clorg_scale.probes.propagate import PropagationMatrix
from clorg_scale.probes.settings import is_whole
from clorg_scale.probes.standardize import StandardizedReader

__all__ = ["load_checkpoint", "run_fingerprint"]

WITHOUT_EFFECT = frozenset(
    (
        "max_epochs",
        "max_seconds",
        "patience",
        "checkpoint",
        "checkpoint_every",
        "device",
        "memory_limit",
        "progress",
        "unlabelled",
    )
)
"""Settings that do not decide the course of training, only how long it may go on."""


def load_checkpoint(path: Path | str, fingerprint: str, device: torch.device) -> dict[str, Any] | None:
    """Read a state that this training run wrote; None where there is no file.

    Parameters
    ----------
    path
        The file; it is read without unpickling objects.
    fingerprint
        Fingerprint of the graph, the labels and the settings of this run.
    device
        Device of its tensors.

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


def run_fingerprint(
    probe: str,
    settings: dict[str, Any],
    matrix: PropagationMatrix,
    codes: npt.NDArray[np.int64],
    reader: StandardizedReader | None,
) -> str:
    """Hash everything that decides the course of training, except how long it may go on."""
    deciding = {
        name: int(value) if is_whole(value) else value
        for name, value in settings.items()
        if name not in WITHOUT_EFFECT and (name, value) != ("validate_every", "auto")  # older runs had no such setting
    }
    digest = hashlib.blake2b(repr((probe, sorted(deciding.items()))).encode())
    for array in (matrix.indptr, matrix.indices, matrix.values, codes):
        digest.update(np.ascontiguousarray(on_host(array)).data)
    if reader:
        digest.update(repr(reader.X.shape).encode())
        for rows in row_slices(*reader.X.shape):
            digest.update(np.ascontiguousarray(on_host(reader.X[rows])).data)
    return digest.hexdigest()
