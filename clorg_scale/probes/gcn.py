"""GCN probe: a classifier of a few hundred parameters that sees the graph and the training labels.

PyTorch is imported when `fit` is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import (
    UNLABELLED,
    Device,
    array_module,
    as_embeddings,
    free_device_memory,
    resolve_torch_device,
    within_device_memory,
)
from clorg_scale.arrays.memory import in_bytes
from clorg_scale.errors import InputError, require
from clorg_scale.probes.gcn_settings import check_settings, given_fanouts
from clorg_scale.probes.memory import Allowance, memory_allowed
from clorg_scale.probes.parameters import Parameters, check_fitted
from clorg_scale.probes.planning import (
    BATCH_SIZE,
    DEFAULT_HIDDEN,
    DEFAULT_LAYERS,
    VALIDATION_NODES,
    GraphSize,
    choose_plan,
    fanouts_by_degree,
    time_allowed,
    validation_interval,
)
from clorg_scale.probes.splits import stratified_hold_out
from clorg_scale.probes.standardize import StandardizedReader, standardization
from clorg_scale.probes.transductive import (
    labeled_test_nodes,
    masked_accuracy,
    node_numbers,
    read_graph,
    training_codes,
)
from clorg_scale.progress import progress_bar

__all__ = ["GCNProbe"]


class GCNProbe(Parameters):
    """The graph classifier of the paper (arXiv 2305.10229, "GCN probe").

    The input of a node is an embedding of its *label*, or of "masked" for test nodes; the images themselves enter
    only through the graph. Every epoch masks a random share of the training nodes and learns to predict
    their labels from those of their neighbors. Two layers

        H' = act( D^-1/2 A D^-1/2 H W + s H W + b ),    s learned, 0 at first,

    with batch norm and SELU after all but the last, and the input added where widths agree. With ten classes
    and the default width that is 652 parameters, however many features the embeddings have.

    A graph that fits into memory is trained on as a whole, one step an epoch. A larger one is trained in batches of
    masked nodes with `fanout` neighbors a node and layer, sampled by weight without bias (`probes.sampler`); prediction
    is always exact: layer by layer over all edges.

    Parameters
    ----------
    inputs
        ``"labels"`` (the paper's), ``"features"`` (a projection of the standardized embeddings), or
        ``"both"`` (their sum).
    hidden
        Width of the node inputs and hidden layers.
    n_layers
        Graph layers: how many edges a label travels. Two, as in the paper, are enough where most nodes have a
        labeled neighbor; with labels on 1 % of 60,000 Fashion-MNIST images (k = 15) two layers reach .64 on
        the test images, four .77 (label propagation .78).
    batch_size
        Masked nodes a step; ``"full"`` for the whole graph; ``"auto"`` takes the whole graph where training on
        it needs less than half of the memory allowed, else 8192, or as many as fit.
    fanout
        Neighbors sampled for each node; one number for all layers, or one for each hop, the hop next to the
        masked nodes first. ``"auto"`` takes half the mean degree, from 10 to 40. Unused in full batches.
    mask_share
        Range that each epoch's share of masked training nodes is drawn from.
    learning_rate, weight_decay, label_smoothing
        Settings of AdamW and of the cross-entropy.
    max_epochs
        Training stops here at the latest.
    max_seconds
        No epoch is begun that would end later than this, as far as those before it tell; None sets no limit. ``"auto"``
        sets 60 s on graphs whose epochs take seconds (`planning.LONG_EPOCH`): there time ends training, at an epoch
        that depends on the machine, and `stopped_by_` says so.
    patience
        Epochs without a lower loss on the held-out nodes after which training stops; the weights of the best
        epoch are kept. The loss, not the accuracy as in the paper: on 60,000 Fashion-MNIST images it finds
        later epochs, .885 instead of .882 on the test images.
    validate_every
        Epochs between validations. A validation computes the hidden layers of the whole graph, and the logits of the
        held-out nodes; on a large graph trained in batches that may take longer than an epoch. ``"auto"`` validates
        after each epoch in full batches, and in batches so rarely that the entries of the graph read by validation do
        not exceed those sampled in training; this depends on the graph and the settings alone, never on the clock.
    validation_fraction
        Share of each class's training nodes held out for this: masked while training, shown when predicting. At most
        50,000 of them, drawn at random, are scored. Where no node can be held out, the loss on the masked nodes
        decides.
    checkpoint
        File that the state of training is kept in. If it is there when `fit` is called with the same data and
        settings, training goes on from it, and ends with the same weights as if it had not been interrupted.
    checkpoint_every
        Epochs between writing it.
    seed
        Equal seeds give equal probes on one machine's CPU with one number of threads. On a GPU the order of sums
        is not fixed, and results agree only to rounding.
    device
        ``"auto"`` takes the GPU when PyTorch sees one.
    memory_limit
        Bytes of main memory that may be taken beside the graph, or text such as ``"4GB"``; default: what is free. On
        a GPU, what is free there counts.
    progress
        Show a progress bar.
    unlabelled
        The label of nodes without a class; None: every label, -1 too, is a class.

    Attributes
    ----------
    classes_
        (C,) class labels.
    n_parameters
        Trained numbers.
    n_epochs_, best_epoch_
        Epochs trained, and the one whose weights were kept.
    validation_loss_
        On the held-out nodes, at `best_epoch_`.
    history_
        For each epoch "loss" and "masked_accuracy"; for each validated one "validation_loss" and
        "validation_accuracy" where nodes are held out, and "test_accuracy" where there is a `test_mask`.
    max_test_accuracy_
        Largest accuracy on the nodes of `test_mask` over all validated epochs; None without a mask. The code of the
        paper reports this number. It is too high, as test labels choose the epoch; `score` is what to report.
    seconds_
        Wall-clock time of "sampling" neighbors, "training" and "validation".
    full_batch_
        True where each step was on the whole graph.
    batch_size_, fanouts_
        Masked nodes a step and neighbors sampled at each hop; None and empty where each step was on the whole graph.
    stopped_by_
        What ended training: ``"patience"``, ``"max_epochs"`` or ``"max_seconds"``.
    memory_needed_
        Bytes that training and prediction were predicted to take beside the graph.
    """

    _layer: ClassVar[str] = "GraphConvolution"
    _normalization: ClassVar[Literal["symmetric", "row"]] = "symmetric"

    def __init__(
        self,
        *,
        inputs: Literal["labels", "features", "both"] = "labels",
        hidden: int = DEFAULT_HIDDEN,
        n_layers: int = DEFAULT_LAYERS,
        batch_size: int | Literal["auto", "full"] = "auto",
        fanout: int | Sequence[int] | Literal["auto"] = "auto",
        mask_share: tuple[float, float] = (0.05, 0.5),
        learning_rate: float = 0.1,
        weight_decay: float = 0.01,
        label_smoothing: float = 0.0,
        max_epochs: int = 300,
        max_seconds: float | Literal["auto"] | None = "auto",
        patience: int = 50,
        validate_every: int | Literal["auto"] = "auto",
        validation_fraction: float = 0.1,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 20,
        seed: int = 0,
        device: Device = "auto",
        memory_limit: str | int | None = None,
        progress: bool = False,
        unlabelled: int | str | None = UNLABELLED,
    ) -> None:
        self.inputs = inputs
        self.hidden = hidden
        self.n_layers = n_layers
        self.batch_size = batch_size
        self.fanout = fanout
        self.mask_share = mask_share
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.max_epochs = max_epochs
        self.max_seconds = max_seconds
        self.patience = patience
        self.validate_every = validate_every
        self.validation_fraction = validation_fraction
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.seed = seed
        self.device = device
        self.memory_limit = memory_limit
        self.progress = progress
        self.unlabelled = unlabelled

    @within_device_memory("the training of the probe", "give a smaller batch_size")
    def fit(self, graph: Any, labels: Any, train_mask: Any, features: Any = None, *, test_mask: Any = None) -> GCNProbe:
        """Train on the training nodes of a graph.

        Parameters
        ----------
        graph
            `AffinityGraph` or SciPy sparse matrix over all n nodes, symmetric, weights at least 0.
        labels
            (n,) class labels; only those of training nodes are used.
        train_mask
            (n,) booleans, True for training nodes.
        features
            (n, d) embeddings of all nodes, for ``inputs="features"`` or ``"both"``.
        test_mask
            (n,) booleans, True for test nodes whose accuracy is recorded at each validation, in `history_` and
            `max_test_accuracy_`. Nothing else depends on it or on their labels.

        Raises
        ------
        InputError
            If graph, labels, mask and features do not fit together, there is no training node, a class has
            none, a setting is out of range, or `checkpoint` holds another run.
        MissingDependencyError
            If PyTorch is not installed.
        """
        require("torch", extra="train", purpose=f"{type(self).__name__}")
        check_settings(self)
        trainer, fingerprint = self._prepare(graph, labels, train_mask, features, test_mask=test_mask)
        name = "GCN probe" if self._layer == "GraphConvolution" else "GraphSAGE probe"
        title = f"{name} ({in_bytes(self.memory_needed_)})"
        with progress_bar(title, self.max_epochs, unit="epochs", enabled=self.progress) as advance:
            trainer.run(self.checkpoint, self.checkpoint_every, fingerprint, advance)
        self.n_parameters = sum(weight.numel() for weight in trainer.network.parameters())
        self.n_epochs_, self.best_epoch_ = trainer.epoch, trainer.best_epoch
        self.validation_loss_ = trainer.best_loss
        self.history_, self.seconds_ = trainer.history, trainer.seconds
        recorded = [record["test_accuracy"] for record in trainer.history if "test_accuracy" in record]
        self.max_test_accuracy_ = max(recorded, default=None)
        self.full_batch_, self.stopped_by_ = trainer.whole is not None, trainer.stopped_by
        self.batch_size_ = trainer.schedule.batch_size
        self.fanouts_ = () if self.full_batch_ else trainer.schedule.fanouts
        self._trainer: Any = trainer
        self._best: npt.NDArray[np.int64] | None = None
        return self

    def _prepare(
        self, graph: Any, labels: Any, train_mask: Any, features: Any, *, test_mask: Any = None
    ) -> tuple[Any, str]:
        """Build the training run, and the fingerprint of what decides its course."""
        import torch

        from clorg_scale.probes import layers
        from clorg_scale.probes.checkpoint import load_checkpoint, run_fingerprint
        from clorg_scale.probes.nodes import Nodes
        from clorg_scale.probes.propagate import PropagationMatrix, as_tensor
        from clorg_scale.probes.training import Schedule, Trainer

        device = torch.device(resolve_torch_device(self.device))
        arrays = read_graph(graph)
        encoded = training_codes(labels, train_mask, len(arrays[0]) - 1, self.unlabelled)
        reader = self._feature_reader(features, len(encoded.codes))
        n_features = reader.X.shape[1] if reader else 0
        n_classes = len(encoded.names)
        matrix = PropagationMatrix(*arrays, self._normalization, device)
        fingerprint, state = "", None
        if self.checkpoint:
            fingerprint = run_fingerprint(type(self).__name__, self.get_params(), matrix, encoded.codes, reader)
            state = load_checkpoint(self.checkpoint, fingerprint, device)
        size = GraphSize(matrix.n, matrix.nnz, n_classes, n_features, int(self.hidden), int(self.n_layers))
        fanouts = given_fanouts(self)
        if self.fanout == "auto":
            fanouts = fanouts_by_degree(size.n, size.nnz, size.n_layers)
        wanted = self.batch_size
        if wanted == "auto" and state is not None:  # what a run began with it goes on with, whatever is free by then
            wanted = "full" if state["full_batch"] else state.get("batch_size", BATCH_SIZE)
        plan = choose_plan(size, wanted, fanouts, self._allowance(device))
        self.memory_needed_ = plan.needed
        rng = np.random.default_rng(int(self.seed))
        fitted, held_out = stratified_hold_out(encoded.codes, self.validation_fraction, rng)
        codes = torch.from_numpy(np.where(encoded.codes >= 0, encoded.codes, n_classes)).to(device)
        resident = as_tensor(reader(slice(None)), device) if reader and plan.batch_size is None else None
        test, test_codes = labeled_test_nodes(labels, test_mask, encoded)
        nodes = Nodes(codes, fitted, held_out, n_classes, reader, resident, test=test, test_codes=test_codes)
        network = layers.GraphNetwork(
            getattr(layers, self._layer),
            n_classes=n_classes,
            hidden=int(self.hidden),
            n_layers=int(self.n_layers),
            with_labels=self.inputs != "features",
            n_features=n_features,
            generator=torch.Generator().manual_seed(int(self.seed)),
        ).to(device)
        interval = 1
        if self.validate_every != "auto":
            interval = int(self.validate_every)
        elif plan.batch_size is not None:
            interval = validation_interval(
                size,
                fanouts=fanouts,
                n_masked=len(fitted) * sum(self.mask_share) / 2,
                n_validated=min(len(held_out), VALIDATION_NODES),
                patience=int(self.patience),
            )
        schedule = Schedule(
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            mask_share=self.mask_share,
            batch_size=plan.batch_size,
            fanouts=fanouts,
            max_epochs=int(self.max_epochs),
            max_seconds=time_allowed(size) if self.max_seconds == "auto" else self.max_seconds,
            patience=int(self.patience),
            validate_every=1 if plan.batch_size is None else interval,
            seed=int(self.seed),
        )
        self.classes_ = encoded.names
        trainer = Trainer(network, matrix, nodes, schedule)
        if state is not None:
            trainer.resume(state)
        return trainer, fingerprint

    def _feature_reader(self, features: Any, n_nodes: int) -> StandardizedReader | None:
        """Read the features, or none for ``inputs="labels"``."""
        if self.inputs == "labels":
            return None
        if features is None:
            raise InputError(f"inputs={self.inputs!r} needs the embeddings of all nodes as `features`.")
        X = as_embeddings(features, name="features")
        if X.shape[0] != n_nodes:
            raise InputError(f"The features have {X.shape[0]} rows, but the graph has {n_nodes} nodes.")
        return StandardizedReader(X, standardization(X, np.ones(n_nodes, dtype=bool)), array_module(X))

    def _allowance(self, device: Any) -> Allowance:
        """Memory of the device that trains, as far as this run may take it."""
        if device.type == "cuda":
            return Allowance(free_device_memory(), "free memory of the GPU")
        return memory_allowed(self.memory_limit)

    def predict(self, nodes: Any = None) -> npt.NDArray[Any]:
        """(n,) most probable class of each node, all training labels shown.

        Parameters
        ----------
        nodes
            (m,) node numbers, whose classes alone are computed and returned; None takes all nodes.
        """
        check_fitted(self, "classes_")
        n = self._trainer.matrix.n
        if nodes is not None and self._best is None:
            wanted = node_numbers(nodes, n)
            best = np.empty(len(wanted), dtype=np.int64)
            for rows, logits in self._logits(wanted):
                best[rows] = logits.argmax(dim=1).cpu().numpy()
            return np.asarray(self.classes_[best])
        if self._best is None:
            best = np.empty(n, dtype=np.int64)
            for rows, logits in self._logits():
                best[rows] = logits.argmax(dim=1).cpu().numpy()
            self._best = best
        return np.asarray(self.classes_[self._best if nodes is None else self._best[node_numbers(nodes, n)]])

    def predict_proba(self, nodes: Any = None) -> npt.NDArray[np.float32]:
        """(m, C) float32, probability of each class in the order of `classes_`, all training labels shown.

        Parameters
        ----------
        nodes
            (m,) node numbers; None takes all nodes.
        """
        check_fitted(self, "classes_")
        n = self._trainer.matrix.n
        wanted = None if nodes is None else node_numbers(nodes, n)
        probabilities = np.empty((n if wanted is None else len(wanted), len(self.classes_)), dtype=np.float32)
        for rows, logits in self._logits(wanted):
            probabilities[rows] = logits.softmax(dim=1).cpu().numpy()
        return probabilities

    def _logits(self, wanted: npt.NDArray[np.int64] | None = None) -> Iterator[tuple[slice, Any]]:
        """Ranges of nodes, or of those wanted, and their logits."""
        from clorg_scale.probes.inference import infer, node_rows

        trainer = self._trainer
        chosen = None
        if wanted is not None:
            chosen = node_rows(trainer.matrix, wanted, len(self.classes_), trainer.nodes)
        shown = trainer.nodes.shown()
        yield from infer(trainer.network, trainer.matrix, trainer.nodes, shown, whole=trainer.whole, wanted=chosen)

    def score(self, labels: Any, mask: Any) -> float:
        """Accuracy over the nodes of a mask, those without a label left out."""
        return masked_accuracy(self.predict(), labels, mask, self.unlabelled)
