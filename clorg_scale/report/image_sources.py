"""Images of the points, in the order of the embeddings: a folder, an idx file, or a column of a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from clorg_scale.counted import counted
from clorg_scale.datasets.decoding import decode_square
from clorg_scale.datasets.folders import IMAGE_ENDINGS, read_class_folders
from clorg_scale.datasets.idx import is_idx, read_idx
from clorg_scale.errors import InputError, require

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ImageSource", "open_images"]


class ImageSource(Protocol):
    """Images by the row of their embedding."""

    def read(self, rows: Sequence[int], side: int) -> list[Image.Image]:
        """Images of rows in ascending order, about `side` pixels wide; smaller ones as they are."""
        ...


def open_images(path: str | Path, n_points: int) -> ImageSource:
    """Open the images of embeddings, without reading them.

    Parameters
    ----------
    path
        A folder of images (with a subfolder for each class: class by class, as `clorg-scale embed` and torchvision's
        ImageFolder take them; else by name), an idx file as of MNIST, or a Parquet file with a column of encoded
        images, as of Hugging Face.
    n_points
        Number of embeddings, which that of the images must equal.

    Raises
    ------
    InputError
        If there are no images, another number of them, or the file is none of these.
    MissingDependencyError
        If Pillow is not installed, or for Parquet pyarrow.
    """
    path = Path(path)
    require("PIL.Image", extra="plot", purpose="Showing images")
    source: _Files | _Array | _Column
    if path.is_dir():
        source = _Files(_listed(path))
    elif not path.exists():
        raise InputError(f"There are no images at {path}; give a folder, an idx file or a Parquet file.")
    elif path.suffix == ".parquet":
        source = _Column(path)
    elif "idx" in path.name or is_idx(path):
        source = _Array(_grayscale(path))
    else:
        raise InputError(
            f"{path} is neither a folder, nor an idx file (MNIST's format), nor a .parquet file; give one of these."
        )
    if len(source) != n_points:
        raise InputError(
            f"{path} holds {counted(len(source), 'image')}, but there are {n_points:,} points; give the images of "
            "these points, in their order."
        )
    return source


def _listed(folder: Path) -> list[str]:
    """Paths of the images in a folder, in the order of their embeddings."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    images = [str(entry) for entry in entries if entry.is_file() and entry.name.lower().endswith(IMAGE_ENDINGS)]
    if images and any(entry.is_dir() for entry in entries):
        raise InputError(
            f"{folder} holds both images and folders; give a folder of images, or one with a folder for each class."
        )
    return images or read_class_folders(folder).paths


def _grayscale(path: Path) -> npt.NDArray[np.uint8]:
    values = read_idx(path)
    if values.ndim != 3 or 0 in values.shape[1:]:
        raise InputError(
            f"{path} holds an array of shape {values.shape}, not (n, height, width); give the images' file."
        )
    return values


class _Files:
    """Image files."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, rows: Sequence[int], side: int) -> list[Image.Image]:
        return [_image(decode_square(self._paths[row], side)) for row in rows]


class _Array:
    """(n, height, width) gray values."""

    def __init__(self, values: npt.NDArray[np.uint8]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def read(self, rows: Sequence[int], side: int) -> list[Image.Image]:
        from PIL import Image

        return [Image.fromarray(self._values[row]) for row in rows]


class _Column:
    """Encoded images in a Parquet file: a column of bytes, or of structures with ``bytes``."""

    def __init__(self, path: Path) -> None:
        parquet = require("pyarrow.parquet", extra="interop", purpose="Reading .parquet files")
        import pyarrow

        self._path = path
        try:
            with parquet.ParquetFile(path) as file:
                schema, self._n = file.schema_arrow, file.metadata.num_rows
                self._groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        except (OSError, pyarrow.ArrowException) as error:
            raise InputError(f"{path} is not a Parquet file, or it is truncated ({error}).") from error
        found = [field.name for field in schema if _holds_bytes(field.type)]
        if len(found) != 1:
            which = f"{len(found)} columns of bytes ({', '.join(found)})" if found else "no column of encoded images"
            raise InputError(f"{path} has {which}; give a file with one column of encoded images.")
        self._name = found[0]

    def __len__(self) -> int:
        return int(self._n)

    def read(self, rows: Sequence[int], side: int) -> list[Image.Image]:
        import pyarrow
        import pyarrow.parquet

        images, begin = [], 0
        try:
            with pyarrow.parquet.ParquetFile(self._path) as file:
                for group, size in enumerate(self._groups):
                    wanted = [row - begin for row in rows if begin <= row < begin + size]
                    if wanted:
                        column = file.read_row_group(group, columns=[self._name]).column(0).take(wanted)
                        images += [
                            self._decode(value.as_py(), begin + at, side)
                            for value, at in zip(column, wanted, strict=True)
                        ]
                    begin += size
        except (OSError, pyarrow.ArrowException) as error:
            raise InputError(f"{self._path} is damaged ({error}).") from error
        return images

    def _decode(self, value: Any, row: int, side: int) -> Image.Image:
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None:
            raise InputError(f"{self._path} holds no image in row {row}; write the images themselves into the file.")
        return _image(decode_square(content, side, name=f"in row {row} of {self._path}"))


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _image(square: npt.NDArray[np.uint8]) -> Image.Image:
    """Image of (3, size, size) colors."""
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(square.transpose(1, 2, 0)))
