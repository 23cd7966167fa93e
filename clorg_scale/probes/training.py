"""Training of a graph network by predicting masked labels."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from clorg_scale.errors import InputError
from clorg_scale.probes.compiled_products import kept_threads
from clorg_scale.probes.device_sampler import DeviceNeighborSampler
from clorg_scale.probes.inference import first_layer, infer, node_rows
from clorg_scale.probes.layers import GraphNetwork, Propagation
from clorg_scale.probes.nodes import Nodes
from clorg_scale.probes.planning import VALIDATION_NODES
from clorg_scale.probes.propagate import PropagationMatrix, as_tensor, block_propagation
from clorg_scale.probes.sampler import Block, NeighborSampler
from clorg_scale.progress import Advance
from clorg_scale.store.states import write_state

__all__ = ["Schedule", "Trainer"]


@dataclass(frozen=True)
class Schedule:
    """Settings of training, as in `GCNProbe`. `batch_size` None is full batch."""

    learning_rate: float
    weight_decay: float
    label_smoothing: float
    mask_share: tuple[float, float]
    batch_size: int | None
    fanouts: tuple[int, ...]
    max_epochs: int
    max_seconds: float | None
    patience: int
    validate_every: int
    seed: int


@dataclass
class Trainer:
    """A training run: network, optimizer, and what has been reached.

    Every random choice of an epoch comes from (seed, epoch), so a run resumed from a checkpoint needs no state
    of a random generator to go on exactly as if it had never stopped.
    """

    network: GraphNetwork
    matrix: PropagationMatrix
    nodes: Nodes
    schedule: Schedule
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"sampling": 0.0, "training": 0.0, "validation": 0.0})

    def __post_init__(self) -> None:
        parameters = list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(
            parameters, lr=self.schedule.learning_rate, weight_decay=self.schedule.weight_decay
        )
        self.whole: Propagation | None = None
        self.sampler: NeighborSampler | DeviceNeighborSampler | None = None
        if self.schedule.batch_size is None:
            self.whole = self.matrix.whole(self.nodes.device)
        else:
            self.sampler = self.matrix.sampler()
        self.best = _copy(self.network)
        self.stopped_by: Literal["patience", "max_epochs", "max_seconds"] = "max_epochs"
        self._judged = self._validation_nodes()

    def _validation_nodes(self) -> npt.NDArray[np.int64]:
        """Held-out nodes that validations score: all, or a sample."""
        held_out = self.nodes.held_out
        if len(held_out) <= VALIDATION_NODES:
            return held_out
        return np.sort(np.random.default_rng(self.schedule.seed).choice(held_out, VALIDATION_NODES, replace=False))

    @cached_property
    def _scored(self) -> tuple[npt.NDArray[np.int64], list[tuple[slice, Propagation]]]:
        """Held-out and test nodes, ascending, and their rows of the matrix."""
        wanted = np.union1d(self._judged, self.nodes.test)
        return wanted, list(node_rows(self.matrix, wanted, self.nodes.n_classes, self.nodes))

    def run(self, checkpoint: Path | str | None, checkpoint_every: int, fingerprint: str, advance: Advance) -> None:
        """Train until patience, epochs or time run out; leaves the best epoch's weights in the network."""
        advance(self.epoch)
        started = time.monotonic()
        longest, first = 0.0, self.epoch
        while (reason := self._reason_to_stop(time.monotonic() - started, longest)) is None:
            begun = time.monotonic()
            self.train_epoch(advance)
            if self.epoch % self.schedule.validate_every == 0:
                self._validate()
            if checkpoint and self.epoch % checkpoint_every == 0:
                write_state(checkpoint, self._state(fingerprint))
            took = time.monotonic() - begun
            # The first epoch may have compiled: it is not a measure of others.
            longest = took if self.epoch <= first + 2 else max(longest, took)
        self.stopped_by = reason
        if checkpoint:
            write_state(checkpoint, self._state(fingerprint))
        # After the state is written: a resumed run may go on past this epoch without validating it.
        if self.epoch % self.schedule.validate_every:
            self._validate()
        self.network.load_state_dict(self.best)

    def _reason_to_stop(
        self, elapsed: float, longest: float
    ) -> Literal["patience", "max_epochs", "max_seconds"] | None:
        """Reason not to begin another epoch, if any; one that would end after the time allowed is not begun."""
        if self.epoch - self.best_epoch >= self.schedule.patience:
            return "patience"
        if self.epoch >= self.schedule.max_epochs:
            return "max_epochs"
        limit = self.schedule.max_seconds
        return "max_seconds" if limit is not None and longest > 0 and elapsed + longest > limit else None

    def train_epoch(self, advance: Advance = lambda done: None) -> None:
        """Mask a random share of the training labels and learn to predict them, in one step or in batches.

        Raises
        ------
        InputError
            If the loss is no longer finite.
        """
        rng = np.random.default_rng([self.schedule.seed, self.epoch])
        self.epoch += 1
        masked = self._mask(rng)
        shown = self.nodes.shown(self.nodes.held_out, masked)
        total_loss, n_correct = 0.0, 0
        for seeds, logits in self._passes(masked, shown, rng):
            start = time.perf_counter()
            target = self.nodes.codes[torch.from_numpy(seeds).to(self.nodes.device)]
            loss = functional.cross_entropy(logits, target, label_smoothing=self.schedule.label_smoothing)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total_loss += loss.item() * len(seeds)
            n_correct += int((logits.argmax(dim=1) == target).sum())
            self.seconds["training"] += time.perf_counter() - start
            advance(len(seeds) / len(masked))
        if not math.isfinite(total_loss):
            raise InputError(
                f"The loss is no longer finite in epoch {self.epoch}; lower the learning rate "
                f"({self.schedule.learning_rate:g})."
            )
        self.history.append({"loss": total_loss / len(masked), "masked_accuracy": n_correct / len(masked)})

    def _mask(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Training nodes whose labels are hidden in this epoch, which the loss is taken on; at least one."""
        share = rng.uniform(*self.schedule.mask_share)
        fitted = self.nodes.fitted
        masked = fitted[rng.random(len(fitted)) < share]
        return masked if len(masked) else fitted[[rng.integers(len(fitted))]]

    def _passes(
        self, masked: npt.NDArray[np.int64], shown: Tensor, rng: np.random.Generator
    ) -> Iterator[tuple[npt.NDArray[np.int64], Tensor]]:
        """Logits of the masked nodes: all at once, or batch by batch on sampled neighborhoods."""
        if self.whole is not None:
            start = time.perf_counter()
            logits = self._on_the_whole(torch.from_numpy(masked).to(self.nodes.device), shown, self.whole)
            self.seconds["training"] += time.perf_counter() - start
            yield masked, logits
            return
        n_batches = -(-len(masked) // self.schedule.batch_size)  # type: ignore[operator]
        for seeds in np.array_split(rng.permutation(masked), n_batches):
            start = time.perf_counter()
            blocks = self._sample(seeds, int(rng.integers(2**62)), shown)
            sampled = time.perf_counter()
            device, sources = self.nodes.device, blocks[0].sources
            labels = as_tensor(sources, device) if self._by_label else shown[as_tensor(sources, device)]
            h = self.network.embed(labels, self.nodes.read_features(sources))
            logits = self.network([block_propagation(block, device) for block in blocks], h)
            self.seconds["sampling"] += sampled - start
            self.seconds["training"] += time.perf_counter() - sampled
            yield seeds, logits

    def _on_the_whole(self, masked: Tensor, shown: Tensor, whole: Propagation) -> Tensor:
        """Logits of the masked nodes from the whole graph."""
        # Of the last layer, as wide as there are classes, only the rows that the loss is taken on.
        last = self.matrix.of_rows(masked) or whole.to_rows(masked)
        n_others = len(self.network.layers) - 1
        first, h = first_layer(self.network, self.matrix, self.nodes, shown) if n_others else (None, None)
        if first is None:
            h = self.network.embed(shown, self.nodes.resident)
        return self.network([first or whole] * min(n_others, 1) + [whole] * (n_others - 1) + [last], h)

    @property
    def _by_label(self) -> bool:
        """Whether nodes are known by their label alone, so that these are what the first layer's matrix is over.

        On a GPU, whose products are balanced by rows, the transpose would have few long ones.
        """
        return self.nodes.features is None and isinstance(self.sampler, NeighborSampler)

    def _sample(self, seeds: npt.NDArray[np.int64], seed: int, shown: Tensor) -> list[Block]:
        """Sample neighborhoods."""
        by_label = {"shown": shown.numpy()} if self._by_label else {}
        with kept_threads():
            return self.sampler.sample(seeds, self.schedule.fanouts, seed=seed, **by_label)  # type: ignore[union-attr]

    def _validate(self) -> None:
        """Score the held-out nodes and keep the weights if they are the best so far."""
        start = time.perf_counter()
        record = self.history[-1]
        loss = record["loss"]  # where no node is held out
        judged, test = self._judged, self.nodes.test
        total, n_correct, n_correct_test = 0.0, 0, 0
        if len(judged) or len(test):
            wanted, rows_of_wanted = self._scored
            shown = self.nodes.shown(self.nodes.held_out)
            ranges = infer(self.network, self.matrix, self.nodes, shown, whole=self.whole, wanted=rows_of_wanted)
            for rows, logits in ranges:
                here, positions = _common(wanted[rows], judged, logits)
                target = self.nodes.codes[torch.from_numpy(judged[here]).to(logits.device)]
                total += float(functional.cross_entropy(logits[positions], target, reduction="sum"))
                n_correct += int((logits[positions].argmax(dim=1) == target).sum())
                here, positions = _common(wanted[rows], test, logits)
                predicted = logits[positions].argmax(dim=1).cpu().numpy()
                n_correct_test += int((predicted == self.nodes.test_codes[here]).sum())
        if len(judged):
            loss = total / len(judged)
            record |= {"validation_loss": loss, "validation_accuracy": n_correct / len(judged)}
        if len(test):
            record["test_accuracy"] = n_correct_test / len(test)
        if loss < self.best_loss:
            self.best_loss, self.best_epoch, self.best = loss, self.epoch, _copy(self.network)
        self.seconds["validation"] += time.perf_counter() - start

    def _state(self, fingerprint: str) -> dict[str, Any]:
        return {
            "fingerprint": fingerprint,
            "full_batch": self.whole is not None,
            "batch_size": self.schedule.batch_size,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "history": self.history,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from the state of an earlier run."""
        self.epoch, self.best_epoch = state["epoch"], state["best_epoch"]
        self.best_loss, self.history, self.best = state["best_loss"], state["history"], state["best"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def _common(
    range_of_nodes: npt.NDArray[np.int64], nodes: npt.NDArray[np.int64], logits: Tensor
) -> tuple[slice, Tensor]:
    """Ascending nodes that lie in an ascending range, and their positions in it, on the logits' device."""
    if not len(nodes) or not len(range_of_nodes):
        return slice(0, 0), torch.empty(0, dtype=torch.int64, device=logits.device)
    first, last = np.searchsorted(nodes, [range_of_nodes[0], range_of_nodes[-1] + 1])
    positions = np.searchsorted(range_of_nodes, nodes[first:last])
    return slice(int(first), int(last)), torch.from_numpy(positions).to(logits.device)


def _copy(network: GraphNetwork) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
