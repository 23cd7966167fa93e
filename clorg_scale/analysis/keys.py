"""Cache keys of stages: digests of the stage's name and of every argument of its call.

An array counts by its contents, the result of another stage by that stage's key, a dataclass by its fields. So a
stage with one argument changed, or standing on a stage with one changed, has another key.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from clorg_scale.analysis.fingerprint import fingerprint

__all__ = ["Keys"]

FORMAT = 6
"""To be raised whenever a stage's result for the same arguments changes."""


class Keys:
    """Keys of calls, and of what is known already: results of stages, and arrays that have a fingerprint."""

    def __init__(self) -> None:
        # By identity; the object is kept, so that no other one takes its identity.
        self._known: dict[int, tuple[Any, str]] = {}

    def remember(self, value: Any, key: str) -> None:
        """Let `key` stand for this object wherever it is an argument."""
        self._known[id(value)] = (value, key)

    def of_call(
        self, name: str, function: Callable[..., Any], arguments: Sequence[Any], settings: Mapping[str, Any]
    ) -> str:
        """16 hexadecimal digits for a call of a function, defaults of its parameters included.

        Raises
        ------
        TypeError
            If an argument is of a type whose contents are not known here.
        """
        bound = inspect.signature(function).bind(*arguments, **settings)
        bound.apply_defaults()
        described = {parameter: self._described(value) for parameter, value in bound.arguments.items()}
        text = json.dumps({"format": FORMAT, "stage": name, "arguments": described}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def _described(self, value: Any) -> Any:
        """Plain data that differs where the value does."""
        if id(value) in self._known:
            return self._known[id(value)][1]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            self.remember(value, fingerprint(value))
            return self._known[id(value)][1]
        if is_dataclass(value):
            # Fields that do not count when two of them are compared do not count here either.
            described = {
                field.name: self._described(getattr(value, field.name)) for field in fields(value) if field.compare
            }
            return {"type": type(value).__qualname__, **described}
        if isinstance(value, (list, tuple)):
            return [self._described(item) for item in value]
        if isinstance(value, dict):
            return {str(name): self._described(item) for name, item in value.items()}
        raise TypeError(f"A stage cannot be kept by an argument of type {type(value).__name__}.")
