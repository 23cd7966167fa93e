"""Which library searches: exact engines by device, indexes by name, `auto` by size."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from clorg_scale.arrays import Array, array_module, on_host
from clorg_scale.errors import InputError
from clorg_scale.neighbors.algorithms.candidates import Candidates
from clorg_scale.neighbors.exact import BlockSearch, PairSearch
from clorg_scale.neighbors.points import Points, hold

__all__ = ["Build", "approximate_index", "automatic_index", "exact_engine"]

Build = Callable[..., Candidates]
"""(points, k, *, seed) -> the filled index."""

FLAT_WORK = {"cpu": 3e11, "cuda": 5e14}
"""n^2 d up to which `auto` searches exactly. CPU: about 5 s on two cores, where the inverted file takes 1.5 s
and is not exact; GPU: tens of seconds on one that multiplies float32 at 40 TFLOP/s."""

FLAT_POINTS = 5000
"""Points up to which `auto` always searches exactly."""

TENSOR_CORE_FEATURES = 256
"""Features from which on a GPU the products take most of the time: tensor cores do them in tf32 some eight times as
fast as cuVS and FAISS, which multiply float32 (1.28M x 2048: 6.7e15 FLOP, 17 s at 400 TFLOP/s, 110 s at 60)."""

FLAT_SHARE = 1 / 20
"""Share of all points that k may be before `auto` searches exactly, as most lists would have to be probed."""


def automatic_index(points: Points, k: int, device: str) -> str:
    """``"flat"`` while that takes seconds, ``"ivf"`` beyond (see `clorg_scale.neighbors.knn`)."""
    small = points.n <= FLAT_POINTS or float(points.n) ** 2 * points.d <= FLAT_WORK[device]
    return "flat" if small or k > FLAT_SHARE * points.n else "ivf"


def exact_engine(points: Points, k: int, device: str) -> BlockSearch:
    """The engine that searches two blocks exactly."""
    from clorg_scale.neighbors.algorithms import flat_cuvs, flat_faiss, flat_faiss_gpu, flat_torch, streaming

    if device == "cpu":
        return BlockSearch("flat", flat_faiss.search_block)
    if points.d >= TENSOR_CORE_FEATURES and flat_torch.has_tensor_cores():
        engine = flat_torch.engine()
    elif importlib.util.find_spec("cuvs") is not None:
        engine = BlockSearch("flat(cuvs)", flat_cuvs.search_block)
    elif flat_faiss_gpu.usable() and k <= flat_faiss_gpu.MAX_K // 2:
        engine = BlockSearch("flat(faiss-gpu)", flat_faiss_gpu.search_block)
    else:
        engine = flat_torch.engine()
    if array_module(points.embeddings) is not np:
        return engine
    return replace(engine, find=partial(_from_device, engine.find), stage=streaming.on_device)


def _from_device(
    find: PairSearch,
    queries: Array,
    points: Array,
    k: int,
    inner_product: bool,  # noqa: FBT001
) -> tuple[Array, Array]:
    """Bring what a search finds to main memory: for embeddings that do not fit the GPU."""
    keys, ids = find(queries, points, k, inner_product)
    return on_host(keys), on_host(ids)


def approximate_index(index: str, device: str, search_block: PairSearch, spare: int) -> Build:
    """Find the function that builds the index of this name, or of this FAISS factory string.

    `spare` bytes may hold what makes it faster.

    Raises
    ------
    InputError
        If the device has no such index.
    """
    from clorg_scale.neighbors.algorithms import (
        cuvs_cagra,
        cuvs_ivf_flat,
        cuvs_nndescent,
        faiss_gpu_ivf_flat,
        faiss_index,
        flat_faiss_gpu,
        nndescent,
    )

    has_cuvs = importlib.util.find_spec("cuvs") is not None
    lists_of_gpu: Build = partial(_held_lists, spare=spare, search_block=search_block)
    if has_cuvs:
        lists_of_gpu = cuvs_ivf_flat.build
    elif device == "cuda" and flat_faiss_gpu.usable():
        lists_of_gpu = faiss_gpu_ivf_flat.build
    builders: dict[str, dict[str, Build]] = {
        "cpu": {
            "ivf": partial(_lists, spare=spare, search_block=search_block),
            "hnsw": faiss_index.build_hnsw,
            "nndescent": nndescent.build,
        },
        "cuda": {
            "ivf": lists_of_gpu,
            "cagra": cuvs_cagra.build,
            "nndescent": cuvs_nndescent.build,
        },
    }
    if index in builders[device]:
        return builders[device][index]
    if index == "cagra":
        raise InputError("index='cagra' runs on a GPU only; use device='cuda', or index='ivf' or 'hnsw' on the CPU.")
    if device == "cuda":
        raise InputError(
            f"index={index!r} runs on the CPU only; use device='cpu', or index 'flat', 'ivf', 'cagra' or "
            "'nndescent' on the GPU."
        )
    return partial(faiss_index.build, factory=index)


def _lists(points: Points, k: int, *, seed: int, search_block: PairSearch, spare: int) -> Candidates:
    """Give the inverted file of the CPU, in memory where it fits."""
    from clorg_scale.neighbors.algorithms import scanned_lists

    index = scanned_lists.build(points, seed=seed, spare=spare)
    return _held_lists(points, k, seed=seed, search_block=search_block, spare=spare) if index is None else index


def _held_lists(points: Points, k: int, *, seed: int, search_block: PairSearch, spare: int) -> Candidates:
    """Give the inverted file in array code; its points in memory as float32 where they fit."""
    from clorg_scale.neighbors.algorithms import ivf

    return ivf.build(hold(points, spare), k, seed=seed, search_block=search_block)
