"""Arguments and values that a search refuses."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import clusters

from clorg_scale.errors import InputError
from clorg_scale.neighbors import knn, knn_between, knn_of


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"k": 0}, "k must be a whole number from 1 to 49 for 50 points, not 0"),
        ({"k": 50}, "k must be a whole number from 1 to 49"),
        ({"k": 2.0}, "k must be a whole number"),
        ({"k": True}, "k must be a whole number"),
        ({"metric": "manhattan"}, "metric must be one of"),
        ({"index": "cagra", "device": "cpu"}, "runs on a GPU only"),
        ({"index": "IVFx,Flatter"}, "FAISS cannot build the index 'IVFx,Flatter'"),
        ({"index": "nndescent"}, "NN-descent needs at least 200 points"),
        ({"device": "tpu"}, "device must be"),
        ({"memory_limit": "1MB"}, r"needs at least \d+.*more than the memory limit of 1 MB"),
        ({"memory_limit": "much"}, "not an amount of memory"),
    ],
)
def test_bad_arguments(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        knn(clusters(50, 4), **{"k": 5, **arguments})


@pytest.mark.parametrize(
    ("spoil", "metric", "sentence"),
    [
        (np.nan, "euclidean", r"NaN or infinite values in 2 of 50 rows \(rows 3, 8\)"),
        (np.inf, "inner_product", r"NaN or infinite values in 2 of 50 rows \(rows 3, 8\)"),
        (0.0, "cosine", r"2 zero vectors \(rows 3, 8\)"),
        (1e308 / 2, "euclidean", "exceed float64"),
        (1e200, "inner_product", "exceed float64"),
    ],
)
def test_bad_values(spoil, metric, sentence):
    points = clusters(50, 4).astype(np.float64)
    points[[3, 8]] = spoil
    with pytest.raises(InputError, match=sentence):
        knn(points, 5, metric=metric)


def test_bad_queries():
    points = clusters(50, 4)
    for queries, sentence in [
        ([50], "row numbers from 0 to 49"),
        ([-1], "row numbers from 0 to 49"),
        ([1, 1], "repeat"),
        ([], "non-empty"),
        ([1.5], "row numbers"),
        ([[1]], "row numbers"),
    ]:
        with pytest.raises(InputError, match=sentence):
            knn_of(points, queries, 3)
    with pytest.raises(InputError, match="3 features, but the embeddings have 4"):
        knn_between(clusters(10, 3), points, 3)


def test_no_gpu_is_said():
    cupy = pytest.importorskip("clorg_scale.arrays")._gpu_problem()
    if cupy is None:
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="device='cuda' was asked for"):
        knn(clusters(50, 4), 3, device="cuda")


def test_a_memory_limit_below_the_index_names_what_would_do():
    with pytest.raises(InputError, match=r"index 'hnsw' needs at least .* \(index='flat' needs .*\), more than"):
        knn(clusters(20_000, 64), 3, index="hnsw", memory_limit="55MB")
