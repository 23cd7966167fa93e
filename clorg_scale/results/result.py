"""Base of every result: conversion to a data frame, a line, a table in a notebook, a file and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Self

from clorg_scale.errors import InputError, require
from clorg_scale.results.stored import read_document, read_stored, separate, write_stored

__all__ = ["Columns", "Result", "html_table"]

Columns = Mapping[str, Any]
"""Columns of a table by name: sequences of equal length."""

SHOWN_ROWS = 12
"""Rows of a table in a notebook."""


class Result:
    """Base class of results, which are dataclasses.

    A result describes itself in one line (`_line`) and lists its tables (`_tables`); the first one is its own table.
    """

    _derived: ClassVar[tuple[str, ...]] = ()
    """Entries of `to_dict` that files hold for readers; `from_json` derives them anew."""

    def to_frame(self, table: str | None = None) -> Any:
        """Return a table as a pandas data frame.

        Parameters
        ----------
        table
            Name of the table; default: the first one.

        Raises
        ------
        InputError
            If the result has no table of this name; lists those that it has.
        MissingDependencyError
            If pandas is not installed.
        """
        tables = self._tables()
        name = next(iter(tables)) if table is None else table
        if name not in tables:
            raise InputError(f"There is no table {name!r} here; choose from {', '.join(map(repr, tables))}.")
        pandas = require("pandas", extra="interop", purpose="A data frame")
        return pandas.DataFrame(dict(tables[name]()))

    def to_dict(self) -> dict[str, Any]:
        """Everything but the values of single points, as numbers, strings, lists and dictionaries; None for NaN."""
        return separate(self)[0]

    def to_json(self, path: str | Path) -> Path:
        """Write a JSON file with the numbers, and arrays into ``NAME_arrays.npz`` beside it: both of them, or none.

        Raises
        ------
        InputError
            If the name has another extension, or a file cannot be written.
        """
        derived = {name: value for name, value in self.to_dict().items() if name in self._derived}
        return write_stored(self, path, _format(type(self)), derived=derived)

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            If a file is missing, truncated, or of another result.
        """
        document = read_document(Path(path), f"a {cls.__name__}")
        if document.pop("format", None) != _format(cls):
            raise InputError(f"{path} is not a {cls.__name__} that this version of clorg-scale wrote.")
        for name in cls._derived:
            document.pop(name, None)
        return read_stored(cls, Path(path), document, f"a {cls.__name__}")

    def _tables(self) -> dict[str, Callable[[], Columns]]:
        """Functions that make the columns of each table, by its name."""
        raise NotImplementedError

    def _line(self) -> str:
        """Describe the result in a few words."""
        raise NotImplementedError

    def _shown(self) -> Columns:
        """Columns of the table in a notebook."""
        return next(iter(self._tables().values()))()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._line()})"

    def _repr_html_(self) -> str:
        return html_table(repr(self), self._shown())

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # A dataclass would write a method of its own, with all arrays in it.
        cls.__repr__ = cls.__dict__.get("__repr__", Result.__repr__)  # type: ignore[method-assign]


def html_table(title: str, columns: Columns) -> str:
    """HTML of the first rows of a table, every text escaped."""
    names = list(columns)
    n_rows = max((len(column) for column in columns.values()), default=0)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(columns[name][row]))}</td>" for name in names) + "</tr>"
        for row in range(min(n_rows, SHOWN_ROWS))
    )
    more = f"<p>{SHOWN_ROWS} of {n_rows:,} rows</p>" if n_rows > SHOWN_ROWS else ""
    return f"<div><p>{escape(title)}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}</div>"


def _cell(value: Any) -> str:
    """Four digits of a number that is not an integer, a dash for None and NaN."""
    if value is None or value != value:
        return "–"
    if hasattr(value, "item"):
        value = value.item()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _format(kind: type) -> str:
    assert is_dataclass(kind)
    return f"clorg-scale {kind.__name__} 1"
