"""Checkpoints of a training: weights, the state of the optimizer and the log, in one file written atomically."""

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

__all__ = ["CHECKPOINT", "UNFINISHED", "load_backbone", "read_training", "write_training"]

CHECKPOINT = "checkpoint.pt"

UNFINISHED = "checkpoint-unfinished.pt"
"""Checkpoint of a training that will replace the one in its folder once it is complete."""


def write_training(
    file: Path,
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
    write_state(file, state)


def read_training(
    file: Path,
    settings: dict[str, Any],
    method: Method,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Restore the state of a checkpoint; returns its log.

    Raises
    ------
    InputError
        If the checkpoint cannot be read or belongs to another training.
    """
    state = _read(file, device)
    theirs = state["settings"]
    if theirs != settings:
        key = min((key for key in settings if theirs.get(key) != settings[key]), key=_order, default="settings")
        raise InputError(f"{file.parent} holds {_another_training(key, theirs, settings)}; choose another folder.")
    try:
        method.load_state_dict(_plain_names(state["method"]))
        optimizer.load_state_dict(state["optimizer"])
    except _MISFITS as error:
        raise InputError(f"{_misfit(file, error)}; choose another folder.") from error
    return state["log"]


def load_backbone(path: Path | str, *, layer: str = "backbone") -> tuple[nn.Module, dict[str, Any]]:
    """Load a trained network.

    Parameters
    ----------
    path
        Folder of a training, or its checkpoint.pt; no Python objects are unpickled.
    layer
        "backbone", or "projection" for the output of the head that the loss was computed from.

    Returns
    -------
    A module that maps images (b, c, h, w) in [0, 1] to features, in evaluation mode, and the settings of the training
    with the number of completed epochs, `epochs_done`.

    Raises
    ------
    InputError
        If there is no checkpoint, it cannot be read, its weights do not fit the network of its settings, or the layer
        is unknown.
    """
    if layer not in ("backbone", "projection"):
        raise InputError(f"The layer must be 'backbone' or 'projection', not {layer!r}.")
    file = Path(path) / CHECKPOINT if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise InputError(f"There is no checkpoint {file}; train a backbone first.")
    state = _read(file, torch.device("cpu"))
    settings = {**state["settings"], "epochs_done": len(state["log"])}
    try:
        return _with_weights(state, settings, layer), settings
    except KeyError as error:
        raise InputError(
            f"The settings in the checkpoint {file} lack {error}; it was not written by 'train', or was changed since."
        ) from error
    except _MISFITS as error:
        raise InputError(f"{_misfit(file, error)}; train a backbone again.") from error


def _with_weights(state: dict[str, Any], settings: dict[str, Any], layer: str) -> nn.Module:
    """Build the network of the settings with the weights of the state."""
    from clorg_scale.backbones.methods import build_method

    backbone: Backbone = rebuild(settings["backbone"])
    if layer == "backbone":
        backbone.load_state_dict(_plain_names(state["backbone"]))
        return backbone.eval()
    method = build_method(
        settings["method"], backbone, n_classes=len(settings["classes"]), n_images=settings["n_images"]
    )
    method.load_state_dict(_plain_names(state["method"]))
    return nn.Sequential(method.backbone, method.projection).eval()


_MISFITS = (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError)
"""Errors that PyTorch and the builders of networks raise where weights or settings do not fit."""

_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile add to the names of all weights."""


def _plain_names(weights: dict[str, Any]) -> dict[str, Any]:
    """Remove the prefixes of wrappers from the names of weights."""
    for wrapper in _WRAPPERS:
        if weights and all(name.startswith(wrapper) for name in weights):
            return _plain_names({name.removeprefix(wrapper): value for name, value in weights.items()})
    return weights


def _misfit(file: Path, error: Exception) -> str:
    """Describe the first mismatch that PyTorch lists."""
    if isinstance(error, InputError):
        return f"The checkpoint {file} does not fit its settings ({str(error).rstrip('.')})"
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    reason = (lines[1] if len(lines) > 1 else lines[0] if lines else type(error).__name__)[:200]
    return f"The weights in the checkpoint {file} do not fit the network of its settings ({reason})"


def _order(key: str) -> tuple[bool, str]:
    """Sort digests last: other settings say more."""
    return key in ("images", "labels"), key


def _another_training(key: str, theirs: dict[str, Any], settings: dict[str, Any]) -> str:
    """Describe how the training in a folder differs."""
    if key not in theirs:
        return f"a training without a record of its {key}, written by an earlier version"
    if key == "images":
        return "a training on other images, of the same name and number"
    if key == "labels":
        return "a training on the same images with other labels"
    return f"a training with {key} = {json.dumps(theirs[key])}, not {json.dumps(settings.get(key))}"


def _read(file: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint and check the types of its entries."""
    check_regular_file(file)
    try:
        state = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise InputError(
            f"The checkpoint {file} cannot be read ({type(error).__name__}); it is damaged, or not a checkpoint."
        ) from error
    kinds = {"settings": dict, "backbone": dict, "method": dict, "optimizer": dict, "log": list}
    found = state if isinstance(state, dict) else {}
    wrong = [part for part, kind in kinds.items() if not isinstance(found.get(part), kind)]
    if wrong:
        raise InputError(
            f"The checkpoint {file} has no {wrong[0]}; it was not written by 'train'; to use weights of your own, load "
            "the network in Python and pass it to clorg_scale.backbones.embed."
        )
    return found
