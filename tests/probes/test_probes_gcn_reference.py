"""GCN probe on the shipped embeddings and on pixels: the accuracies that ours and the paper's code were measured at."""

import numpy as np
import pytest

pytest.importorskip("torch")

from fashion_images import has_all_images

from clorg_scale import affinity_graph, knn
from clorg_scale.datasets import load_fashion_mnist, load_fashion_mnist_embeddings
from clorg_scale.probes import compare_probes

N_TRAIN, N_TEST = 3000, 1000

SEEDS = (0, 1)

SPREAD, REFERENCE_SPREAD = 0.0037, 0.0046
"""Standard deviation over seeds of ours and of the reference, on contrastive embeddings."""

STATED = {"contrastive": (0.8330, 0.8326), "supervised": (0.9310, 0.9267), "pixels": (0.8383, 0.8300)}
"""Mean accuracy of ours, stopped on held-out training nodes, and of the paper's code. Pixels are L2-normalized.

Measured again with four seeds: .8337 +- .0031, .9310 +- .0029, and with three .8383 +- .0021; the largest test
accuracies over epochs were .8392, .9368 and .8463.
"""


def points(kind, split, n):
    """The first points of a split, and their classes."""
    if kind == "pixels":
        images, labels = load_fashion_mnist(split)
        X = images[:n].reshape(n, -1).astype(np.float32)
        return X / np.linalg.norm(X, axis=1, keepdims=True), labels[:n]  # raw, ours is .8225 +- .0040
    stored = load_fashion_mnist_embeddings(kind, split)
    return np.asarray(stored.embeddings[:n], dtype=np.float32), np.asarray(stored.labels[:n])


@pytest.mark.slow
@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize("kind", STATED)
def test_accuracy_is_that_stated_and_agrees_with_the_reference(kind):
    if kind == "pixels" and not has_all_images():
        pytest.skip("needs the test images of Fashion-MNIST; they do not come with the tests")
    X, y = points(kind, "train", N_TRAIN)
    X_test, y_test = points(kind, "test", N_TEST)
    graph = affinity_graph(knn(np.concatenate([X, X_test]), 15, seed=0))
    results = [
        compare_probes(X, y, X_test, y_test, graph, probes=["gcn"], seed=seed, max_over_epochs=True)[0]
        for seed in SEEDS
    ]
    ours, reference = STATED[kind]
    accuracy = np.mean([result.accuracy for result in results])
    # Three standard errors of the mean over the seeds, and half a test point for the rounding of the stated means.
    error = SPREAD / np.sqrt(len(SEEDS))
    assert abs(accuracy - ours) < 3 * error + 0.0005
    # The reference was one run of a spread of its own.
    assert abs(accuracy - reference) < 3 * np.hypot(error, REFERENCE_SPREAD)
    # The paper's way of measuring, by name, is worth up to .02.
    excess = [result.details["max_test_accuracy_over_epochs"] - result.accuracy for result in results]
    assert 0 <= min(excess)
    assert max(excess) < 0.03
