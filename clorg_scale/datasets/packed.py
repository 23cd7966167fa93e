"""Many encoded images in each of a few files, read one by one in place: tar shards, Arrow and Parquet tables."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from clorg_scale.datasets.decoding import Encoded, decode_square
from clorg_scale.datasets.images import ImageFiles

__all__ = ["Members", "PackedImages"]


class Members(Protocol):
    """Encoded images by their row; small, as it is sent to the workers that read them."""

    def content(self, row: int) -> bytes:
        """Encoded image.

        Raises
        ------
        InputError
            If its file cannot be read, or holds no image there.
        """
        ...

    def name_of(self, row: int) -> str:
        """Name of an image in messages."""
        ...

    def taken(self, rows: npt.NDArray[np.int64]) -> Members:
        """Images of some rows, in the order given."""
        ...

    def digest(self) -> bytes:
        """Digest of where in its file each image lies."""
        ...


@dataclass(frozen=True)
class PackedImages(ImageFiles):
    """Encoded images within files; `paths` names the file of each image.

    Attributes
    ----------
    members
        Where in the files they are.
    """

    members: Members = field(kw_only=True)

    def batch_on(self, rows: npt.NDArray[np.int64], device: Any) -> Any:
        """(b, 3, h, w) of the given rows as a tensor on a GPU, as of `ImageFiles`."""
        from clorg_scale.datasets.jpeg import decode_squares

        encoded = list(self._threads.map(self._encoded, rows.tolist()))
        return decode_squares(encoded, self.image_size, device, self._threads)

    def digest(self) -> str:
        """Digest of files, the positions of the images in them, labels and size, as of `ImageFiles`."""
        return hashlib.blake2b(super().digest().encode() + self.members.digest(), digest_size=16).hexdigest()

    def name_of(self, row: int) -> str:
        """Name of an image in messages."""
        return self.members.name_of(row)

    def _taken(self, rows: npt.NDArray[np.int64]) -> Self:
        return replace(super()._taken(rows), members=self.members.taken(rows))

    def _encoded(self, row: int) -> Encoded:
        return Encoded(self.members.content(row), self.name_of(row))

    def _decoded(self, row: int) -> npt.NDArray[np.uint8]:
        return decode_square(self.members.content(row), self.image_size, name=self.name_of(row))
