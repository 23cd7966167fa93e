"""Products on the CPU from a table of labels and of few rows, against PyTorch's over all entries."""

import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from clorg_scale.probes import GCNProbe
from clorg_scale.probes.propagate import PropagationMatrix

N, LABELS = 400, 7


@pytest.fixture(scope="module", params=["symmetric", "row"])
def matrix(request):
    """Rows of 0 to some forty entries."""
    rng = np.random.default_rng(0)
    A = np.triu(rng.random((N, N)) < rng.choice([0.0, 0.02, 0.1], (N, 1)), 1) * rng.uniform(0.1, 2, (N, N))
    A[5], A[:, 5] = 0, 0
    A = sp.csr_matrix((A + A.T).astype(np.float32))
    return PropagationMatrix(A.indptr, A.indices, A.data, request.param)


@pytest.fixture(params=[1, 16, 19])
def width(request):
    return request.param


def values_and_gradients(propagation, h):
    """Product and own rows, and the gradient of a function of both."""
    product, own = propagation @ h, propagation.own(h)
    weights = torch.randn(product.shape, generator=torch.Generator().manual_seed(1))
    ((weights * product) ** 2 + weights * own).sum().backward()
    return product.detach(), own.detach(), h.grad


def test_labels_are_rows_of_a_table(matrix, width):
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, LABELS, N))
    table = torch.randn(LABELS, width, generator=torch.Generator().manual_seed(0))
    of_all = table[labels].requires_grad_()
    product, own, gradient = values_and_gradients(matrix.whole(torch.device("cpu")), of_all)
    expected = torch.zeros_like(table).index_add(0, labels, gradient)
    ours = values_and_gradients(matrix.by_label(labels), table.requires_grad_())
    for found, wanted in zip(ours, (product, own, expected), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_rows_that_are_wanted(matrix, width):
    rows = torch.tensor([3, 0, 5, 399, 17, 200])
    h = torch.randn(N, width, generator=torch.Generator().manual_seed(0))
    ours = values_and_gradients(matrix.of_rows(rows), h.clone().requires_grad_())
    theirs = values_and_gradients(matrix.whole(torch.device("cpu")).to_rows(rows), h.clone().requires_grad_())
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_other_devices_keep_to_products_of_pytorch(matrix):
    other = PropagationMatrix(matrix.indptr, matrix.indices, matrix.values, "row", torch.device("meta"))
    assert other.by_label(torch.zeros(N, dtype=torch.int64)) is None
    assert other.of_rows(torch.arange(3)) is None


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_networks_of_any_depth_train_as_with_products_of_pytorch(monkeypatch, n_layers):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, N)
    A = np.triu(rng.random((N, N)) < np.where(labels[:, None] == labels, 0.06, 0.01), 1)
    A = sp.csr_matrix((A + A.T).astype(np.float32))
    settings = {"n_layers": n_layers, "max_epochs": 3, "learning_rate": 0.01, "batch_size": "full"}
    ours = GCNProbe(**settings).fit(A, labels, np.arange(N) < 250)
    monkeypatch.setattr(PropagationMatrix, "by_label", lambda *_: None)
    monkeypatch.setattr(PropagationMatrix, "of_rows", lambda *_: None)
    theirs = GCNProbe(**settings).fit(A, labels, np.arange(N) < 250)
    losses = [
        [epoch[name] for epoch in probe.history_ for name in ("loss", "validation_loss")] for probe in (ours, theirs)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(), theirs.predict_proba(), atol=1e-3)
