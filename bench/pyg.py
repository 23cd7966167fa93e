"""The network of the GCN probe out of PyTorch Geometric's layers: full batch, and batches of its NeighborLoader."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional

from .harness.peers import MissingPeerError, import_peer

__all__ = ["COMPANIONS", "SHARE", "batched_epoch", "full_epochs", "loader_epoch", "masked_nodes", "network_of", "step"]

SHARE = 0.275
"""Masked share of the training nodes in the timed epochs: the mean of the probe's range."""

COMPANIONS = ("pyg_lib", "torch_sparse")
"""Compiled packages, one of which PyTorch Geometric's NeighborLoader samples with."""


def full_epochs(graph: Any, labels: npt.NDArray[np.int64]) -> dict[str, Callable[[], None]]:
    """One epoch on the whole graph: on an edge list and on a CSR tensor, normalized weights cached."""
    conv = import_peer("torch_geometric.nn", "torch-geometric").GCNConv
    adjacency = sp.csr_matrix((graph.weights, graph.indices, graph.indptr))
    csr = torch.sparse_csr_tensor(
        *(torch.from_numpy(part.astype(np.int64)) for part in (adjacency.indptr, adjacency.indices)),
        torch.from_numpy(adjacency.data),
        size=adjacency.shape,
        check_invariants=False,
    )
    return {
        "PyG GCNConv, edge list": step(network_of(conv, labels), labels, *_edge_list(graph)),
        "PyG GCNConv, CSR tensor": step(network_of(conv, labels), labels, csr),
    }


def loader_epoch(graph: Any, labels: npt.NDArray[np.int64], fanout: int, batch_size: int) -> Callable[[], None]:
    """One epoch in batches of NeighborLoader.

    Raises
    ------
    MissingPeerError
        If none of its compiled companions is installed.
    """
    conv = import_peer("torch_geometric.nn", "torch-geometric").GCNConv
    if not any(importlib.util.find_spec(name) for name in COMPANIONS):
        raise MissingPeerError(f"PyG's NeighborLoader needs {' or '.join(COMPANIONS)}; neither is installed")
    network = network_of(conv, labels, cached=False)
    return batched_epoch(network, labels, _edge_list(graph), fanout=fanout, batch_size=batch_size)


def _edge_list(graph: Any) -> tuple[torch.Tensor, torch.Tensor]:
    coo = sp.csr_matrix((graph.weights, graph.indices, graph.indptr)).tocoo()
    return torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64)), torch.from_numpy(coo.data)


def network_of(conv: Any, labels: npt.NDArray[np.int64], *, cached: bool = True) -> nn.Module:
    """The network of the GCN probe out of PyTorch Geometric's layers."""
    n_classes = int(labels.max()) + 1

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(n_classes + 1, 16)
            self.first = conv(16, 16, add_self_loops=False, cached=cached)
            self.norm = nn.BatchNorm1d(16)
            self.second = conv(16, n_classes, add_self_loops=False, cached=cached)

        def forward(self, shown: torch.Tensor, *graph: torch.Tensor) -> torch.Tensor:
            h = self.embedding(shown)
            h = functional.selu(self.norm(self.first(h, *graph))) + h
            return self.second(h, *graph)

    return Network()


def masked_nodes(rng: np.random.Generator, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes masked in an epoch, and the labels shown in it."""
    masked = torch.from_numpy(np.flatnonzero(rng.random(len(target)) < SHARE))
    shown = target.clone()
    shown[masked] = int(target.max()) + 1
    return masked, shown


def step(network: nn.Module, labels: npt.NDArray[np.int64], *graph: torch.Tensor) -> Callable[[], None]:
    """One step on the whole graph."""
    target, rng = torch.from_numpy(labels), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)

    def run() -> None:
        masked, shown = masked_nodes(rng, target)
        loss = functional.cross_entropy(network(shown, *graph)[masked], target[masked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def batched_epoch(
    network: nn.Module,
    labels: npt.NDArray[np.int64],
    graph: tuple[torch.Tensor, torch.Tensor],
    *,
    fanout: int,
    batch_size: int,
) -> Callable[[], None]:
    """Steps on the masked nodes in batches, with neighbors that NeighborLoader's sampler picks.

    Parameters
    ----------
    network, labels
        The network, and the class of each node.
    graph
        (2, edges) int64 and (edges,) weights.
    fanout, batch_size
        Neighbors sampled of each node in each of two layers, seed nodes of a batch.
    """
    from torch_geometric.data import Data
    from torch_geometric.loader import NodeLoader
    from torch_geometric.sampler import NeighborSampler

    (edges, weights), target, rng = graph, torch.from_numpy(labels), np.random.default_rng(0)
    data = Data(edge_index=edges, edge_weight=weights, y=target, num_nodes=len(labels))
    # NeighborLoader is a NodeLoader with this sampler; made once, as the seeds change from epoch to epoch.
    sampler = NeighborSampler(data, num_neighbors=[fanout] * 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)

    def run() -> None:
        masked, data.shown = masked_nodes(rng, target)
        for batch in NodeLoader(data, sampler, masked, batch_size=batch_size, shuffle=True):
            logits = network(batch.shown, batch.edge_index, batch.edge_weight)[: batch.batch_size]
            loss = functional.cross_entropy(logits, batch.y[: batch.batch_size])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run
