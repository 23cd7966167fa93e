"""GCN probe: a classifier of a few hundred parameters that sees the graph and the training labels.

PyTorch is imported when `fit` is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from clorg_scale.arrays import (
    UNLABELLED,
    Device,
    array_module,
    as_embeddings,
    available_memory,
    free_device_memory,
    resolve_torch_device,
    within_device_memory,
)
from clorg_scale.errors import InputError, require
from clorg_scale.probes.settings import check_number, check_whole, is_number, is_whole
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

BATCH_SIZE = 8192
"""Seeds in a batch where the graph is too large for a full batch."""

CHEAP_INFERENCE = 10_000_000
"""Entries and logits of one inference below which every epoch is validated: some hundredths of a second."""

VALIDATIONS = 5
"""Validations within `patience` epochs, at least."""


class GCNProbe(BaseEstimator):  # type: ignore[misc]
    """The graph classifier of the paper (arXiv 2305.10229, "GCN probe").

    The input of a node is an embedding of its *label*, or of "masked" for test nodes; the images themselves enter
    only through the graph. Every epoch masks a random share of the training nodes and learns to predict
    their labels from those of their neighbors. Two layers

        H' = act( D^-1/2 A D^-1/2 H W + s H W + b ),    s learned, 0 at first,

    with batch norm and SELU after all but the last, and the input added where widths agree. With ten classes
    and the default width that is 652 parameters, however many features the embeddings have.

    A graph that fits into memory is trained on as a whole, one step an epoch. A larger one is trained in batches
    of masked nodes, each with `fanout` neighbors a node and layer, sampled by weight without bias
    (`clorg_scale.probes.sampler`). Prediction is always exact: layer by layer over all edges.

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
        it needs less than half of the free memory, else 8192.
    fanout
        Neighbors sampled for each node; one number for all layers, or one for each hop, the hop next to the
        masked nodes first. Unused in full batches.
    mask_share
        Range that each epoch's share of masked training nodes is drawn from.
    learning_rate, weight_decay, label_smoothing
        Settings of AdamW and of the cross-entropy.
    max_epochs
        Training stops here at the latest.
    max_seconds
        Training stops after the epoch in which this much time has passed; None sets no limit. Where this happens
        depends on the machine.
    patience
        Epochs without a lower loss on the held-out nodes after which training stops; the weights of the best
        epoch are kept. The loss, not the accuracy as in the paper: on 60,000 Fashion-MNIST images it finds
        later epochs, .885 instead of .882 on the test images.
    validate_every
        Epochs between validations. A validation is an inference over the whole graph, which on a large graph
        trained in batches may take longer than an epoch. ``"auto"`` validates after each epoch in full batches, and
        in batches so rarely that the entries of the graph read by inference do not exceed those sampled in training;
        this depends on the graph and the settings alone, never on the clock.
    validation_fraction
        Share of each class's training nodes held out for this: masked while training, shown when predicting.
        Where no node can be held out, the loss on the masked nodes decides.
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
    """

    _layer: ClassVar[str] = "GraphConvolution"
    _normalization: ClassVar[Literal["symmetric", "row"]] = "symmetric"

    def __init__(
        self,
        *,
        inputs: Literal["labels", "features", "both"] = "labels",
        hidden: int = 16,
        n_layers: int = 2,
        batch_size: int | Literal["auto", "full"] = "auto",
        fanout: int | Sequence[int] = 10,
        mask_share: tuple[float, float] = (0.05, 0.5),
        learning_rate: float = 0.1,
        weight_decay: float = 0.01,
        label_smoothing: float = 0.0,
        max_epochs: int = 300,
        max_seconds: float | None = None,
        patience: int = 50,
        validate_every: int | Literal["auto"] = "auto",
        validation_fraction: float = 0.1,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 20,
        seed: int = 0,
        device: Device = "auto",
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
        self._check_settings()
        trainer, fingerprint = self._prepare(graph, labels, train_mask, features, test_mask=test_mask)
        name = "GCN probe" if self._layer == "GraphConvolution" else "GraphSAGE probe"
        with progress_bar(name, self.max_epochs, unit="epochs", enabled=self.progress) as advance:
            trainer.run(self.checkpoint, self.checkpoint_every, fingerprint, advance)
        self.n_parameters = sum(weight.numel() for weight in trainer.network.parameters())
        self.n_epochs_, self.best_epoch_ = trainer.epoch, trainer.best_epoch
        self.validation_loss_ = trainer.best_loss
        self.history_, self.seconds_ = trainer.history, trainer.seconds
        recorded = [record["test_accuracy"] for record in trainer.history if "test_accuracy" in record]
        self.max_test_accuracy_ = max(recorded, default=None)
        self.full_batch_ = trainer.whole is not None
        self._trainer: Any = trainer
        self._best: npt.NDArray[np.int64] | None = None
        return self

    def _check_settings(self) -> None:
        if self.inputs not in ("labels", "features", "both"):
            raise InputError(f"inputs must be 'labels', 'features' or 'both', not {self.inputs!r}.")
        check_number("learning_rate", self.learning_rate, "positive", lambda rate: rate > 0)
        check_number("weight_decay", self.weight_decay, "at least 0", lambda decay: decay >= 0)
        for name in ("label_smoothing", "validation_fraction"):
            check_number(name, getattr(self, name), "at least 0 and below 1", lambda share: 0 <= share < 1)
        share = self.mask_share
        if not (isinstance(share, Sequence) and len(share) == 2 and all(map(is_number, share))):
            raise InputError(f"mask_share must be two numbers, not {share!r}.")
        if not 0 < share[0] <= share[1] < 1:
            raise InputError(f"mask_share must be a range within (0, 1), not {share!r}.")
        for name in ("hidden", "n_layers", "max_epochs", "patience", "checkpoint_every"):
            check_whole(name, getattr(self, name), least=1)
        if self.max_seconds is not None:
            check_number("max_seconds", self.max_seconds, "positive", lambda seconds: seconds > 0)
        if self.validate_every != "auto":
            check_whole("validate_every", self.validate_every, least=1)
        if self.batch_size not in ("auto", "full"):
            check_whole("batch_size", self.batch_size, least=1)
        check_whole("seed", self.seed, least=0)
        fanouts = self._fanouts()
        if len(fanouts) != self.n_layers or not all(is_whole(fanout) and fanout >= 1 for fanout in fanouts):
            raise InputError(
                f"fanout must be at least 1, one number or one for each of {self.n_layers} layers, not {self.fanout!r}."
            )

    def _fanouts(self) -> tuple[int, ...]:
        fanouts = self.fanout if isinstance(self.fanout, Sequence) else (self.fanout,) * int(self.n_layers)
        return tuple(int(fanout) if is_whole(fanout) else fanout for fanout in fanouts)

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
        matrix = PropagationMatrix(*arrays, self._normalization)
        fingerprint, state = "", None
        if self.checkpoint:
            fingerprint = run_fingerprint(type(self).__name__, self.get_params(), matrix, encoded.codes, reader)
            state = load_checkpoint(self.checkpoint, fingerprint, device)
        full_batch = self.batch_size == "full"
        if self.batch_size == "auto":  # what a run began with it goes on with, whatever memory is free by then
            fits = self._full_batch_fits(matrix, n_classes, n_features, device)
            full_batch = fits if state is None else state["full_batch"]
        rng = np.random.default_rng(int(self.seed))
        fitted, held_out = stratified_hold_out(encoded.codes, self.validation_fraction, rng)
        codes = torch.from_numpy(np.where(encoded.codes >= 0, encoded.codes, n_classes)).to(device)
        resident = as_tensor(reader(slice(None)), device) if reader and full_batch else None
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
        batch_size = BATCH_SIZE if self.batch_size == "auto" else self.batch_size
        schedule = Schedule(
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            mask_share=self.mask_share,
            batch_size=None if full_batch else int(batch_size),
            fanouts=self._fanouts(),
            max_epochs=int(self.max_epochs),
            max_seconds=self.max_seconds,
            patience=int(self.patience),
            validate_every=1 if full_batch else self._validate_every(matrix, n_classes, len(fitted)),
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

    def _full_batch_fits(self, matrix: Any, n_classes: int, n_features: int, device: Any) -> bool:
        """Tell whether one step over the whole graph needs less than half of the free memory."""
        # Kept for the gradient: about five arrays a layer of the hidden width, four of the output width.
        floats = self.hidden * 5 * self.n_layers + n_classes * 4 + 2 * n_features
        needed = 4 * matrix.n * floats + 12 * matrix.nnz
        free = free_device_memory() if device.type == "cuda" else available_memory()
        return bool(needed < free / 2)

    def _validate_every(self, matrix: Any, n_classes: int, n_fitted: int) -> int:
        """Epochs in batches between validations: as many as cost about one inference, by entries of the graph."""
        if self.validate_every != "auto":
            return int(self.validate_every)
        inference = int(self.n_layers) * matrix.nnz + matrix.n * n_classes
        if inference < CHEAP_INFERENCE:
            return 1
        masked = n_fitted * sum(self.mask_share) / 2
        epoch, targets = masked * n_classes, masked
        for fanout in self._fanouts():
            epoch += targets * fanout
            targets *= 1 + fanout
        return int(np.clip(inference / max(epoch, 1.0), 1, max(1, int(self.patience) // VALIDATIONS)))

    def predict(self) -> npt.NDArray[Any]:
        """(n,) most probable class of each node, all training labels shown."""
        check_is_fitted(self, "classes_")
        if self._best is None:
            best = np.empty(self._trainer.matrix.n, dtype=np.int64)
            for rows, logits in self._logits():
                best[rows] = logits.argmax(dim=1).cpu().numpy()
            self._best = best
        return np.asarray(self.classes_[self._best])

    def predict_proba(self, nodes: Any = None) -> npt.NDArray[np.float32]:
        """(m, C) float32, probability of each class in the order of `classes_`, all training labels shown.

        Parameters
        ----------
        nodes
            (m,) node numbers; None takes all nodes.
        """
        check_is_fitted(self, "classes_")
        n = self._trainer.matrix.n
        wanted = np.arange(n) if nodes is None else node_numbers(nodes, n)
        order = np.argsort(wanted, kind="stable")
        probabilities = np.empty((len(wanted), len(self.classes_)), dtype=np.float32)
        for rows, logits in self._logits():
            first, last = np.searchsorted(wanted[order], [rows.start, rows.stop])
            found = order[first:last]
            probabilities[found] = logits.softmax(dim=1).cpu().numpy()[wanted[found] - rows.start]
        return probabilities

    def _logits(self) -> Iterator[tuple[slice, Any]]:
        """Ranges of nodes, and their logits."""
        from clorg_scale.probes.inference import infer

        trainer = self._trainer
        yield from infer(trainer.network, trainer.matrix, trainer.nodes, trainer.nodes.shown(), whole=trainer.whole)

    def score(self, labels: Any, mask: Any) -> float:
        """Accuracy over the nodes of a mask, those without a label left out."""
        return masked_accuracy(self.predict(), labels, mask, self.unlabelled)
