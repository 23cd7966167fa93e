"""The graph method against the modularity of the graph it speaks of, and published values."""

import numpy as np
import pytest
from fashion_images import first_images

import clorg_scale as cs
from clorg_scale.affinity import affinity_graph
from clorg_scale.communities import modularity
from clorg_scale.neighbors import knn

TEMPERATURES = (1.0, 0.2, 0.05)


def test_equals_the_modularity_of_the_labels_on_the_affinity_graph():
    rng = np.random.default_rng(0)
    codes = rng.integers(-1, 4, 500)
    X = rng.standard_normal((4, 6))[codes] + rng.standard_normal((500, 6))
    result = cs.rld(X, codes, method="graph", temperatures=TEMPERATURES, k=8)
    table = knn(X, 8)
    for value, temperature in zip(result.values, TEMPERATURES, strict=True):
        graph = affinity_graph(table, temperature=temperature, mean_distance=result.mean_distance)
        assert value == pytest.approx(modularity(graph, codes), abs=1e-6)
    assert result.method == "graph"
    assert np.isnan(result.local_density[:, codes < 0]).all()
    np.testing.assert_allclose(result.per_class.sum(1), result.values)


def test_near_exact_at_small_and_far_from_it_at_large_temperatures():
    """On the first 3,000 Fashion-MNIST images, where exact RLD is known."""
    X, labels = first_images(3_000)
    result = cs.rld(X, labels, method="graph", k=15, temperatures=(1, 0.02))
    assert result.values[0] > 0.6  # exact .0595
    assert result.values[1] == pytest.approx(0.77329243, abs=0.01)
