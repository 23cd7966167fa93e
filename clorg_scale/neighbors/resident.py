"""The plan of a search as a worker with a GPU follows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clorg_scale.arrays import array_module
from clorg_scale.arrays.gpu import brought_to
from clorg_scale.neighbors.choice import Demand, choose_index
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.points import Points, cache_float32

__all__ = ["on_gpu"]


def on_gpu(plan: SearchPlan) -> SearchPlan:
    """The exact search of all points on the GPU of this process, with memory for blocks there.

    The points lie there where they fit half of what is free; beyond that they are streamed, converted once if there is
    main memory for that.
    """
    points = _moved(plan.points)
    demand = Demand(points, plan.k, plan.points.n, "cuda", plan.memory_limit)
    _, budget = choose_index(demand, "flat", "cuda", None)
    return replace(plan, points=cache_float32(points, budget.spare), budget=budget)


def _moved(points: Points) -> Points:
    embeddings = brought_to("cuda", points.embeddings)
    xp = array_module(embeddings)
    if xp is np:
        return points
    mean = None if points.mean is None else xp.asarray(points.mean)
    return replace(points, embeddings=embeddings, mean=mean, lengths=xp.asarray(points.lengths))
