"""Inputs of a graph network at the nodes: the labels shown to it, their features."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clorg_scale.arrays import Array, on_host
from clorg_scale.probes.propagate import as_tensor
from clorg_scale.probes.standardize import StandardizedReader

__all__ = ["Nodes"]


@dataclass(frozen=True)
class Nodes:
    """The nodes of a transductive task on the training device.

    Attributes
    ----------
    codes
        (n,) int64 class codes of the training nodes; C for every other node, so no test label is here.
    fitted
        Training nodes that the loss may be taken on.
    held_out
        Training nodes that early stopping is decided on; masked while training.
    n_classes
        C.
    features
        Reads standardized features of nodes; None where the network sees none.
    resident
        (n, d) the same features on the device, where they fit (full-batch training); else None.
    test, test_codes
        Test nodes, ascending, and their classes, for the record of accuracies alone; empty as a rule.
    """

    codes: Tensor
    fitted: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]
    n_classes: int
    features: StandardizedReader | None
    resident: Tensor | None
    test: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    test_codes: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def device(self) -> torch.device:
        """Device that the network is trained on."""
        return self.codes.device

    def shown(self, *hidden: npt.NDArray[np.int64]) -> Tensor:
        """(n,) labels shown to the network: all training labels but those of the `hidden` nodes."""
        shown = self.codes.clone()
        for nodes in hidden:
            shown[torch.from_numpy(nodes).to(self.device)] = self.n_classes
        return shown

    def read_features(self, nodes: slice | Array) -> Tensor | None:
        """(b, d) features of some nodes on the device, or None."""
        if self.features is None:
            return None
        if self.resident is not None:
            return self.resident[nodes if isinstance(nodes, slice) else as_tensor(nodes, self.device)]
        rows = nodes if isinstance(nodes, slice) else on_host(nodes)
        return as_tensor(self.features(rows), self.device)
