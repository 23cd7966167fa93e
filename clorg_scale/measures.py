"""Measures of the classes in embeddings: class homogeneity of neighborhoods, Calinski-Harabasz."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from clorg_scale.arrays import (
    UNLABELLED,
    Array,
    ClassLabels,
    array_module,
    as_embeddings,
    column_means,
    encode_labels,
    on_host,
    row_block,
    row_slices,
    to_unit_range,
    within_device_memory,
)
from clorg_scale.counted import counted
from clorg_scale.errors import InputError
from clorg_scale.neighbors.result import KNN
from clorg_scale.numerics.compiler import njit
from clorg_scale.numerics.threads import Rows, over_rows
from clorg_scale.whole import whole_number

__all__ = ["calinski_harabasz", "class_homogeneity", "class_homogeneity_stderr"]

DEVICE_BLOCK_BYTES = 256 << 20
"""Device memory of a block of embeddings, in their own dtype and twice in float64."""


@within_device_memory("the class homogeneity", "use a k-NN table in main memory")
def class_homogeneity(
    knn: KNN, labels: Any, *, ks: Iterable[int] | None = None, unlabelled: int | str | None = UNLABELLED
) -> dict[int, float]:
    r"""Class homogeneity index: how often near neighbors share a point's class.

    .. math:: \mathrm{CHI}(k) = \frac{1}{q} \sum_i \frac{1}{k} \sum_{j \in N_k(i)} [y_j = y_i]

    over the q labeled points of the table (arXiv 2305.10229, which uses cosine neighbors and k = 1, 10,
    100, 500, 1000). All k come from one pass over the table: O(q k) time, O(block) memory.

    Points without a label are left out as queries; as neighbors they count as not matching, since they
    are among the nearest.

    Parameters
    ----------
    knn
        Table of all points, or of a sample (`clorg_scale.neighbors.knn_of`).
    labels
        (n,) class of every point searched.
    ks
        Values of k, each from 1 to `knn.k`; default: 1, 2, 5, 10, 20, 50, ... as far as the table goes, and
        the table's own k.
    unlabelled
        The label of points without a class; None: every label, -1 too, is a class.

    Returns
    -------
    CHI(k) in 0 .. 1 by k, ascending.

    Raises
    ------
    InputError
        If labels do not fit the points, a k is out of range, no point of the table is labeled, or the
        rows of the table are not among the points.

    Warns
    -----
    UserWarning
        If the table's metric is not the cosine, which changes the numbers; if -1 looks like a class.
    """
    if knn.metric != "cosine":
        warnings.warn(
            f"Class homogeneity is defined on cosine neighbors; on this table of the {knn.metric} metric it is "
            "another quantity. Compare models by tables of one metric: knn(..., metric='cosine').",
            stacklevel=4,
        )
    classes = encode_labels(labels, knn.n_points, unlabelled=unlabelled)
    counts = _checked_ks(knn, ks)
    shares = [_shares(block) for block in _match_counts(knn, classes, counts)]
    total = np.sum([sums for sums, _, _ in shares], axis=0)
    n_queries = sum(n for _, _, n in shares)
    return {k: float(total[position]) / (n_queries * k) for position, k in enumerate(counts)}


def class_homogeneity_stderr(
    knn: KNN, labels: Any, *, ks: Iterable[int] | None = None, unlabelled: int | str | None = UNLABELLED
) -> dict[int, float]:
    """Estimate the standard error of `class_homogeneity` where the table is a sample of the points.

    The standard deviation of the points' shares over sqrt(q), times sqrt(1 - q / n) for sampling without
    replacement from n labeled points: 0 for a table of all points.

    Parameters
    ----------
    knn, labels, ks, unlabelled
        As for `class_homogeneity`.

    Returns
    -------
    Standard error by k; NaN if the table has a single labeled row and there are more points.
    """
    counts = _checked_ks(knn, ks)
    classes = encode_labels(labels, knn.n_points, unlabelled=unlabelled)
    n_labeled = int(classes.counts.sum())
    shares = [_shares(block) for block in _match_counts(knn, classes, counts)]
    q = sum(n for _, _, n in shares)
    if q >= n_labeled:
        return dict.fromkeys(counts, 0.0)
    if q == 1:
        return dict.fromkeys(counts, float("nan"))
    total = np.sum([sums for sums, _, _ in shares], axis=0).astype(np.float64)
    squares = np.sum([squares for _, squares, _ in shares], axis=0).astype(np.float64)
    variance = np.maximum(squares - total**2 / q, 0) / (q - 1)
    errors = np.sqrt(variance / q * (1 - q / n_labeled))
    return {k: float(error) / k for k, error in zip(counts, errors, strict=True)}


def _checked_ks(knn: KNN, ks: Iterable[int] | None) -> list[int]:
    """Distinct values of k, ascending."""
    if ks is None:
        series = (digit * 10**power for power in range(10) for digit in (1, 2, 5))
        return sorted({k for k in series if k <= knn.k} | {knn.k})
    width = ", the width of the k-NN table"
    try:
        chosen = {whole_number("Each k", k, 1, knn.k, where=width) for k in ks}
    except TypeError:
        raise InputError(f"ks must be a list of whole numbers, not {ks!r}.") from None
    if not chosen:
        raise InputError("ks is empty; give at least one k, or None for the default ones.")
    return sorted(chosen)


def _match_counts(knn: KNN, classes: ClassLabels, ks: list[int]) -> Iterable[Array]:
    """(b, len(ks)) int64 for the labeled rows of each block: class mates among the first k neighbors."""
    xp = array_module(knn.indices)
    codes = xp.asarray(classes.codes)
    owners = xp.asarray(knn.query_points())
    if bool((owners < 0).any()):
        raise InputError(
            "Class homogeneity needs a k-NN table of the labeled points themselves, not one of other points."
        )
    if not bool((codes[owners] >= 0).any()):
        raise InputError("No point of the k-NN table has a label, so class homogeneity is not defined.")
    if xp is not np:
        from clorg_scale.kernels.graph import class_matches

        try:
            matches = class_matches(knn.indices, owners, codes.astype(np.int32), ks)
        except ValueError as error:
            raise InputError(str(error)) from error
        yield matches[codes[owners] >= 0].astype(np.int64)
        return
    for rows in row_slices(len(owners), knn.k, itemsize=17):
        own = codes[owners[rows]]
        yield _class_matches(knn.indices[rows], own, codes, np.asarray(ks))[own >= 0]


def _class_matches(neighbors: Any, own: Any, codes: Any, ks: Any) -> np.ndarray:
    """(q, len(ks)) neighbors of class `own` (q,) among the first k, for ascending k (`kernels/class_matches.cu`)."""
    counts = np.empty((len(own), len(ks)), np.int64)
    over_rows(_count_matches, len(own), neighbors.shape[1], neighbors, (own, codes), ks, counts)
    return counts


@njit(nogil=True, cache=True)
def _count_matches(rows: Rows, neighbors: Any, classes: tuple[Any, Any], ks: Any, counts: Any) -> None:
    own, codes = classes
    for i in range(rows[0], rows[1]):
        matches, first = 0, 0
        for position in range(len(ks)):
            for c in range(first, ks[position]):
                j = neighbors[i, c]
                matches += j >= 0 and codes[j] == own[i]
            first = ks[position]
            counts[i, position] = matches


def _shares(counts: Array) -> tuple[np.ndarray, np.ndarray, int]:
    """Sum counts and their squares over rows (exact integers); also the number of rows."""
    return on_host(counts.sum(axis=0)), on_host((counts * counts).sum(axis=0)), len(counts)


def calinski_harabasz(embeddings: Any, labels: Any, *, unlabelled: int | str | None = UNLABELLED) -> float:
    r"""Calinski-Harabasz index: variance between classes over variance within them.

    .. math:: \mathrm{CH} = \frac{\sum_c n_c |m_c - m|^2 / (C - 1)}{\sum_i |x_i - m_{y_i}|^2 / (n - C)}

    as scikit-learn's `calinski_harabasz_score`, but in two passes of row blocks in float64, with the overall
    mean subtracted before anything is summed or squared, so that an offset common to all points costs no
    digits. On a GPU one pass in class order suffices: squares are those of differences to one member of the class.
    Points without a label are left out.

    Parameters
    ----------
    embeddings
        (n, d) of any array library and real dtype, memory maps included.
    labels
        (n,) class of each point.
    unlabelled
        The label of points without a class; None: every label, -1 too, is a class.

    Returns
    -------
    CH >= 0; infinity if classes differ and no point differs from the others of its class, 1.0 if all labeled points
    are identical (as scikit-learn). It does not change under scaling: points however small or large are scaled by a
    power of two first.

    Raises
    ------
    InputError
        If values are NaN or infinite, labels do not fit, or every labeled point is a class of its own.
    """
    embeddings = as_embeddings(embeddings)
    classes = encode_labels(labels, embeddings.shape[0], unlabelled=unlabelled)
    counts = classes.counts
    n, n_classes = int(counts.sum()), len(counts)
    if n <= n_classes:
        raise InputError(
            f"Calinski-Harabasz needs more labeled points than classes; there are {n} points in "
            f"{counted(n_classes, 'class')}."
        )
    embeddings, offset, _ = to_unit_range(embeddings)
    offset = column_means(embeddings) if offset is None else offset
    if array_module(embeddings) is np:
        firsts, means = _class_means(embeddings, classes, offset)
        within = _within_squares(embeddings, classes, offset, firsts, means)
        centers = firsts + means
    else:
        centers, within = _means_and_squares(embeddings, classes, offset)
    spread = centers - counts / n @ centers
    between = 0.0 if bool((centers == centers[0]).all()) else float(counts @ (spread**2).sum(axis=1))
    if within == 0:
        return 1.0 if between == 0 else float("inf")
    return between / within * (n - n_classes) / (n_classes - 1)


@within_device_memory("the Calinski-Harabasz index", "pass embeddings in main memory")
def _means_and_squares(embeddings: Array, classes: ClassLabels, offset: Array) -> tuple[np.ndarray, float]:
    """(C, d) class means relative to `offset`, and the sum of squared distances from them, in one pass on a GPU.

    Rows come in the order of their classes, so a block has few of them: a product with rows of ones sums each. What is
    summed are differences to the first member s of each class, sum |x - m|^2 = sum |x - s|^2 - |sum (x - s)|^2 / n,
    of which both are about as large as the result, so no digits are lost.
    """
    xp, (n_rows, d) = array_module(embeddings), embeddings.shape
    order = xp.argsort(xp.asarray(classes.codes), kind="stable")
    ends = n_rows - int(classes.counts.sum()) + np.cumsum(classes.counts)  # first are the rows without a label
    starts = ends - classes.counts
    firsts = embeddings[order[xp.asarray(starts)]].astype(np.float64)
    sums, squares = xp.zeros((len(starts), d), dtype=np.float64), xp.zeros((), dtype=np.float64)
    for rows in row_slices(n_rows - int(starts[0]), d, itemsize=24, block_bytes=DEVICE_BLOCK_BYTES):
        start, stop = rows.start + int(starts[0]), rows.stop + int(starts[0])
        here = slice(int(np.searchsorted(ends, start, side="right")), int(np.searchsorted(starts, stop, side="left")))
        numbers = xp.arange(start, stop)
        members = (numbers >= xp.asarray(starts[here])[:, None]) & (numbers < xp.asarray(ends[here])[:, None])
        apart = embeddings[order[start:stop]].astype(np.float64)
        apart -= firsts[here][members.argmax(axis=0)]
        sums[here] += members.astype(np.float64) @ apart
        squares += xp.dot(apart.reshape(-1), apart.reshape(-1))
    counts = xp.asarray(classes.counts)[:, None]
    within = float(squares - (sums * sums / counts).sum())
    return np.asarray(on_host(firsts - offset + sums / counts)), max(within, 0.0)


def _class_means(embeddings: Array, classes: ClassLabels, offset: Array) -> tuple[np.ndarray, np.ndarray]:
    """(C, d) float64 the first point of each class, relative to `offset`, and the mean of the class relative to it.

    So the mean of equal points is exactly that point, and nothing is left within the class.
    """
    xp = array_module(embeddings)
    labeled = np.flatnonzero(classes.codes >= 0)
    first_rows = labeled[np.unique(classes.codes[labeled], return_index=True)[1]]
    firsts = row_block(embeddings, xp.asarray(first_rows), dtype=np.float64, mean=offset)
    sums = xp.zeros((len(classes.names), embeddings.shape[1]), dtype=np.float64)
    for rows in row_slices(*embeddings.shape, itemsize=24):
        codes = xp.asarray(classes.codes[rows])
        block = row_block(embeddings, rows, dtype=np.float64, mean=offset) - firsts[xp.maximum(codes, 0)]
        sums += _class_sums(block, codes, len(sums))
    return np.asarray(on_host(firsts)), np.asarray(on_host(sums) / classes.counts[:, None])


def _class_sums(block: Array, codes: Array, n_classes: int) -> Array:
    """(C, d) sums of the block's rows by class, those of class -1 left out."""
    xp = array_module(block)
    order = xp.argsort(codes, kind="stable")
    starts = [int(start) for start in xp.searchsorted(codes[order], xp.arange(n_classes + 1))]
    sums = xp.zeros((n_classes, block.shape[1]), dtype=np.float64)
    for number in range(n_classes):
        members = order[starts[number] : starts[number + 1]]
        if len(members):
            sums[number] = block[members].sum(axis=0)
    return sums


def _within_squares(
    embeddings: Array, classes: ClassLabels, offset: Array, firsts: np.ndarray, means: np.ndarray
) -> float:
    """Sum of squared distances of the labeled points to their class means."""
    xp = array_module(embeddings)
    firsts, means = xp.asarray(firsts), xp.asarray(means)
    total = 0.0
    for rows in row_slices(*embeddings.shape, itemsize=24):
        codes = xp.asarray(classes.codes[rows])
        labeled = xp.flatnonzero(codes >= 0)
        block = row_block(embeddings, rows, dtype=np.float64, mean=offset)[labeled]
        block -= firsts[codes[labeled]]
        block -= means[codes[labeled]]
        total += float(xp.einsum("ij,ij->", block, block))
    return total
