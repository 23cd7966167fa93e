"""Dataclasses from plain data, such as JSON holds, and back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

__all__ = ["Plain", "build", "select"]

T = TypeVar("T")


class Plain:
    """Base class of dataclasses whose fields are plain data, or dataclasses of this kind."""

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries and lists, as in a JSON file."""
        return asdict(cast("Any", self))


def select(kind: type[T], document: Mapping[str, Any]) -> T:
    """Build a dataclass from those entries of a larger dictionary that are its fields."""
    return kind(**{field.name: document[field.name] for field in _fields(kind)})


def build(kind: Any, value: Any, where: str) -> Any:
    """Build a dataclass, or a value of any other annotated type, from plain data.

    Parameters
    ----------
    kind
        Dataclass, or annotation made of dataclasses, lists, tuples, dictionaries, unions, literals, NumPy arrays and
        plain types. An array may be passed as itself or as nested lists, with None for NaN.
    value
        As `json.loads` returns it.
    where
        Name of the value in error messages.

    Raises
    ------
    ValueError
        If the value is of another type; says where.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is np.ndarray:
        return _built_array(arguments, value, where)
    if is_dataclass(kind) and isinstance(value, dict):
        return _built_dataclass(kind, value, where)
    if origin in (UnionType, Union):
        for argument in arguments:
            with suppress(ValueError):
                return build(argument, value, where)
    elif origin is list and isinstance(value, list):
        return [build(arguments[0], item, where) for item in value]
    elif origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        return tuple(build(argument, item, where) for argument, item in zip(arguments, value, strict=True))
    elif origin is dict and isinstance(value, dict):
        # The keys of a JSON object are strings.
        return {arguments[0](key): build(arguments[1], item, where) for key, item in value.items()}
    elif origin is Literal and value in arguments:
        return value
    elif kind is type(None) and value is None:
        return None
    elif kind is float and type(value) in (int, float):
        return float(value)
    elif type(value) is kind:
        return value
    raise ValueError(f"{where!r} holds {value!r:.40}")


def _built_dataclass(kind: Any, document: dict[str, Any], where: str) -> Any:
    """Build a dataclass; fields with a default may be missing."""
    hints = get_type_hints(kind)
    types = {field.name: hints[field.name] for field in _fields(kind)}
    optional = {
        field.name for field in _fields(kind) if field.default is not MISSING or field.default_factory is not MISSING
    }
    differing = (document.keys() - types.keys()) | (types.keys() - document.keys() - optional)
    if differing:
        name = min(differing)
        raise ValueError(f"{name!r} is {'unknown' if name in document else 'missing'} in {where}")
    return kind(**{name: build(types[name], value, name) for name, value in document.items()})


def _built_array(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    """Build an array of the annotated dtype; of the dtype of its values where that is `Any`."""
    (wanted,) = get_args(arguments[1]) or (Any,)
    if not isinstance(value, (list, np.ndarray)):
        raise ValueError(f"{where!r} holds {value!r:.40}")
    dtype = wanted if isinstance(wanted, type) and issubclass(wanted, np.generic) else None
    try:
        array = np.asarray(value, dtype)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where!r} holds {value!r:.40}") from None
    if array.dtype.kind not in "biufU":
        raise ValueError(f"{where!r} holds {value!r:.40}")
    return array


def _fields(kind: Any) -> tuple[Field[Any], ...]:
    return fields(kind)
