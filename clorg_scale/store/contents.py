"""What lies in a file of embeddings, and which of its arrays is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array
from clorg_scale.errors import InputError

__all__ = [
    "EMBEDDING_NAMES",
    "LABEL_NAMES",
    "Contents",
    "Member",
    "StoredEmbeddings",
    "check_codes",
    "choose_embeddings",
    "choose_labels",
]

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
        What was stored with them.
    """

    embeddings: Array
    labels: npt.NDArray[Any] | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Member:
    """One array of a file: its shape, and how it is read."""

    shape: tuple[int, ...]
    """Known before the array is read; () where it cannot be embeddings or labels."""
    read: Callable[[], Any]
    elsewhere: bool = False
    """It lies in another file, so that its shape is not known; reading it refuses, and says why."""

    def may_have(self, n_dimensions: int) -> bool:
        """Tell whether this may be an array of so many dimensions."""
        return self.elsewhere or len(self.shape) == n_dimensions


@dataclass(frozen=True)
class Contents:
    """The arrays of a file by name, and what else is stored with them."""

    path: Path
    members: dict[str, Member]
    metadata: dict[str, Any] = field(default_factory=dict)

    def named(self, name: str) -> Member:
        """Give the array of that name; the last part of a name with slashes is enough where it is unique.

        Raises
        ------
        InputError
            If there is none; lists the names found.
        """
        if name in self.members:
            return self.members[name]
        ends = [member for member in self.members if member.rpartition("/")[2] == name]
        if len(ends) == 1:
            return self.members[ends[0]]
        raise InputError(f"{self.path} holds no array {name!r}; it holds {_listed(self.members)}.")


def choose_embeddings(contents: Contents, name: str | None) -> Any:
    """Read the embeddings: the array asked for, else the one with a known name, else the only matrix.

    Raises
    ------
    InputError
        If it is not clear which array is meant; lists those found.
    """
    if name is not None:
        return contents.named(name).read()
    matrices = {member: part for member, part in contents.members.items() if part.may_have(2)}
    known = [member for member in EMBEDDING_NAMES if member in matrices]
    candidates = known or [member for member in matrices if not matrices[member].elsewhere] or list(matrices)
    if len(candidates) == 1:
        return matrices[candidates[0]].read()
    if not candidates:
        raise InputError(
            f"{contents.path} holds no two-dimensional array of numbers; it holds {_listed(contents.members)}."
        )
    raise InputError(
        f"{contents.path} holds several arrays that may be the embeddings ({_listed(candidates)}); choose one by "
        f"'{contents.path}:{candidates[0]}'."
    )


def choose_labels(contents: Contents, name: str | None, *, required: bool = False) -> Any:
    """Read the labels: the array asked for, else the one with a known name (else, if required, the only vector).

    Returns
    -------
    What the file stores, unchecked; None where there are no labels and none are required.

    Raises
    ------
    InputError
        If it is not clear which array is meant, or there is none and one is required; lists those found.
    """
    if name is not None:
        return contents.named(name).read()
    vectors = {member: part for member, part in contents.members.items() if part.may_have(1)}
    known = [member for member in vectors if member.rpartition("/")[2] in LABEL_NAMES]
    own = [member for member in vectors if not vectors[member].elsewhere] or list(vectors)
    candidates = known or (own if required else [])
    if len(candidates) == 1:
        return vectors[candidates[0]].read()
    if candidates:
        raise InputError(
            f"{contents.path} holds several arrays that may be the labels ({_listed(candidates)}); choose one by "
            f"labels='{contents.path}:{candidates[0]}'."
        )
    if required:
        raise InputError(f"{contents.path} holds no labels; it holds {_listed(contents.members)}.")
    return None


def check_codes(codes: npt.NDArray[Any], n_categories: int, name: str) -> None:
    """Check that the codes of a column of categories, negative where missing, stand for categories that are there.

    Raises
    ------
    InputError
        If one is too large; says where.
    """
    if codes.dtype.kind not in "iu":
        raise InputError(f"The categories of {name} are damaged: their codes have type {codes.dtype}, not integers.")
    wrong = np.flatnonzero(codes >= n_categories)
    if len(wrong):
        raise InputError(
            f"The categories of {name} are damaged: code {codes[wrong[0]]} in row {wrong[0]}, but there are "
            f"{n_categories} categories; write the file again."
        )


def _listed(names: Iterable[str]) -> str:
    """Names for a sentence."""
    some = list(names)
    return (", ".join(map(repr, some[:12])) + (", ..." if len(some) > 12 else "")) or "no arrays"
