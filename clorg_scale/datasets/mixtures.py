"""Synthetic embeddings of any size whose organization is known: locally dense, or compact classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array
from clorg_scale.errors import InputError
from clorg_scale.store.atomic import write_whole
from clorg_scale.store.endings import check_ending
from clorg_scale.store.readers.npy import open_npy

__all__ = ["Mixture", "compact_mixture", "locally_dense_mixture"]

_CHUNK = 4096
"""Points drawn from one seed. Fixed, so that the data do not depend on the blocks they are asked for in."""

_CENTRES, _BASIS = 1, 2
"""Kinds of random stream next to the chunks (kind 0)."""


@dataclass(frozen=True)
class Mixture:
    """Gaussian clusters of equal spread, each of one class, in a random subspace of the features.

    A point is drawn in q dimensions around the center of a random cluster of its class, mapped into the d
    features by q orthonormal rows, and a little noise is added in all of them. Real embeddings are of that
    kind: many features, few dimensions in which the points differ. Point i depends on `seed` and i alone: the
    first points of a larger set are the smaller set.

    Attributes
    ----------
    centers
        (C, m, q) float32, centers of the m clusters of each class.
    basis
        (q, d) float32 with orthonormal rows.
    class_shares
        (C,) probability of each class.
    spread
        Standard deviation of a cluster in each of the q dimensions; the centers have 1 (times a separation).
    noise
        Standard deviation of the noise in each of the d features.
    seed
        Of the points.
    """

    centers: npt.NDArray[np.float32]
    basis: npt.NDArray[np.float32]
    class_shares: npt.NDArray[np.float64]
    spread: float
    noise: float
    seed: int

    def rows(self, start: int, stop: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Draw points `start` to `stop`.

        Returns
        -------
        (stop - start, d) float32 points and (stop - start,) int64 labels.
        """
        points = np.empty((stop - start, self.basis.shape[1]), np.float32)
        labels = np.empty(stop - start, np.int64)
        for chunk in range(start // _CHUNK, -(-stop // _CHUNK)):
            first = max(start, chunk * _CHUNK)
            last = min(stop, (chunk + 1) * _CHUNK)
            within = slice(first - chunk * _CHUNK, last - chunk * _CHUNK)
            chunk_points, chunk_labels = self._chunk(chunk)
            points[first - start : last - start] = chunk_points[within]
            labels[first - start : last - start] = chunk_labels[within]
        return points, labels

    def _chunk(self, chunk: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Draw one chunk, always all of it, so that every product of matrices has one shape."""
        random = _stream(self.seed, 0, chunk)
        labels = random.choice(len(self.class_shares), size=_CHUNK, p=self.class_shares)
        clusters = random.integers(self.centers.shape[1], size=_CHUNK)
        latent = random.standard_normal((_CHUNK, len(self.basis)), dtype=np.float32)
        latent *= np.float32(self.spread)
        latent += self.centers[labels, clusters]
        points = latent @ self.basis
        points += np.float32(self.noise) * random.standard_normal(points.shape, dtype=np.float32)
        return points, labels.astype(np.int64)

    def blocks(
        self, n_points: int, block_rows: int = _CHUNK
    ) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
        """Draw the first `n_points` points in blocks of `block_rows`."""
        for start in range(0, n_points, block_rows):
            yield self.rows(start, min(n_points, start + block_rows))

    def points(
        self, n_points: int, *, dtype: npt.DTypeLike = np.float32, output: Path | str | None = None
    ) -> tuple[Array, npt.NDArray[np.int64]]:
        """Draw the first `n_points` points into an array, or block by block into a ``.npy`` file.

        Parameters
        ----------
        n_points
            n.
        dtype
            Float type of the points.
        output
            ``.npy`` file to write; the points are never in memory as a whole then.

        Returns
        -------
        (n, d) points, a read-only memory map of `output` if there is one, and (n,) int64 labels.

        Raises
        ------
        InputError
            If `output` cannot be written.
        """
        shape, dtype = (n_points, self.basis.shape[1]), np.dtype(dtype)
        labels = np.empty(n_points, np.int64)
        if output is None:
            points = np.empty(shape, dtype)
            for start, (block, block_labels) in zip(range(0, n_points, _CHUNK), self.blocks(n_points), strict=True):
                points[start : start + len(block)] = block
                labels[start : start + len(block)] = block_labels
            return points, labels
        check_ending(output, (".npy",))
        with write_whole(output) as file:
            header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start, (block, block_labels) in zip(range(0, n_points, _CHUNK), self.blocks(n_points), strict=True):
                file.write(block.astype(dtype, copy=False).data)
                labels[start : start + len(block)] = block_labels
        return open_npy(Path(output)), labels


def locally_dense_mixture(
    n_points: int,
    n_features: int,
    *,
    n_classes: int = 10,
    clusters_per_class: int = 50,
    spread: float = 0.1,
    n_dimensions: int = 16,
    class_exponent: float = 0.0,
    dtype: npt.DTypeLike = np.float32,
    seed: int = 0,
    output: Path | str | None = None,
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Draw classes that are dense only locally: each is many tight clusters, spread over the whole space.

    The clusters of all classes are mixed: neighbors agree in class, distant points do not, as in contrastive
    embeddings. RLD is high at low temperatures and near 0 at high ones.

    Parameters
    ----------
    n_points, n_features
        n and d.
    n_classes, clusters_per_class
        Classes, and clusters of each.
    spread
        Standard deviation of a cluster, where that of the centers is 1.
    n_dimensions
        Dimensions in which the points differ, apart from noise; at most `n_features`.
    class_exponent
        The share of class c is proportional to (c + 1) to the power of minus this: 0 for equal classes, 1 for
        Zipf's law.
    dtype
        Float type of the points.
    seed
        Same seed, same points: independent of `output`, and for any larger `n_points` the first ones.
    output
        ``.npy`` file to write block by block, for more points than memory holds.

    Returns
    -------
    (n, d) points, a read-only memory map of `output` if there is one, and (n,) int64 labels. Labels are drawn
    independently: a rare class may be missing from a small set.

    Raises
    ------
    InputError
        If a number makes no sense or `output` cannot be written.
    """
    mixture = _mixture(
        n_points, n_features, n_classes, clusters_per_class, spread, n_dimensions, class_exponent, seed, separation=1.0
    )
    return mixture.points(n_points, dtype=dtype, output=output)


def compact_mixture(
    n_points: int,
    n_features: int,
    *,
    n_classes: int = 10,
    spread: float = 1.0,
    separation: float = 1.5,
    n_dimensions: int = 16,
    class_exponent: float = 0.0,
    dtype: npt.DTypeLike = np.float32,
    seed: int = 0,
    output: Path | str | None = None,
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Draw classes that are globally dense: each is one cluster apart from the others, as supervised training makes.

    RLD is high at all temperatures.

    Parameters
    ----------
    spread
        Standard deviation of a class in each dimension.
    separation
        Standard deviation of the centers of the classes in each dimension.
    n_points, n_features, n_classes, n_dimensions, class_exponent, dtype, seed, output
        As for `locally_dense_mixture`.

    Returns
    -------
    As `locally_dense_mixture`.

    Raises
    ------
    InputError
        If a number makes no sense or `output` cannot be written.
    """
    mixture = _mixture(
        n_points, n_features, n_classes, 1, spread, n_dimensions, class_exponent, seed, separation=separation
    )
    return mixture.points(n_points, dtype=dtype, output=output)


def _mixture(
    n_points: int,
    n_features: int,
    n_classes: int,
    n_clusters: int,
    spread: float,
    n_dimensions: int,
    class_exponent: float,
    seed: int,
    *,
    separation: float,
) -> Mixture:
    """Draw what all points share: the centers and the subspace."""
    sizes = {
        "n_points": n_points,
        "n_features": n_features,
        "n_classes": n_classes,
        "clusters_per_class": n_clusters,
        "n_dimensions": n_dimensions,
    }
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name} must be at least 1, not {size}.")
    if not (spread > 0 and separation > 0 and class_exponent >= 0):
        raise InputError(
            f"spread ({spread}) and separation ({separation}) must be positive, class_exponent ({class_exponent}) "
            "at least 0."
        )
    dimensions = min(n_dimensions, n_features)
    shares = np.arange(1, n_classes + 1, dtype=np.float64) ** -class_exponent
    centers = _stream(seed, _CENTRES).standard_normal((n_classes, n_clusters, dimensions), dtype=np.float32)
    basis, _ = np.linalg.qr(_stream(seed, _BASIS).standard_normal((n_features, dimensions)))
    return Mixture(
        centers * np.float32(separation),
        np.ascontiguousarray(basis.T, dtype=np.float32),
        shares / shares.sum(),
        spread,
        # All noise together is a tenth of the spread of a cluster.
        0.1 * spread * float(np.sqrt(dimensions / n_features)),
        seed,
    )


def _stream(seed: int, *key: int) -> np.random.Generator:
    """Give the random stream of that key, independent of those of other keys."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
