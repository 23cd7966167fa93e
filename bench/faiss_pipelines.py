"""FAISS's pipelines for the k nearest neighbors of all points, each tuned over its efforts.

Training keeps to 64 points a list and 10 iterations, as `ivf` does: FAISS's default of 256 takes longer
and finds no better lists. `big_batch_search` is FAISS's own search by list, which `ivf` uses.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Effort", "Index", "Pipeline", "default_pipelines", "tuned_pipelines"]

Table = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Effort:
    """Search parameters, such as ``nprobe=16,k_factor_rf=6``; the empty text is the default."""

    text: str

    def number(self, name: str, default: int) -> int:
        """Value of one parameter."""
        found = re.search(rf"\b{name}=(\d+)", self.text)
        return int(found[1]) if found else default


@dataclass(frozen=True)
class Pipeline:
    """A factory string and the efforts it is tuned over, the smallest first.

    Attributes
    ----------
    factory
        For `faiss.index_factory`.
    efforts
        Search parameters to try.
    by_list
        Search with `big_batch_search`, list by list, and rank the candidates again.
    slow_build
        A graph, whose construction may take longer than the whole of another pipeline.
    """

    factory: str
    efforts: tuple[Effort, ...]
    by_list: bool = False
    slow_build: bool = False

    @property
    def name(self) -> str:
        """Name in records."""
        return f"FAISS {self.factory}{' by list' if self.by_list else ''}"


class Index:
    """A pipeline built over points.

    Parameters
    ----------
    pipeline
        The pipeline.
    X
        (n, d) float32.
    """

    def __init__(self, pipeline: Pipeline, X: npt.NDArray[np.float32]) -> None:
        import faiss

        self.pipeline, self.X = pipeline, X
        started = time.process_time()
        self.index = faiss.index_factory(X.shape[1], pipeline.factory)
        _shorten_training(self.index)
        self.index.train(_training_points(self.index, X))
        self.index.add(X)
        self.build_seconds = time.process_time() - started  # CPU seconds, as other load hardly changes them

    def search(self, rows: npt.NDArray[np.int64] | None, k: int, effort: Effort) -> Table:
        """(q, k) neighbors of points `rows` (None for all), the points themselves left out."""
        import faiss

        queries = self.X if rows is None else self.X[rows]
        own = np.arange(len(self.X)) if rows is None else rows
        if self.pipeline.by_list and len(queries) * effort.number("nprobe", 1) > 2 * self.n_lists:  # else FAISS refuses
            found = self._by_list(queries, k + 1, effort)
        else:
            if effort.text:
                faiss.ParameterSpace().set_index_parameters(self.index, effort.text)
            found = self.index.search(queries, k + 1)[1]
        return without_self(found, own)

    @property
    def n_lists(self) -> int:
        """Lists of the inverted file."""
        import faiss

        return int(faiss.extract_index_ivf(self.index).nlist)

    def _by_list(self, queries: npt.NDArray[np.float32], k: int, effort: Effort) -> Table:
        import faiss
        from faiss.contrib.big_batch_search import big_batch_search

        ivf, inner = faiss.downcast_index(faiss.extract_index_ivf(self.index)), queries
        refines = isinstance(self.index, faiss.IndexRefine)
        chain = faiss.downcast_index(self.index.base_index) if refines else self.index
        if isinstance(chain, faiss.IndexPreTransform):
            inner = chain.chain.at(0).apply(queries)
        ivf.nprobe = effort.number("nprobe", 1)
        candidates = k * effort.number("k_factor_rf", 1) if refines else k
        with redirect_stdout(None):  # it prints each list
            found = big_batch_search(ivf, inner, candidates, method="knn_function", threaded=1)[1]
        return _rank_again(faiss.downcast_index(self.index.refine_index), queries, found, k) if refines else found


def tuned_pipelines(n: int, d: int) -> Iterator[Pipeline]:
    """Pipelines that could be the fastest for n points of d features, the most promising first."""
    lists = max(1, min(round(math.sqrt(n)), n // 39))
    probes = [p for p in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96) if p <= max(1, lists // 3)] or [1]
    plain = tuple(Effort(f"nprobe={p}") for p in probes)

    def refined(*factors: int) -> tuple[Effort, ...]:
        return tuple(Effort(f"nprobe={p},k_factor_rf={f}") for p in probes[2:-2] or probes for f in factors)

    axes = sorted({p for p in (32, 64, 112) if p <= d // 2} or {max(2, d // 2)}, reverse=True)
    for p in axes:
        yield Pipeline(f"PCA{p},IVF{lists},Flat,RFlat", refined(2, 6))
        yield Pipeline(f"PCA{p},IVF{lists},Flat,RFlat", refined(6), by_list=True)
        if p % 2 == 0:
            yield Pipeline(f"PCA{p},IVF{lists},PQ{p // 2}x4fs,RFlat", refined(6, 16))
    if axes[0] % 2 == 0:
        codes = f"IVF{lists},PQ{axes[0] // 2}x4fs"
        yield Pipeline(f"PCA{axes[0]},{codes},Refine(SQfp16)", refined(6, 16))
        yield Pipeline(f"OPQ{axes[0] // 2}_{axes[0]},{codes},RFlat", refined(6, 16))
    if n > 200_000:
        yield Pipeline(f"PCA{axes[0]},IVF{4 * lists},Flat,RFlat", refined(2, 6))
    yield Pipeline(f"IVF{lists},Flat", plain, by_list=True)
    yield Pipeline(f"IVF{lists},Flat", plain)
    if d % 8 == 0:
        yield Pipeline(f"IVF{lists},PQ{d // 4}x4fs,RFlat", refined(4, 16))
        if n <= 200_000:  # quadratic
            yield Pipeline(f"PQ{d // 4}x4fs,RFlat", tuple(Effort(f"k_factor_rf={f}") for f in (4, 16, 64)))
    yield Pipeline("HNSW32,Flat", tuple(Effort(f"efSearch={ef}") for ef in (16, 24, 32, 48, 96, 192)), slow_build=True)
    yield Pipeline("NSG32,Flat", (Effort(""),), slow_build=True)


def default_pipelines(n: int, d: int) -> Iterator[Pipeline]:
    """Pipelines as a user types them, without search parameters."""
    del d
    lists = max(1, min(round(math.sqrt(n)), n // 39))
    yield Pipeline(f"IVF{lists},Flat", (Effort(""),))
    yield Pipeline("HNSW32,Flat", (Effort(""),))


def without_self(found: npt.NDArray[Any], own: npt.NDArray[np.int64]) -> Table:
    """Drop the point itself from k + 1 neighbors, or the last one where it is not among them."""
    found = np.asarray(found, dtype=np.int64)
    is_self = found == own[:, None]
    column = np.where(is_self.any(axis=1), is_self.argmax(axis=1), found.shape[1] - 1)
    keep = np.arange(found.shape[1]) != column[:, None]
    return found[keep].reshape(len(found), -1)


def _rank_again(flat: Any, queries: npt.NDArray[np.float32], found: Table, k: int) -> Table:
    """The k nearest of the candidates by their distances in all features, as `IndexRefine` ranks them."""
    import faiss

    queries, found = np.ascontiguousarray(queries), np.ascontiguousarray(found)
    keys = np.empty(found.shape, np.float32)
    pointers = (faiss.swig_ptr(part) for part in (keys, found))
    flat.compute_distance_subset(len(found), faiss.swig_ptr(queries), found.shape[1], *pointers)
    keys[found < 0] = np.inf
    best = np.argpartition(keys, k - 1, axis=1)[:, :k] if k < found.shape[1] else np.argsort(keys, axis=1)
    return np.take_along_axis(found, best, axis=1)


def _shorten_training(index: Any) -> None:
    import faiss

    try:
        ivf = faiss.extract_index_ivf(index)
    except RuntimeError:
        return
    ivf.cp.niter, ivf.cp.max_points_per_centroid = 10, 64
    outer = faiss.downcast_index(index.base_index) if isinstance(index, faiss.IndexRefine) else index
    for number in range(outer.chain.size() if isinstance(outer, faiss.IndexPreTransform) else 0):
        rotation = faiss.downcast_VectorTransform(outer.chain.at(number))
        if isinstance(rotation, faiss.OPQMatrix):
            rotation.niter, rotation.max_train_points = 10, 64 * ivf.nlist


def _training_points(index: Any, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Take as many points as training does: FAISS would pass all of them through PCA first."""
    import faiss

    try:
        wanted = 64 * faiss.extract_index_ivf(index).nlist
    except RuntimeError:
        wanted = 65_536
    if wanted >= len(X):
        return X
    return X[np.sort(np.random.default_rng(0).choice(len(X), size=wanted, replace=False))]
