"""Contents of a file of embeddings, and choice among its arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from clorg_scale.arrays import Array
from clorg_scale.errors import InputError

__all__ = [
    "CLASS_NAMES",
    "EMBEDDING_NAMES",
    "LABEL_NAMES",
    "Contents",
    "Member",
    "StoredEmbeddings",
    "Table",
    "choose_embeddings",
    "choose_labels",
    "columns_taken",
    "with_features",
]

CLASS_NAMES = "class_names"
"""Key of the metadata: the name of class 0, of class 1, and so on."""

EMBEDDING_NAMES = ("embeddings", "X", "features")
"""An array of one of these names is taken as the embeddings, unless another one is asked for."""

LABEL_NAMES = ("labels", "y", "label", "class")
"""The same for labels."""


@dataclass(frozen=True)
class StoredEmbeddings:
    """Embeddings read from disk.

    Attributes
    ----------
    embeddings
        (n, d), a read-only memory map where the format allows.
    labels
        (n,) integers, booleans or strings as stored, -1 where unlabelled; None where none are stored.
    metadata
        Metadata stored with them. For a table, ``columns`` lists the columns ``taken`` as embeddings, those
        ``left_out`` with the reason, and the column of the ``labels``; ``label_columns`` does the same for a separate
        table of labels.
    class_names
        Name of each label, where the labels are integers that were stored with names; else None.
    """

    embeddings: Array
    labels: npt.NDArray[Any] | None
    metadata: dict[str, Any]
    class_names: list[str] | None = None


@dataclass(frozen=True)
class Member:
    """An array of a file: its shape, and a function that reads it."""

    shape: tuple[int, ...]
    """Shape before the array is read; () where it cannot be embeddings or labels."""
    read: Callable[[], Any]
    elsewhere: bool = False
    """Whether it is in another file, so that its shape is unknown; reading it raises an error that says why."""

    def may_have(self, n_dimensions: int) -> bool:
        """Whether this may be an array of so many dimensions."""
        return self.elsewhere or len(self.shape) == n_dimensions


@dataclass(frozen=True)
class Table:
    """The columns of a table, and which of them are features.

    Attributes
    ----------
    columns
        Every column, in order, with the reason why it is no feature; "" where it is one. A column that is itself a
        matrix (of lists) is a feature on its own.
    read
        Reads some of the columns together, (n, columns).
    """

    columns: dict[str, str]
    read: Callable[[list[str]], Any] | None = None


@dataclass(frozen=True)
class Contents:
    """The arrays of a file by name, and their metadata."""

    path: Path
    members: dict[str, Member]
    metadata: dict[str, Any] = field(default_factory=dict)
    table: Table | None = None
    """Columns of a table; None for other files."""

    def class_names(self, labels: npt.NDArray[Any] | None) -> list[str] | None:
        """Return the names stored with labels of this file; None where the labels are names, or none are stored."""
        names = self.metadata.get(CLASS_NAMES)
        if labels is None or labels.dtype.kind not in "iu" or not isinstance(names, list):
            return None
        return names if all(isinstance(name, str) for name in names) and len(set(names)) == len(names) else None

    def key(self, name: str) -> str:
        """Return the full name of an array; the last part of a name with slashes is enough where it is unique.

        Raises
        ------
        InputError
            If there is none; lists the names found.
        """
        if name in self.members:
            return name
        ends = [member for member in self.members if member.rpartition("/")[2] == name]
        if len(ends) == 1:
            return ends[0]
        raise InputError(f"{self.path} holds no array {name!r}; it holds {_listed(self.members)}.")


ALL_COLUMNS = "columns"
"""Name of the numeric columns of a table, taken together."""


def with_features(contents: Contents, labels: str | None) -> Contents:
    """Add the numeric columns of a table, taken together, under the name `ALL_COLUMNS`.

    Parameters
    ----------
    contents
        Of any file; unchanged if it is not a table of numeric columns.
    labels
        The column of the labels, which is no feature.
    """
    table = contents.table
    if table is None:
        return contents
    if labels in table.columns:
        table = replace(table, columns=table.columns | {labels: "the labels"})
    numbers = _number_columns(contents, table)
    if not numbers or table.read is None:
        return replace(contents, table=table)
    n_rows = contents.members[numbers[0]].shape[0]
    together = Member((n_rows, len(numbers)), partial(table.read, numbers))
    return replace(contents, table=table, members=contents.members | {ALL_COLUMNS: together})


def _number_columns(contents: Contents, table: Table) -> list[str]:
    """Columns of a table that are features and hold one number a row."""
    return [name for name, why in table.columns.items() if not why and len(contents.members[name].shape) == 1]


def choose_embeddings(contents: Contents, name: str | None) -> str:
    """Return the name of the embeddings: of the array asked for, else of a known name, else of the only matrix.

    Raises
    ------
    InputError
        If it is not clear which array is meant; lists those found.
    """
    if name is not None:
        return contents.key(name)
    left_out = {} if contents.table is None else contents.table.columns
    matrices = [member for member, part in contents.members.items() if part.may_have(2) and not left_out.get(member)]
    # Lists go before numbers beside them, and labels of shape (n, 1) are no features.
    matrices = [member for member in matrices if member != ALL_COLUMNS] or matrices
    matrices = [member for member in matrices if not _is_label(member)] or matrices
    known = [member for member in EMBEDDING_NAMES if member in matrices]
    candidates = known or [member for member in matrices if not contents.members[member].elsewhere] or matrices
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise InputError(f"{contents.path} holds no two-dimensional array of numbers; it holds {_described(contents)}.")
    raise InputError(
        f"{contents.path} holds several arrays that may be the embeddings ({_listed(candidates)}); choose one with "
        f"'{contents.path}:{candidates[0]}'."
    )


def choose_labels(
    contents: Contents, name: str | None, *, embeddings: str | None = None, required: bool = False
) -> str | None:
    """Return the name of the labels: of the array asked for, else of a known name (else, if required, the only vector).

    Parameters
    ----------
    contents, name
        The file, and what is asked for.
    embeddings
        Name of the array that was chosen as the embeddings.
    required
        There must be labels.

    Returns
    -------
    None where there are no labels and none are required. An array of a known name is chosen whatever its type, so that
    one that cannot be labels is refused, not overlooked.

    Raises
    ------
    InputError
        If it is not clear which array is meant, or there is none and one is required; lists those found.
    """
    if name is not None:
        return contents.key(name)
    columns = [member for member, part in contents.members.items() if _is_column(part) and member != embeddings]
    known = [member for member in columns if _is_label(member)] or [
        member for member in contents.members if _is_label(member) and member != embeddings
    ]
    own = [member for member in columns if not contents.members[member].elsewhere] or columns
    candidates = known or (own if required else [])
    if len(candidates) == 1:
        shape = contents.members[candidates[0]].shape
        if len(shape) > 1 and shape[-1] > 1:  # (n, 0) are lists of unknown length
            raise InputError(
                f"{contents.path} holds no labels: {candidates[0]!r} has shape {shape}; one label per row, (n,), is "
                "needed (for one-hot rows, take argmax(axis=1))."
            )
        return candidates[0]
    if candidates:
        raise InputError(
            f"{contents.path} holds several arrays that may be the labels ({_listed(candidates)}); choose one with "
            f"labels='{contents.path}:{candidates[0]}'."
        )
    if required:
        raise InputError(f"{contents.path} holds no labels; it holds {_listed(contents.members)}.")
    return None


def columns_taken(contents: Contents, embeddings: str | None, labels: str | None) -> dict[str, Any]:
    """Say which columns of a table were taken and which were left out, and why.

    Parameters
    ----------
    contents
        Of a table, as `with_features` gives them.
    embeddings, labels
        Names of what was taken as such; None where nothing was.

    Returns
    -------
    ``taken``: names; ``left_out``: reason for each other name; ``labels``: name, where there are labels.
    """
    table = contents.table
    if table is None:
        return {}
    numbers = _number_columns(contents, table)
    taken = numbers if embeddings == ALL_COLUMNS else [] if embeddings is None else [embeddings]
    left_out = {
        name: why or ("a column of numbers beside it" if name in numbers else "not chosen")
        for name, why in table.columns.items()
        if name not in taken and name != labels
    }
    return {"taken": taken, "left_out": left_out} | ({} if labels is None else {"labels": labels})


def _is_label(name: str) -> bool:
    return name.rpartition("/")[2] in LABEL_NAMES


def _is_column(member: Member) -> bool:
    """Whether there is one value a point: (n,) or (n, 1)."""
    return member.may_have(1) or (len(member.shape) == 2 and member.shape[1] == 1)


def _described(contents: Contents) -> str:
    """Names for a sentence, those of a table with what they hold, those of arrays with their shapes."""
    if contents.table is None:
        members = list(contents.members.items())[:12]
        shown = [f"{name!r} of shape {member.shape}" if member.shape else repr(name) for name, member in members]
        return (", ".join(shown) + (", ..." if len(contents.members) > 12 else "")) or "no arrays"
    some = list(contents.table.columns.items())
    parts = [f"{name!r} ({why})" if why else repr(name) for name, why in some[:12]]
    return (", ".join(parts) + (", ..." if len(some) > 12 else "")) or "no columns"


def _listed(names: Iterable[str]) -> str:
    """Names for a sentence."""
    some = list(names)
    return (", ".join(map(repr, some[:12])) + (", ..." if len(some) > 12 else "")) or "no arrays"
