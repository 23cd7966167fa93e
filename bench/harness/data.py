"""Standard data: Fashion-MNIST, the shipped embeddings, mixtures of known structure, ann-benchmarks' HDF5 files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.datasets import (
    compact_mixture,
    load_fashion_mnist,
    load_fashion_mnist_embeddings,
    locally_dense_mixture,
)
from clorg_scale.errors import InputError, require

__all__ = ["DATA", "Data", "load_ann_benchmarks", "load_data"]

DATA = ("fashion-mnist", "contrastive", "supervised", "mixture", "compact")
"""Names; a path to an .hdf5 file of ann-benchmarks is data, too."""


class Data(NamedTuple):
    """Points to measure on.

    Attributes
    ----------
    name
        What they are called in records.
    X
        (n, d) float32.
    y
        (n,) labels; None where the data have none.
    """

    name: str
    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64] | None

    @property
    def shape(self) -> str:
        """Name, n and d."""
        return f"{self.name} {len(self.X):,} x {self.X.shape[1]}"


def load_data(name: str, n: int | None = None, d: int | None = None, *, seed: int = 0, classes: int = 10) -> Data:
    """Load points by name.

    Parameters
    ----------
    name
        One of `DATA`, or the path of an HDF5 file of ann-benchmarks. Where Fashion-MNIST is not installed, a mixture of
        its size stands in, under its own name.
    n
        Number of points, the first; None for all (mixtures: 60,000).
    d
        Features of a mixture; other data have their own, and refuse another.
    seed, classes
        Of a mixture.

    Raises
    ------
    InputError
        If there are no such data, or not as many points or features.
    """
    if name in ("mixture", "compact"):
        draw = locally_dense_mixture if name == "mixture" else compact_mixture
        X, y = draw(n or 60_000, d or 128, n_classes=classes, seed=seed)
        return Data(name, np.asarray(X), y)
    data = _load(name, n, seed)
    if n is not None and n > len(data.X):
        raise InputError(f"{name} has {len(data.X):,} points, not {n:,}; ask for fewer, or for --data mixture.")
    if d is not None and d != data.X.shape[1]:
        raise InputError(
            f"{name} has {data.X.shape[1]} features, not {d}; leave --features out, or use --data mixture."
        )
    return Data(data.name, np.ascontiguousarray(data.X[:n]), None if data.y is None else data.y[:n])


def load_ann_benchmarks(path: Path | str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Any]:
    """Read an HDF5 file of ann-benchmarks.

    Returns
    -------
    (n, d) float32 points, (q, d) float32 queries, (q, k) int64 true neighbors of the queries.

    Raises
    ------
    InputError
        If the file is another, or its distance is not Euclidean or angular.
    """
    h5py = require("h5py", extra="interop", purpose="Reading ann-benchmarks' files")
    if not Path(path).is_file():
        raise InputError(
            f"There is no file {path}; data are one of {', '.join(DATA)} or an .hdf5 file of ann-benchmarks."
        )
    try:
        with h5py.File(path, "r") as file:
            distance = str(file.attrs.get("distance", "euclidean"))
            train, test, neighbors = (np.asarray(file[name]) for name in ("train", "test", "neighbors"))
    except (OSError, KeyError) as error:
        raise InputError(
            f"{path} is not a file of ann-benchmarks ({error}); it must hold train, test and neighbors."
        ) from None
    if distance not in ("euclidean", "angular"):
        raise InputError(f"{path} has the distance {distance!r}; only euclidean and angular ones can be measured.")
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or len(neighbors) != len(test):
        raise InputError(
            f"{path} is not a file of ann-benchmarks: train is {train.shape}, test {test.shape}, neighbors "
            f"{neighbors.shape}."
        )
    train, test = (np.ascontiguousarray(part, dtype=np.float32) for part in (train, test))
    if distance == "angular":  # Euclidean distances of unit vectors rank as angles do
        train, test = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-30) for part in (train, test))
    return train, test, neighbors.astype(np.int64)


def _load(name: str, n: int | None, seed: int) -> Data:
    if name == "fashion-mnist":
        try:
            images, labels = load_fashion_mnist("train")
        except InputError:
            X, y = locally_dense_mixture(n or 60_000, 784, seed=seed)
            return Data("mixture in place of fashion-mnist", np.asarray(X), y)
        images, labels = images[:n], labels[:n]
        return Data(name, images.reshape(len(images), -1) / np.float32(255), labels)
    if name in ("contrastive", "supervised"):
        stored = load_fashion_mnist_embeddings(name, "train")  # type: ignore[arg-type]
        return Data(name, np.asarray(stored.embeddings, dtype=np.float32), np.asarray(stored.labels))
    train, _, _ = load_ann_benchmarks(name)
    return Data(Path(name).stem, train, None)
