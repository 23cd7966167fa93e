import subprocess
import sys
import textwrap

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

torch = pytest.importorskip("torch")

from clorg_scale.errors import InputError
from clorg_scale.probes import GCNProbe, SAGEProbe
from clorg_scale.probes.inference import infer
from clorg_scale.probes.layers import GraphConvolution, GraphNetwork, SAGEConvolution
from clorg_scale.probes.propagate import PropagationMatrix, block_propagation

N, CLASSES = 300, 3


@pytest.fixture(autouse=True)
def one_thread():
    """Graphs this small gain nothing from threads, and lose much where other work has the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def blocks_graph():
    """Three communities with random weights, and an isolated node."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, N)
    same = labels[:, None] == labels
    A = np.triu(rng.random((N, N)) < np.where(same, 0.08, 0.01), 1) * rng.uniform(0.1, 2, (N, N))
    A[-1], A[:, -1] = 0, 0
    return sp.csr_matrix((A + A.T).astype(np.float32)), labels, rng.random(N) < 0.6


def network(layer, *, with_labels=True, n_features=0, hidden=8, n_classes=CLASSES, seed=1):
    generator = torch.Generator().manual_seed(seed)
    net = GraphNetwork(
        layer,
        n_classes=n_classes,
        hidden=hidden,
        n_layers=2,
        with_labels=with_labels,
        n_features=n_features,
        generator=generator,
    )
    with torch.no_grad():  # away from the initial values: s = 0, b = 0
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return net


def normalized(A, normalization):
    degrees = A.sum(axis=1)
    inverse = np.divide(1, degrees, where=degrees > 0, out=np.zeros(len(A)))
    if normalization == "symmetric":
        return np.sqrt(inverse)[:, None] * A * np.sqrt(inverse)
    return inverse[:, None] * A


def dense_forward(net, M, shown):
    """The definition, in float64 and with dense matrices."""
    p = {name: value.detach().numpy().astype(float) for name, value in net.state_dict().items()}
    h = p["label_embedding"][shown]
    for number in range(2):
        W, own, b = (p[f"layers.{number}.{name}"] for name in ("weight", "self_weight", "bias"))
        self_term = own * (h @ W) if own.size == 1 else h @ own
        z = M @ h @ W + self_term + b
        if number == 0:
            z = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)
            z = z * p["norms.0.weight"] + p["norms.0.bias"]
            z = 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(z))
        h = z + h if z.shape[1] == h.shape[1] else z
    return h


@pytest.mark.parametrize("n_classes", [3, 8, 12])
@pytest.mark.parametrize(("layer", "kind"), [(GraphConvolution, "symmetric"), (SAGEConvolution, "row")])
def test_sparse_forward_equals_the_dense_definition(blocks_graph, layer, kind, n_classes):
    A, _, _ = blocks_graph
    shown = np.random.default_rng(2).integers(0, n_classes + 1, N)
    net = network(layer, n_classes=n_classes)
    matrix = PropagationMatrix(A.indptr, A.indices, A.data, kind)
    whole = matrix.whole(torch.device("cpu"))
    ours = net([whole, whole], net.embed(torch.from_numpy(shown), None)).detach().numpy()
    oracle = dense_forward(net, normalized(A.toarray().astype(float), kind), shown)
    np.testing.assert_allclose(ours, oracle, atol=1e-5 * np.abs(oracle).max())


@pytest.mark.parametrize(("layer", "kind"), [(GraphConvolution, "symmetric"), (SAGEConvolution, "row")])
def test_gradients_equal_autograd_through_the_dense_product(blocks_graph, layer, kind):
    A, labels, _ = blocks_graph
    M = torch.from_numpy(normalized(A.toarray().astype(float), kind).astype(np.float32))
    matrix = PropagationMatrix(A.indptr, A.indices, A.data, kind)

    class Dense:
        def __matmul__(self, h):
            return M @ h

        def own(self, h):
            return h

    gradients = []
    for propagation in (matrix.whole(torch.device("cpu")), Dense()):
        net = network(layer)
        logits = net([propagation] * 2, net.embed(torch.from_numpy(labels), None))
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    for sparse, dense in zip(*gradients, strict=True):
        torch.testing.assert_close(sparse, dense, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("layer", "kind"), [(GraphConvolution, "symmetric"), (SAGEConvolution, "row")])
def test_full_fanout_blocks_give_full_batch_logits_and_gradients(blocks_graph, layer, kind):
    A, labels, _ = blocks_graph
    matrix = PropagationMatrix(A.indptr, A.indices, A.data, kind)
    cpu, shown = torch.device("cpu"), torch.from_numpy(labels)
    order = np.random.default_rng(3).permutation(N)
    blocks = matrix.sampler().sample(order, (N, N), seed=0)
    results = []
    for sampled in (False, True):
        net = network(layer)
        if sampled:
            h = net.embed(shown[torch.from_numpy(blocks[0].sources)], None)
            logits = net([block_propagation(block, cpu) for block in blocks], h)
            logits = torch.zeros_like(logits).index_copy(0, torch.from_numpy(order), logits)
        else:
            logits = net([matrix.whole(cpu)] * 2, net.embed(shown, None))
        torch.nn.functional.cross_entropy(logits[::3], shown[::3]).backward()
        results.append([logits.detach()] + [parameter.grad for parameter in net.parameters()])
    for whole, sampled in zip(*results, strict=True):
        torch.testing.assert_close(sampled, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("probe_class", [GCNProbe, SAGEProbe])
def test_training_in_one_batch_with_full_fanout_is_training_on_the_whole(blocks_graph, probe_class):
    """With every node in reach of the masked ones, batch norm sees all of them in both."""
    A, labels, mask = blocks_graph
    A = (A + sp.csr_matrix(np.full((N, N), 1e-3, dtype=np.float32))).tocsr()
    settings = {"fanout": N, "max_epochs": 3, "mask_share": (0.4, 0.4), "learning_rate": 0.01}
    whole, batch = (probe_class(batch_size=size, **settings).fit(A, labels, mask) for size in ("full", N))
    assert (whole.full_batch_, batch.full_batch_) == (True, False)
    weights = [probe._trainer.network.state_dict() for probe in (whole, batch)]
    for name, expected in weights[0].items():
        if name != "layers.0.bias":  # batch norm takes it out again: its gradient is rounding, which AdamW magnifies
            torch.testing.assert_close(weights[1][name], expected, atol=2e-4, rtol=1e-3)
    losses = [[epoch["loss"] for epoch in probe.history_] for probe in (whole, batch)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_layers_equal_pytorch_geometric(blocks_graph):
    pyg = pytest.importorskip("torch_geometric.nn")
    A, _, _ = blocks_graph
    coo = A.tocoo()
    edges = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    h = torch.randn(N, 5, generator=torch.Generator().manual_seed(0))

    ours = GraphConvolution(5, 4, torch.Generator().manual_seed(1))
    theirs = pyg.GCNConv(5, 4, add_self_loops=False)
    theirs.lin.weight.data = ours.weight.data.T.clone()
    whole = PropagationMatrix(A.indptr, A.indices, A.data, "symmetric").whole(torch.device("cpu"))
    torch.testing.assert_close(ours(whole, h), theirs(h, edges, torch.from_numpy(coo.data)))

    ours = SAGEConvolution(5, 4, torch.Generator().manual_seed(2))
    theirs = pyg.SAGEConv(5, 4)
    theirs.lin_l.weight.data, theirs.lin_r.weight.data = ours.weight.data.T, ours.self_weight.data.T
    theirs.lin_l.bias.data.zero_()
    plain = PropagationMatrix(A.indptr, A.indices, np.ones_like(A.data), "row").whole(torch.device("cpu"))
    torch.testing.assert_close(ours(plain, h), theirs(h, edges))


@pytest.mark.parametrize("inputs", ["labels", "features", "both"])
def test_inference_in_row_ranges_equals_the_whole(blocks_graph, inputs):
    A, labels, mask = blocks_graph
    X = np.random.default_rng(5).normal(size=(N, 6))
    probe = GCNProbe(inputs=inputs, max_epochs=3, batch_size="full")
    trainer = probe.fit(A, labels, mask, None if inputs == "labels" else X)._trainer
    shown = trainer.nodes.shown()
    arguments = (trainer.network, trainer.matrix, trainer.nodes, shown)
    whole, ranges = (
        torch.cat([logits for _, logits in infer(*arguments, **settings)])
        for settings in ({"whole": trainer.whole}, {"entries": 101})
    )
    torch.testing.assert_close(ranges, whole, atol=1e-5, rtol=1e-4)
    forward = trainer.network(
        [trainer.whole] * 2, trainer.network.embed(shown, trainer.nodes.read_features(slice(None)))
    )
    torch.testing.assert_close(whole, forward.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("probe_class", [GCNProbe, SAGEProbe])
@pytest.mark.parametrize("batch_size", ["full", 64])
def test_learns_communities_and_is_deterministic(blocks_graph, probe_class, batch_size):
    A, labels, mask = blocks_graph
    probe = probe_class(batch_size=batch_size, fanout=5, max_epochs=60).fit(A, labels, mask)
    assert probe.score(labels, ~mask) > 0.9
    assert probe.full_batch_ == (batch_size == "full")
    assert (probe.seconds_["sampling"] > 0) == (batch_size == 64)
    np.testing.assert_allclose(probe.predict_proba().sum(axis=1), 1, atol=1e-5)
    state = torch.random.get_rng_state()
    again = clone(probe).fit(A, labels, mask)
    np.testing.assert_array_equal(again.predict_proba(), probe.predict_proba())
    torch.testing.assert_close(torch.random.get_rng_state(), state)  # the user's generator is left alone
    other = clone(probe).set_params(seed=1).fit(A, labels, mask)
    assert not np.array_equal(other.predict_proba(), probe.predict_proba())


def test_parameters_of_the_paper(blocks_graph):
    n_classes = 10
    rng = np.random.default_rng(0)
    A, _, _ = blocks_graph
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, N - n_classes)])
    mask = np.ones(N, dtype=bool)
    # 11 x 16 embedding; 16 x 16 + s + 16; batch norm 2 x 16; 16 x 10 + s + 10
    assert GCNProbe(max_epochs=1).fit(A, labels, mask).n_parameters == 176 + 273 + 32 + 171


@pytest.mark.parametrize("batch_size", ["full", 64])
def test_test_labels_change_nothing(blocks_graph, batch_size):
    A, labels, mask = blocks_graph
    probe = GCNProbe(batch_size=batch_size, max_epochs=8).fit(A, labels, mask)
    rng = np.random.default_rng(1)
    for changed in (np.where(mask, labels, rng.permutation(labels)), np.where(mask, labels, -1)):
        again = clone(probe).fit(A, changed, mask)
        np.testing.assert_array_equal(again.predict_proba(), probe.predict_proba())


def test_a_device_without_memory_is_said_in_a_sentence(blocks_graph, monkeypatch):
    from clorg_scale.probes.training import Trainer

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "train_epoch", full)
    A, labels, mask = blocks_graph
    with pytest.raises(InputError, match=r"out of memory in the training .* smaller batch_size"):
        GCNProbe(device="cpu").fit(A, labels, mask)


def test_features_help_where_the_graph_does_not():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, N)
    X = rng.normal(size=(N, 4)) + 3 * labels[:, None]
    upper = sp.triu(sp.random(N, N, 0.02, random_state=0, dtype=np.float32), 1)
    mask = rng.random(N) < 0.5
    scores = {}
    for inputs in ("labels", "features", "both"):
        for batch_size in ("full", 64):
            probe = SAGEProbe(inputs=inputs, batch_size=batch_size, max_epochs=60)
            probe.fit((upper + upper.T).tocsr(), labels, mask, X)
            scores[inputs, batch_size] = probe.score(labels, ~mask)
    # 150 test nodes, two classes: chance has a standard deviation of .041
    assert scores["labels", "full"] < 0.65
    assert min(score for (inputs, _), score in scores.items() if inputs != "labels") > 0.9


@pytest.mark.parametrize("batch_size", ["full", 64])
def test_resumed_training_is_bit_equal(blocks_graph, tmp_path, batch_size):
    A, labels, mask = blocks_graph
    path = tmp_path / "probe.pt"
    settings = {"batch_size": batch_size, "fanout": 5, "patience": 1000, "checkpoint_every": 4}
    through = GCNProbe(max_epochs=25, **settings).fit(A, labels, mask)
    GCNProbe(max_epochs=10, checkpoint=path, **settings).fit(A, labels, mask)
    resumed = GCNProbe(max_epochs=25, checkpoint=path, **settings)
    # A checkpoint belongs to its settings; whether one is kept is not one of them.
    resumed.fit(A, labels, mask)
    assert resumed.n_epochs_ == 25
    assert resumed.history_ == through.history_
    np.testing.assert_array_equal(resumed.predict_proba(), through.predict_proba())
    finished = GCNProbe(max_epochs=25, checkpoint=path, **settings).fit(A, labels, mask)
    assert finished.seconds_["training"] == 0
    np.testing.assert_array_equal(finished.predict_proba(), through.predict_proba())


def test_a_resumed_run_keeps_to_its_batches_whatever_memory_is_allowed(blocks_graph, tmp_path):
    A, labels, mask = blocks_graph
    little = {"patience": 1000, "fanout": 5, "memory_limit": 400_000}
    plenty = little | {"memory_limit": "1GB"}
    through = GCNProbe(max_epochs=6, **little).fit(A, labels, mask)
    GCNProbe(max_epochs=3, checkpoint=tmp_path / "probe.pt", **little).fit(A, labels, mask)
    resumed = GCNProbe(max_epochs=6, checkpoint=tmp_path / "probe.pt", **plenty).fit(A, labels, mask)
    assert GCNProbe(max_epochs=1, **plenty).fit(A, labels, mask).full_batch_
    assert not resumed.full_batch_
    assert resumed.batch_size_ == through.batch_size_
    assert resumed.history_ == through.history_


@pytest.mark.slow
def test_killed_run_goes_on_to_the_same_numbers(blocks_graph, tmp_path):
    A, labels, mask = blocks_graph
    np.savez(tmp_path / "task.npz", data=A.data, indices=A.indices, indptr=A.indptr, labels=labels, mask=mask)
    script = textwrap.dedent(
        """
        import os, signal, sys
        import numpy as np
        import scipy.sparse as sp
        import torch
        from clorg_scale.probes import GCNProbe, training

        torch.set_num_threads(1)
        task = np.load("task.npz")
        A = sp.csr_matrix((task["data"], task["indices"], task["indptr"]), shape=(300, 300))
        train_epoch = training.Trainer.train_epoch

        def die_in_epoch_12(trainer, *advance):
            train_epoch(trainer, *advance)
            if trainer.epoch == 12:
                os.kill(os.getpid(), signal.SIGKILL)

        training.Trainer.train_epoch = die_in_epoch_12
        GCNProbe(max_epochs=30, patience=1000, checkpoint="probe.pt", checkpoint_every=5).fit(
            A, task["labels"], task["mask"]
        )
        """
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False)
    assert killed.returncode == -9
    settings = {"max_epochs": 30, "patience": 1000, "checkpoint_every": 5}
    resumed = GCNProbe(checkpoint=tmp_path / "probe.pt", **settings).fit(A, labels, mask)
    assert len(resumed.history_) == 30
    through = GCNProbe(**settings).fit(A, labels, mask)
    assert resumed.history_ == through.history_
    np.testing.assert_array_equal(resumed.predict_proba(), through.predict_proba())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("batch_size", ["full", 64])
def test_gpu_agrees_with_cpu(blocks_graph, batch_size):
    A, labels, mask = blocks_graph
    X = np.random.default_rng(5).normal(size=(N, 6))
    settings = {"inputs": "both", "batch_size": batch_size, "fanout": 5, "max_epochs": 1}
    cpu, gpu = (
        GCNProbe(device=device, **settings).fit(A, labels, mask, X).predict_proba() for device in ("cpu", "cuda")
    )
    # After one epoch of steps of at most 0.1 a weight, rounding has had no time to grow.
    np.testing.assert_allclose(gpu, cpu, atol=1e-2)
    learned = GCNProbe(device="cuda", batch_size=batch_size, max_epochs=60).fit(A, labels, mask)
    assert learned.score(labels, ~mask) > 0.9


def test_probes_that_are_not_fitted_say_so(blocks_graph):
    from sklearn.exceptions import NotFittedError

    from clorg_scale.probes import KNNProbe, LabelPropagationProbe, LinearProbe

    for probe, arguments in (
        (GCNProbe(), ()),
        (LabelPropagationProbe(), ()),
        (KNNProbe(), (np.eye(3),)),
        (LinearProbe(), (np.eye(3),)),
    ):
        with pytest.raises(NotFittedError):
            probe.predict(*arguments)


@pytest.mark.parametrize(
    ("settings", "change", "sentence"),
    [
        ({}, {"train_mask": np.ones(3, dtype=bool)}, "one boolean for each"),
        ({}, {"train_mask": np.zeros(N, dtype=bool)}, "No node of train_mask"),
        ({}, {"labels": np.arange(N)}, "classes have no training node"),
        ({}, {"labels": np.zeros(5)}, "one label per row"),
        ({}, {"graph": sp.csr_matrix(np.triu(np.ones((N, N))))}, "not symmetric"),
        ({}, {"graph": sp.csr_matrix(np.diag(np.full(N, np.nan)))}, "NaN"),
        ({"inputs": "pixels"}, {}, "inputs must be"),
        ({"inputs": "features"}, {}, "needs the embeddings"),
        ({"inputs": "both"}, {"features": np.ones((4, 2))}, "4 rows"),
        ({"inputs": "both"}, {"features": np.full((N, 2), np.nan)}, "NaN"),
        ({}, {"graph": sp.csr_matrix(np.ones((N, N), dtype=complex))}, "complex128"),
        ({"mask_share": (0.5, 0.1)}, {}, "mask_share"),
        ({"mask_share": 0.3}, {}, "mask_share must be two numbers"),
        ({"weight_decay": -1}, {}, "weight_decay"),
        ({"label_smoothing": 2}, {}, "label_smoothing"),
        ({"seed": -1}, {}, "seed"),
        ({"learning_rate": "fast"}, {}, "learning_rate"),
        ({"learning_rate": 1e30}, {}, "no longer finite"),
        ({"fanout": 2.5}, {}, "fanout"),
        ({"fanout": (5, 5, 5)}, {}, "fanout"),
        ({"fanout": 0}, {}, "fanout"),
        ({"batch_size": 0}, {}, "batch_size"),
        ({"hidden": 2.5}, {}, "hidden"),
        ({"learning_rate": -1}, {}, "learning_rate"),
        ({"validation_fraction": 1}, {}, "validation_fraction"),
        ({"device": "tpu"}, {}, "device must be"),
    ],
)
def test_bad_input(blocks_graph, settings, change, sentence):
    A, labels, mask = blocks_graph
    arguments = {"graph": A, "labels": labels, "train_mask": mask} | change
    with pytest.raises(InputError, match=sentence):
        GCNProbe(**settings).fit(**arguments)
