"""JSON schema (2020-12) of a stored result, derived from the annotations and docstrings of its dataclasses."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

__all__ = ["schema_of"]

_SCALARS: dict[Any, str] = {int: "integer", float: "number", str: "string", bool: "boolean", NoneType: "null"}

_ARRAYS = {
    "description": "Arrays in the .npz file of the same name with _arrays: type and shape of each, by its name.",
    "type": "object",
    "required": ["file", "digest", "contents"],
    "properties": {
        "file": {"type": "string"},
        "digest": {"description": "BLAKE2b of names, types, shapes and contents, 16 bytes.", "type": "string"},
        "contents": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def schema_of(kind: Any, format_name: str) -> dict[str, Any]:
    """Schema of the JSON file of a result.

    Parameters
    ----------
    kind
        Dataclass.
    format_name
        Entry "format" of its files.
    """
    definitions: dict[str, Any] = {}
    whole = _object(kind, definitions)
    whole["properties"] = {"format": {"const": format_name}, "arrays": _ARRAYS} | whole["properties"]
    whole["required"] = ["format", *whole["required"]]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": format_name}
    return head | whole | {"$defs": dict(sorted(definitions.items()))}


def _object(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    types, described = get_type_hints(kind), _descriptions(kind)
    stored = [entry for entry in fields(kind) if "beside" not in entry.metadata]
    properties = {}
    for entry in stored:
        about = {"description": described[entry.name]} if entry.name in described else {}
        properties[entry.name] = about | _schema(types[entry.name], definitions)
    required = [entry.name for entry in stored if entry.default is MISSING and entry.default_factory is MISSING]
    return {
        "description": inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " "),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Schema of a value of an annotated type; dataclasses go to the definitions."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return {}
    if is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin in (UnionType, Union):
        parts = [_schema(argument, definitions) for argument in arguments]
        if all(part.keys() == {"type"} for part in parts):
            return {"type": [part["type"] for part in parts]}
        return {"anyOf": parts}
    if origin is list:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is tuple:
        items = [_schema(argument, definitions) for argument in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin is dict:
        keys = {"propertyNames": {"pattern": "^[0-9]+$"}} if arguments[0] is int else {}
        return {"type": "object"} | keys | {"additionalProperties": _schema(arguments[1], definitions)}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is np.ndarray:
        return {"type": "array"}
    return {"type": _SCALARS[kind]}


def _descriptions(kind: Any) -> dict[str, str]:
    """Docstrings that stand below the fields of a dataclass and of its bases."""
    found: dict[str, str] = {}
    bases: list[type] = list(filter(is_dataclass, reversed(kind.__mro__)))
    for base in bases:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, after in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = after.value if isinstance(after, ast.Expr) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found[statement.target.id] = " ".join(text.value.split())
    return found
