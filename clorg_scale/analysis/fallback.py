"""Stages on the CPU, where the GPU that was chosen automatically ran out of memory."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from clorg_scale.analysis.resources import Resources
from clorg_scale.arrays import array_module, on_host

__all__ = ["may_fall_back", "on_cpu", "resources_of"]


def resources_of(arguments: dict[str, Any]) -> Resources | None:
    """The `Resources` among the arguments of a call, or in one of them."""
    for argument in arguments.values():
        for found in (argument, getattr(argument, "resources", None)):
            if isinstance(found, Resources):
                return found
    return None


def may_fall_back(resources: Resources | None) -> bool:
    """Tell whether the user left the choice of the device to the program, and it chose the GPU."""
    return resources is not None and resources.requested == "auto" and resources.device == "cuda"


def on_cpu(value: Any) -> Any:
    """An argument of a stage with its arrays in main memory, and with resources that name the CPU."""
    if isinstance(value, Resources):
        return value.on_cpu()
    if hasattr(value, "dtype") and array_module(value) is not np:
        return on_host(value)
    if is_dataclass(value) and not isinstance(value, type):
        values = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        moved = {name: on_cpu(each) for name, each in values.items()}
        return replace(value, **moved) if any(moved[name] is not values[name] for name in values) else value
    return value
