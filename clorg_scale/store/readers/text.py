"""Labels in text files: one per line, or columns."""

from __future__ import annotations

import csv
import re
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clorg_scale.errors import InputError
from clorg_scale.store.contents import LABEL_NAMES, Contents, Member, Table
from clorg_scale.store.regular import check_fits_memory

__all__ = ["contents"]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}

_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")
_MOST_DIGITS = 20
"""Characters of the longest 64-bit integer."""

_MISSING = ("NA", "N/A", "NaN", "nan", "<NA>", "NULL", "null", "None")
"""Texts that R, pandas and databases write for a missing value."""


def contents(path: Path) -> Contents:
    """List the columns of a ``.csv`` or ``.tsv`` file, or the lines of a ``.txt`` file as ``labels``.

    A first row is the header if there are several columns, if it is a known name of labels, or if it is the only
    row that is not a number. Labels are what is written: `typed_labels` says which are integers.

    Raises
    ------
    InputError
        If it is not UTF-8 text, a row is incomplete, there are no rows below the header, or columns have one name.
    """
    suffix = path.suffix.lower()
    check_fits_memory(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if suffix == ".txt":
                rows = [[line.strip()] if line.strip() else [] for line in file.read().splitlines()]
            else:
                rows = list(csv.reader(file, delimiter=_DELIMITERS[suffix], strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as text ({error}).") from error
    while rows and not rows[-1]:
        rows.pop()
    if not rows:
        raise InputError(f"{path} is empty.")
    _check_lengths(path, rows)
    header, first = ["labels"], 1
    if suffix != ".txt" and _begins_with_header(rows):
        header, *rows = rows
        first = 2
    if not rows:
        raise InputError(f"{path} has a header, but no rows below it.")
    _check_header(path, header)
    columns = [list(column) for column in zip(*rows, strict=True)]
    members = {
        name: Member((len(rows),), partial(typed_labels, column, path, name if len(header) > 1 else "", first))
        for name, column in zip(header, columns, strict=True)
    }
    return Contents(path, members, table=Table(dict.fromkeys(header, "not chosen")))


def _check_lengths(path: Path, rows: list[list[str]]) -> None:
    """Refuse rows of different lengths."""
    for number, row in enumerate(rows, start=1):
        if not row and len(rows[0]) == 1:
            raise _no_label(path, "", number)
        if len(row) != len(rows[0]):
            raise InputError(f"{path} has {len(rows[0])} columns in row 1, but {len(row)} in row {number}.")


def _check_header(path: Path, header: list[str]) -> None:
    """Refuse columns of one name, of which only one would be found."""
    for position, name in enumerate(header):
        if name and name in header[:position]:
            raise InputError(f"{path} has several columns named {name!r}; give each a name of its own.")


def _no_label(path: Path, column: str, row: int) -> InputError:
    where = f" in column {column!r}" if column else ""
    return InputError(f"{path} has no label in row {row}{where}; write -1 for a point without a class.")


def _begins_with_header(rows: list[list[str]]) -> bool:
    first = rows[0]
    if len(first) > 1 or first[0] in LABEL_NAMES:
        return True
    return len(rows) > 1 and not _is_number(first[0]) and all(_is_number(row[0]) for row in rows[1:])


def _is_number(text: str) -> bool:
    text = text.strip()
    return bool(_INTEGER.fullmatch(text) or _DECIMAL.fullmatch(text))


def typed_labels(
    column: list[str], path: Path, name: str, first_row: int
) -> npt.NDArray[np.int64] | npt.NDArray[np.float64] | npt.NDArray[np.str_]:
    """Turn the cells of a column into labels, so that two different texts are always two classes.

    Parameters
    ----------
    column
        The cells. Space around numbers is dropped.
    path, name, first_row
        File, column ("" if it is the only one) and the number of the first row, for sentences.

    Returns
    -------
    int64 if all are plain decimal integers of 64 bits (no leading zeros, signs, exponents or underscores). float64 if
    all have a decimal point and none are written in two ways, or some are not whole: floats that are no labels.
    Otherwise strings, as written.

    Raises
    ------
    InputError
        If a cell is empty or white space, or says that the value is missing in a column of numbers.
    """
    stripped = [cell.strip() for cell in column]
    for row, cell in enumerate(stripped, start=first_row):
        if not cell:
            raise _no_label(path, name, row)
    missing = [row for row, cell in enumerate(stripped) if cell in _MISSING]
    if missing:
        _judge_missing(stripped, missing, path, name, first_row)
    if all(map(_INTEGER.fullmatch, stripped)) and max(map(len, stripped)) <= _MOST_DIGITS:
        integers = [int(cell) for cell in stripped]
        if -(2**63) <= min(integers) and max(integers) < 2**63:
            return np.array(integers, dtype=np.int64)
    if all(map(_is_number, stripped)):
        floats = np.array(stripped, dtype=np.float64)
        decimal = all(map(_DECIMAL.fullmatch, stripped)) and len(set(stripped)) == len(np.unique(floats))
        if decimal or (floats != np.floor(floats)).any():
            return floats
    return np.array(column, dtype=str)


def _judge_missing(cells: list[str], missing: list[int], path: Path, name: str, first_row: int) -> None:
    """Refuse markers of missing values among numbers; warn of them among text, where they may be classes.

    Raises
    ------
    InputError
        If all other cells are numbers.
    """
    row, written = missing[0] + first_row, cells[missing[0]]
    known_missing = set(missing)
    if all(_is_number(cell) for position, cell in enumerate(cells) if position not in known_missing):
        where = f" of column {name!r}" if name else ""
        raise InputError(
            f"{path} has no label in row {row}{where}, which says {written!r}; write -1 for a point without a class."
        )
    warnings.warn(
        f"{path}: {written!r} (first in row {row}) is taken as a class; if it means that the label is missing, "
        "write -1.",
        stacklevel=2,
    )
