"""Synthetic embeddings of any size and known organization: locally dense or compact classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array
from clorg_scale.store.atomic import write_whole
from clorg_scale.store.endings import check_ending
from clorg_scale.store.readers.npy import open_npy
from clorg_scale.whole import real_number, whole_number

__all__ = ["Mixture", "compact_mixture", "locally_dense_mixture"]

_CHUNK = 4096
"""Points drawn from one seed; fixed, so that the data do not depend on the size of the blocks asked for."""

_CENTERS, _BASIS = 1, 2
"""Keys of the random streams beside that of the chunks, 0."""


@dataclass(frozen=True)
class Mixture:
    """Gaussian clusters of equal spread, each of one class, in a random subspace of the features.

    A point is drawn in q dimensions around the center of a random cluster of its class and mapped to the d
    features by q orthonormal rows; a little noise is added to every feature. Real embeddings are similar: they have
    many features, but differ in few dimensions. Point i depends on `seed` and i alone, so the first points of a
    larger set are the smaller set.

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
        Seed of the points.
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

        Raises
        ------
        InputError
            If one of them is not a whole number of 0 or more.
        """
        start, stop = whole_number("start", start, 0), whole_number("stop", stop, 0)
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
        """Draw a whole chunk, so that every matrix product has the same shape."""
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
        """Draw the first `n_points` points in blocks of `block_rows`.

        Raises
        ------
        InputError
            If one of them is not a positive whole number.
        """
        n_points = whole_number("n_points", n_points, 1)
        block_rows = whole_number("block_rows", block_rows, 1)
        for start in range(0, n_points, block_rows):
            yield self.rows(start, min(n_points, start + block_rows))

    def points(
        self, n_points: int, *, dtype: npt.DTypeLike = np.float32, output: Path | str | None = None
    ) -> tuple[Array, npt.NDArray[np.int64]]:
        """Draw the first `n_points` points into an array, or block by block into a ``.npy`` file.

        Parameters
        ----------
        n_points
            Number of points, n.
        dtype
            Float type of the points.
        output
            ``.npy`` file to write; the points are then never in memory as a whole.

        Returns
        -------
        (n, d) points, a read-only memory map of `output` if there is one, and (n,) int64 labels.

        Raises
        ------
        InputError
            If `n_points` is not a positive whole number, or `output` cannot be written.
        """
        n_points = whole_number("n_points", n_points, 1)
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
    """Draw classes that are dense only locally: each consists of many tight clusters, spread over the whole space.

    The clusters of all classes are mixed, so neighbors agree in class and distant points do not, as in contrastive
    embeddings. RLD is high at low temperatures and near 0 at high ones.

    Parameters
    ----------
    n_points, n_features
        Number of points n and of features d.
    n_classes, clusters_per_class
        Number of classes, and of clusters in each.
    spread
        Standard deviation of a cluster; that of the centers is 1.
    n_dimensions
        Dimensions in which the points differ, apart from noise; at most `n_features`.
    class_exponent
        Exponent a of the class sizes: the share of class c is proportional to (c + 1)^-a. 0 gives equal classes,
        1 Zipf's law.
    dtype
        Float type of the points.
    seed
        Seed of the points: the same seed gives the same points, whatever `output` is, and a larger `n_points` begins
        with them.
    output
        ``.npy`` file to write block by block, for more points than memory holds.

    Returns
    -------
    (n, d) points, a read-only memory map of `output` if there is one, and (n,) int64 labels. Labels are drawn
    independently: a rare class may be missing from a small set.

    Raises
    ------
    InputError
        If a number is out of range or `output` cannot be written.
    """
    mixture = _mixture(
        n_points,
        n_features,
        n_classes=n_classes,
        n_clusters=clusters_per_class,
        spread=spread,
        separation=1.0,
        n_dimensions=n_dimensions,
        class_exponent=class_exponent,
        seed=seed,
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
    """Draw classes that are globally dense: each is one separate cluster, as supervised training produces.

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
        If a number is out of range or `output` cannot be written.
    """
    mixture = _mixture(
        n_points,
        n_features,
        n_classes=n_classes,
        n_clusters=1,
        spread=spread,
        separation=separation,
        n_dimensions=n_dimensions,
        class_exponent=class_exponent,
        seed=seed,
    )
    return mixture.points(n_points, dtype=dtype, output=output)


def _mixture(
    n_points: int,
    n_features: int,
    *,
    n_classes: int,
    n_clusters: int,
    spread: float,
    separation: float,
    n_dimensions: int,
    class_exponent: float,
    seed: int,
) -> Mixture:
    """Draw what all points share: the centers and the subspace."""
    whole_number("n_points", n_points, 1)
    n_features = whole_number("n_features", n_features, 1)
    n_classes = whole_number("n_classes", n_classes, 1)
    n_clusters = whole_number("clusters_per_class", n_clusters, 1)
    n_dimensions = min(whole_number("n_dimensions", n_dimensions, 1), n_features)
    seed = whole_number("seed", seed, 0)
    spread = real_number("spread", spread, positive=True)
    separation = real_number("separation", separation, positive=True)
    class_exponent = real_number("class_exponent", class_exponent)
    shares = np.arange(1, n_classes + 1, dtype=np.float64) ** -class_exponent
    centers = _stream(seed, _CENTERS).standard_normal((n_classes, n_clusters, n_dimensions), dtype=np.float32)
    basis, _ = np.linalg.qr(_stream(seed, _BASIS).standard_normal((n_features, n_dimensions)))
    return Mixture(
        centers * np.float32(separation),
        np.ascontiguousarray(basis.T, dtype=np.float32),
        shares / shares.sum(),
        spread,
        # All noise together is a tenth of the spread of a cluster.
        0.1 * spread * float(np.sqrt(n_dimensions / n_features)),
        seed,
    )


def _stream(seed: int, *key: int) -> np.random.Generator:
    """Random stream of a key, independent of those of other keys."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
