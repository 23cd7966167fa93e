"""Choice of the columns of a table or data frame that are features."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from clorg_scale.errors import InputError

__all__ = ["Column", "choose_columns", "row_number_reason"]

_LISTED = 5
"""Largest number of columns that a message names."""


class Column(NamedTuple):
    """One column of a table.

    Attributes
    ----------
    name
        As the table has it.
    kind
        Description of its contents; "" for numbers.
    row_shape
        () for a number a row, (d,) for a vector, (0,) for one of unknown length; None for what cannot be features.
    """

    name: str
    kind: str
    row_shape: tuple[int, ...] | None


def row_number_reason(name: str) -> str:
    """Reason why a column of this name is not a feature; "" if it may be one.

    pandas gives these names, and no others, to an index that has none: ``__index_level_0__`` in Parquet files,
    ``Unnamed: 0`` where a file of comma-separated values is read that was written with its index.
    """
    if re.fullmatch(r"__index_level_\d+__", name):
        return "the index of a data frame"
    return "a column without a name in the text file it comes from" if re.fullmatch(r"Unnamed: [\d.]+", name) else ""


def choose_columns(columns: Sequence[Column], *, name: str) -> list[int]:
    """Choose the columns of a frame that are the features: all, if they are numeric, or the one of vectors.

    Parameters
    ----------
    columns
        All columns, in order.
    name
        Name used in error messages.

    Returns
    -------
    Their positions. If columns were left out, a warning names them.

    Raises
    ------
    InputError
        If columns are neither numbers nor the one column of vectors.
    """
    if len(columns) == 1:
        return [0]
    kept = [position for position, column in enumerate(columns) if not row_number_reason(column.name)]
    vectors = [position for position in kept if columns[position].row_shape]
    chosen = vectors if len(vectors) == 1 else kept
    wrong = [columns[position].name for position in chosen if columns[position].row_shape != ()]
    if wrong and len(vectors) != 1:
        raise InputError(
            f"The {name} are a data frame whose columns {_listed(wrong)} are not numeric; drop them or choose "
            "one column of lists."
        )
    taken_ones = set(chosen)
    left_out = [column.name for position, column in enumerate(columns) if position not in taken_ones]
    if left_out:
        taken = _listed([columns[position].name for position in chosen[: _LISTED + 1]])
        noun, verb = ("Column", "is") if len(chosen) == 1 else ("Columns", "are")
        warnings.warn(f"{noun} {taken} of the {name} {verb} used; left out: {_listed(left_out)}.", stacklevel=2)
    return chosen


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
