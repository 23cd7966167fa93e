"""A training on disk: weights, the optimiser's state, the log, in one file written whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clorg_scale.backbones.architectures import Backbone, rebuild
from clorg_scale.backbones.methods import Method
from clorg_scale.errors import InputError
from clorg_scale.store.regular import check_regular_file
from clorg_scale.store.states import write_state

__all__ = ["CHECKPOINT", "load_backbone", "read_training", "write_training"]

CHECKPOINT = "checkpoint.pt"


def write_training(
    folder: Path,
    settings: dict[str, Any],
    method: Method,
    optimizer: torch.optim.Optimizer,
    log: list[dict[str, Any]],
) -> None:
    """Write the state after an epoch."""
    state = {
        "settings": settings,
        "backbone": method.backbone.state_dict(),
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "log": log,
    }
    write_state(folder / CHECKPOINT, state)


def read_training(
    folder: Path,
    settings: dict[str, Any],
    method: Method,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Take up the training in a folder; gives its log.

    Raises
    ------
    InputError
        If the checkpoint cannot be read or belongs to another training.
    """
    state = _read(folder / CHECKPOINT, device)
    theirs = state["settings"]
    if theirs != settings:
        other = sorted(key for key in settings if theirs.get(key) != settings[key])
        key = other[0] if other else "settings"
        raise InputError(
            f"{folder} holds a training with {key} = {json.dumps(theirs.get(key))}, "
            f"not {json.dumps(settings.get(key))}; choose another folder, or do not resume."
        )
    method.load_state_dict(state["method"])
    optimizer.load_state_dict(state["optimizer"])
    return state["log"]


def load_backbone(path: Path | str, *, layer: str = "backbone") -> tuple[nn.Module, dict[str, Any]]:
    """Load a trained network.

    Parameters
    ----------
    path
        Folder of a training, or its checkpoint.pt; read without unpickling objects.
    layer
        "backbone", or "projection" for the output of the head that the loss was taken on.

    Returns
    -------
    A module from images (b, c, h, w) in [0, 1] to features, in evaluation mode, and the settings of the training with
    the number of epochs done so far, `epochs_done`.

    Raises
    ------
    InputError
        If there is no checkpoint, it cannot be read, or the layer is unknown.
    """
    from clorg_scale.backbones.methods import build_method

    if layer not in ("backbone", "projection"):
        raise InputError(f"The layer must be 'backbone' or 'projection', not {layer!r}.")
    file = Path(path) / CHECKPOINT if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise InputError(f"There is no checkpoint {file}; train a backbone first.")
    state = _read(file, torch.device("cpu"))
    settings = {**state["settings"], "epochs_done": len(state["log"])}
    backbone: Backbone = rebuild(settings["backbone"])
    if layer == "backbone":
        backbone.load_state_dict(state["backbone"])
        return backbone.eval(), settings
    method = build_method(
        settings["method"], backbone, n_classes=len(settings["classes"]), n_images=settings["n_images"]
    )
    method.load_state_dict(state["method"])
    return nn.Sequential(method.backbone, method.projection).eval(), settings


def _read(file: Path, device: torch.device) -> dict[str, Any]:
    check_regular_file(file)
    try:
        state = torch.load(file, map_location=device, weights_only=True)
        state["settings"], state["backbone"], state["method"], state["optimizer"], state["log"]
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise InputError(
            f"The checkpoint {file} cannot be read ({type(error).__name__}); it is damaged or foreign."
        ) from error
    return state
