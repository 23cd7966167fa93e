"""Results on disk: the numbers as JSON that a person can read, arrays of points beside it in one .npz, by name.

``analysis.json`` stands beside ``analysis_arrays.npz``. The JSON names each array with its type and shape, and holds a
digest of their contents, so that files of two different results are never taken for one. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import on_host
from clorg_scale.errors import InputError
from clorg_scale.results.plain import build
from clorg_scale.results.readable import readable_json
from clorg_scale.store.atomic import write_together, write_whole
from clorg_scale.store.endings import check_ending
from clorg_scale.store.regular import check_fits_memory, check_regular_file

__all__ = ["arrays_path", "beside", "read_document", "read_stored", "separate", "write_stored"]

T = TypeVar("T")

Arrays = dict[str, npt.NDArray[Any]]


def beside(dtype: str = "") -> dict[str, str]:
    """Metadata of a dataclass field that is stored in the .npz beside the JSON.

    Parameters
    ----------
    dtype
        Type of the stored array where the field holds lists; "" for fields that hold arrays, or a dictionary of them.
    """
    return {"beside": dtype}


def arrays_path(path: str | Path) -> Path:
    """Path of the arrays that belong to a JSON file: ``analysis.json`` has ``analysis_arrays.npz``."""
    path = Path(path)
    return path.with_name(f"{path.stem}_arrays.npz")


def separate(result: Any, prefix: str = "") -> tuple[dict[str, Any], Arrays]:
    """Separate a dataclass into plain data and the arrays that are stored beside them, by their dotted names."""
    document: dict[str, Any] = {}
    arrays: Arrays = {}
    for entry in fields(result):
        value, name = getattr(result, entry.name), prefix + entry.name
        if "beside" in entry.metadata:
            arrays |= {} if value is None else _arrays_of(value, name, entry.metadata["beside"])
        elif is_dataclass(value):
            document[entry.name], inner = separate(value, f"{name}.")
            arrays |= inner
        elif isinstance(value, Mapping) and any(map(is_dataclass, value.values())):
            parts = {key: separate(item, f"{name}.{key}.") for key, item in value.items()}
            document[entry.name] = {key: part for key, (part, _) in parts.items()}
            for _, inner in parts.values():
                arrays |= inner
        else:
            document[entry.name] = _plain(value)
    return document, arrays


def write_stored(result: Any, path: str | Path, format_name: str, *, derived: Mapping[str, Any] | None = None) -> Path:
    """Write a result: a JSON file and, if it has arrays, the .npz beside it; both of them or none.

    Parameters
    ----------
    result
        A dataclass.
    path
        Of the JSON file.
    format_name
        Entry "format" of the file, which `read_stored` checks.
    derived
        Further entries for readers of the file; `read_stored` knows none of them.

    Raises
    ------
    InputError
        If the name has another extension, or a file cannot be written.
    """
    path = Path(path)
    check_ending(path, (".json",))
    document, arrays = separate(result)
    head: dict[str, Any] = {"format": format_name}
    with write_together():
        if arrays:
            described = {name: f"{array.dtype} {tuple(array.shape)}" for name, array in arrays.items()}
            head["arrays"] = {"file": arrays_path(path).name, "digest": _digest(arrays), "contents": described}
            with write_whole(arrays_path(path)) as binary:
                np.savez(binary, allow_pickle=False, **cast("dict[str, Any]", arrays))
        with write_whole(path, "w") as text:
            text.write(readable_json(head | dict(derived or {}) | document))
    return path


def read_document(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Parameters
    ----------
    path
        Of the file.
    what
        Result that is expected there, such as "an analysis".

    Raises
    ------
    InputError
        If the file is missing, truncated, or no JSON object.
    """
    check_fits_memory(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; 'to_json' of a result writes one.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not {what}, or only a part of one ({error}).") from error
    if not isinstance(document, dict):
        raise InputError(f"{path} is not {what} that this version of clorg-scale wrote.")
    return document


def read_stored(kind: type[T], path: Path, document: dict[str, Any], what: str) -> T:
    """Build a result from its document, without the entry "format", and the arrays beside it.

    Raises
    ------
    InputError
        If entries are missing, unknown or of a wrong type, or the arrays are missing, damaged, or of another result.
    """
    listed = document.pop("arrays", None)
    arrays = {} if listed is None else _read_arrays(path, listed, what)
    try:
        return cast("T", build(kind, _joined(kind, document, arrays), "the document"))
    except ValueError as error:
        raise InputError(f"{path} is not {what}, or was changed by hand ({error}).") from error


def _arrays_of(value: Any, name: str, dtype: str) -> Arrays:
    """Arrays of one field, by name: one, or those of a dictionary."""
    if isinstance(value, Mapping):
        return {f"{name}.{key}": on_host(array) for key, array in value.items()}
    if dtype:
        return {name: np.array(value, dtype)}  # None becomes NaN
    return {name: on_host(value)}


def _plain(value: Any) -> Any:
    """Lists, dictionaries and numbers as JSON has them; None for NaN."""
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and np.isnan(value) else value


def _joined(kind: Any, document: dict[str, Any], arrays: Arrays, prefix: str = "") -> dict[str, Any]:
    """Put the arrays back where `separate` took them from."""
    joined, types = dict(document), get_type_hints(kind)
    for entry in fields(kind):
        name = prefix + entry.name
        if "beside" in entry.metadata:
            joined |= _joined_field(entry.name, name, entry.metadata["beside"], arrays, types[entry.name])
        elif (inner := _dataclass_of(types[entry.name])) is not None and isinstance(joined.get(entry.name), dict):
            joined[entry.name] = _joined(inner, joined[entry.name], arrays, f"{name}.")
        elif (inner := _dataclass_in_dict(types[entry.name])) is not None and isinstance(joined.get(entry.name), dict):
            items = {key: item for key, item in joined[entry.name].items() if isinstance(item, dict)}
            joined[entry.name] = {key: _joined(inner, item, arrays, f"{name}.{key}.") for key, item in items.items()}
    return joined


def _joined_field(key: str, name: str, dtype: str, arrays: Arrays, kind: Any) -> dict[str, Any]:
    """Entry of one field that is stored as an array; none where there is no such array."""
    if name in arrays:
        return {key: _as_lists(arrays[name]) if dtype else arrays[name]}
    inner = {other.removeprefix(f"{name}."): array for other, array in arrays.items() if other.startswith(f"{name}.")}
    return {key: inner} if inner else {}


def _as_lists(array: npt.NDArray[Any]) -> list[Any]:
    """Nested lists, with None for NaN."""
    if array.dtype.kind == "f" and np.isnan(array).any():
        objects = array.astype(object)
        objects[np.isnan(array)] = None
        return cast("list[Any]", objects.tolist())
    return cast("list[Any]", array.tolist())


def _dataclass_of(kind: Any) -> Any:
    """Dataclass of an annotation, which may be optional; None for any other."""
    candidates = [kind, *get_args(kind)] if not is_dataclass(kind) else [kind]
    found = [candidate for candidate in candidates if is_dataclass(candidate)]
    is_container = get_origin(kind) in (list, dict, tuple)
    return found[0] if found and not is_container else None


def _dataclass_in_dict(kind: Any) -> Any:
    """Dataclass of the values of a dictionary; None for any other annotation."""
    arguments = get_args(kind)
    is_dict = get_origin(kind) is dict and is_dataclass(arguments[1])
    return arguments[1] if is_dict else None


def _read_arrays(path: Path, listed: Any, what: str) -> Arrays:
    """Read the arrays beside a JSON file, and compare them with the digest in it."""
    file = arrays_path(path)
    check_regular_file(file)
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise InputError(
            f"{file} is missing, which holds the arrays of {path.name}; put both into one folder."
        ) from None
    except Exception as error:  # NumPy and zipfile raise a dozen kinds for a damaged file
        raise InputError(f"{file} is damaged, or does not hold the arrays of {what} ({error}).") from error
    if not isinstance(listed, dict) or listed.get("digest") != _digest(arrays):
        raise InputError(f"{file} and {path.name} are not of the same result; write them again, or copy both together.")
    return arrays


def _digest(arrays: Arrays) -> str:
    """BLAKE2 digest of names, types, shapes and contents."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")
