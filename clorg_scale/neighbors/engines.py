"""The library that searches: exact engines by device, indexes by name."""

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
from clorg_scale.neighbors.plan import SearchPlan

__all__ = ["Build", "approximate_index", "exact_engine"]

Build = Callable[[SearchPlan, PairSearch], Candidates]
"""(plan, exact search of two blocks) -> the filled index."""

TENSOR_CORE_FEATURES = 256
"""Features from which on a GPU the products take most of the time: tensor cores do them in tf32 some eight times as
fast as cuVS and FAISS, which multiply float32 (1.28M x 2048: 6.7e15 FLOP, 17 s at 400 TFLOP/s, 110 s at 60)."""


def exact_engine(plan: SearchPlan) -> BlockSearch:
    """The engine that searches two blocks exactly."""
    from clorg_scale.neighbors.algorithms import flat_cuvs, flat_faiss, flat_faiss_gpu, flat_torch, streaming

    if plan.device == "cpu":
        return flat_faiss.engine()
    if plan.points.d >= TENSOR_CORE_FEATURES and flat_torch.has_tensor_cores():
        engine = flat_torch.engine()
    elif importlib.util.find_spec("cuvs") is not None:
        engine = BlockSearch("flat(cuvs)", flat_cuvs.search_block)
    elif flat_faiss_gpu.usable() and plan.k <= flat_faiss_gpu.MAX_K // 2:
        engine = BlockSearch("flat(faiss-gpu)", flat_faiss_gpu.search_block)
    else:
        engine = flat_torch.engine()
    if array_module(plan.points.embeddings) is not np:
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


def approximate_index(plan: SearchPlan, search_block: PairSearch) -> Candidates:
    """Build the index that the plan names, by its own name or as a FAISS factory string.

    Parameters
    ----------
    plan
        The search.
    search_block
        Exact search of two blocks, for the clustering of an inverted file.

    Raises
    ------
    InputError
        If the device has no such index.
    """
    return _builder(plan)(plan, search_block)


def _builder(plan: SearchPlan) -> Build:
    from clorg_scale.neighbors.algorithms import (
        cuvs_cagra,
        cuvs_ivf_flat,
        cuvs_nndescent,
        faiss_gpu_ivf_flat,
        faiss_index,
        faiss_ivf,
        flat_faiss_gpu,
        ivf,
        nndescent,
    )

    builders: dict[str, dict[str, Build]] = {
        "cpu": {"ivf": faiss_ivf.build, "hnsw": faiss_index.build_hnsw, "nndescent": nndescent.build},
        "cuda": {"ivf": ivf.build, "cagra": cuvs_cagra.build, "nndescent": cuvs_nndescent.build},
    }
    if importlib.util.find_spec("cuvs") is not None:
        builders["cuda"]["ivf"] = cuvs_ivf_flat.build
    elif plan.device == "cuda" and flat_faiss_gpu.usable():
        builders["cuda"]["ivf"] = faiss_gpu_ivf_flat.build
    if plan.index in builders[plan.device]:
        return builders[plan.device][plan.index]
    if plan.index == "cagra":
        raise InputError("index='cagra' runs on a GPU only; use device='cuda', or index='ivf' or 'hnsw' on the CPU.")
    if plan.device == "cuda":
        raise InputError(
            f"index={plan.index!r} runs on the CPU only; use device='cpu', or index 'flat', 'ivf', 'cagra' or "
            "'nndescent' on the GPU."
        )
    return faiss_index.build
