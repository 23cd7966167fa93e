"""Labels in text files: one a line, or columns."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clorg_scale.errors import InputError
from clorg_scale.store.contents import LABEL_NAMES, Contents, Member
from clorg_scale.store.regular import check_fits_memory

__all__ = ["contents"]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def contents(path: Path) -> Contents:
    """List the columns of a ``.csv`` or ``.tsv`` file, or the lines of a ``.txt`` file as ``labels``.

    A first row is the header if there are several columns, if it is a known name of labels, or if it is the only
    row that is not a whole number.

    Raises
    ------
    InputError
        If it is not UTF-8 text, a row is incomplete, or a line is empty.
    """
    suffix = path.suffix.lower()
    check_fits_memory(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if suffix == ".txt":
                rows = [[line.strip()] for line in file.read().splitlines()]
            else:
                rows = list(csv.reader(file, delimiter=_DELIMITERS[suffix], strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as text ({error}).") from error
    while rows and not any(rows[-1]):
        rows.pop()
    if not rows:
        raise InputError(f"{path} is empty.")
    _check_rows(path, rows)
    header = ["labels"]
    if suffix != ".txt" and _begins_with_header(rows):
        header, *rows = rows
    columns = [list(column) for column in zip(*rows, strict=True)]
    return Contents(
        path,
        {name: Member((len(rows),), partial(_typed, column)) for name, column in zip(header, columns, strict=True)},
    )


def _check_rows(path: Path, rows: list[list[str]]) -> None:
    """Refuse rows of different lengths and empty labels."""
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise InputError(f"{path} has {len(rows[0])} columns in row 1, but {len(row)} in row {number}.")
        if row == [""]:
            raise InputError(f"{path} has no label in row {number}; write -1 for a point without a class.")


def _begins_with_header(rows: list[list[str]]) -> bool:
    first = rows[0]
    if len(first) > 1 or first[0] in LABEL_NAMES:
        return True
    return len(rows) > 1 and not _is_whole(first[0]) and all(_is_whole(row[0]) for row in rows[1:])


def _is_whole(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()


def _typed(column: list[str]) -> npt.NDArray[np.int64] | npt.NDArray[np.float64] | npt.NDArray[np.str_]:
    """Integers if all are, else floats if all are, else strings."""
    for convert in (int, float):
        try:
            return np.array([convert(label) for label in column])
        except ValueError:
            continue
    return np.array(column, dtype=str)
