"""Graph layers of the neural probes, in PyTorch.

The layers take a sparse matrix M over nodes and multiply with it, so one code serves the whole graph and sampled
blocks of it. They are our own rather than PyTorch Geometric's: the paper's layer is not among those, GraphSAGE's
mean is a product of the same kind, and a CSR product is many times faster than messages along an edge list.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GraphConvolution", "GraphNetwork", "Propagation", "Rows", "SAGEConvolution"]


class Rows(Protocol):
    """Rows of a sparse matrix over some nodes: `Propagation`, or what the CPU computes by itself."""

    def __matmul__(self, h: Tensor) -> Tensor:
        """(targets, width) product with h (sources, width)."""

    def own(self, h: Tensor) -> Tensor:
        """(targets, width) rows of h of the targets themselves."""


@dataclass(frozen=True)
class Propagation:
    """A sparse matrix M (targets x sources) with its transpose.

    Attributes
    ----------
    matrix
        Sparse CSR tensor.
    transposed
        Its transpose, sparse CSR; None where no gradient is wanted.
    targets
        Where the targets stand among the sources.
    rows
        Rows of the product that are wanted; None: all.
    """

    matrix: Tensor
    transposed: Tensor | None
    targets: slice | Tensor
    rows: Tensor | None = None

    def __matmul__(self, h: Tensor) -> Tensor:
        """M h for h (sources, width), or the rows of it that are wanted."""
        product = _SparseProduct.apply(self, h)
        return product if self.rows is None else product[self.rows]

    def own(self, h: Tensor) -> Tensor:
        """(targets, width) rows of h of the targets themselves."""
        return h[self.targets]

    def to_rows(self, rows: Tensor) -> Propagation:
        """The same matrix over all nodes, of whose product only some rows are wanted."""
        return Propagation(self.matrix, self.transposed, rows, rows)


class _SparseProduct(torch.autograd.Function):  # type: ignore[misc]
    """M h, whose gradient with respect to h is M^T g: both are products with a CSR matrix."""

    @staticmethod
    def forward(ctx: Any, propagation: Propagation, h: Tensor) -> Tensor:
        ctx.transposed = propagation.transposed
        return propagation.matrix @ h

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.transposed @ gradient.contiguous()


class GraphConvolution(nn.Module):  # type: ignore[misc]
    """H' = M H W + s H W + b with M = D^-1/2 A D^-1/2 and a learned scalar s that starts at 0.

    The layer of the paper (arXiv 2305.10229), which lets the graph have no self-loops and learns how much of
    itself a node keeps.
    """

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(_xavier(n_in, n_out, generator))
        self.self_weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, propagation: Rows, h: Tensor) -> Tensor:
        """(targets, n_out) from h (sources, n_in)."""
        # Sums are made at the narrower of both widths: with many classes, one product of the output's size.
        if self.weight.shape[0] > self.weight.shape[1]:
            h = h @ self.weight
            return propagation @ h + self.self_weight * propagation.own(h) + self.bias
        together = propagation @ h + self.self_weight * propagation.own(h)
        return torch.addmm(self.bias, together, self.weight)


class SAGEConvolution(nn.Module):  # type: ignore[misc]
    """H' = M H W_n + H W_s + b with M = D^-1 A, the mean over neighbors by weight.

    Hamilton, Ying, Leskovec, Inductive representation learning on large graphs, 2017, with the mean aggregator;
    on a graph whose weights are all equal it is theirs.
    """

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(_xavier(n_in, n_out, generator))
        self.self_weight = nn.Parameter(_xavier(n_in, n_out, generator))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, propagation: Rows, h: Tensor) -> Tensor:
        """(targets, n_out) from h (sources, n_in)."""
        own = torch.addmm(self.bias, propagation.own(h), self.self_weight)
        # The narrower of H and H W goes through the sparse product.
        if self.weight.shape[0] > self.weight.shape[1]:
            return own + propagation @ (h @ self.weight)
        return torch.addmm(own, propagation @ h, self.weight)


def _xavier(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    return nn.init.xavier_uniform_(torch.empty(n_in, n_out), generator=generator)


class GraphNetwork(nn.Module):  # type: ignore[misc]
    """Input embedding, hidden graph layers with batch norm and SELU, an output layer.

    A layer whose input and output widths agree adds its input to its output, as in the paper.

    Parameters
    ----------
    layer
        `GraphConvolution` or `SAGEConvolution`.
    n_classes
        C, width of the output.
    hidden
        Width of the input embedding and of the hidden layers.
    n_layers
        Graph layers, the output layer included.
    with_labels
        Whether a node's input has the embedding of its label: one of C + 1, the last for "masked".
    n_features
        Features of a node that are projected into its input; 0 for none.
    generator
        Draws the initial weights.
    """

    def __init__(
        self,
        layer: type[GraphConvolution] | type[SAGEConvolution],
        *,
        n_classes: int,
        hidden: int,
        n_layers: int,
        with_labels: bool,
        n_features: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.label_embedding: nn.Parameter | None = None
        self.feature_weight: nn.Parameter | None = None
        if with_labels:
            self.label_embedding = nn.Parameter(torch.randn(n_classes + 1, hidden, generator=generator))
        if n_features:
            self.feature_weight = nn.Parameter(_xavier(n_features, hidden, generator))
        widths = [hidden] * n_layers + [n_classes]
        self.layers = nn.ModuleList(layer(a, b, generator) for a, b in pairwise(widths))
        # No running statistics: the paper normalizes by those of the whole graph, in training and in use.
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden, track_running_stats=False) for _ in range(n_layers - 1))

    def embed(self, shown: Tensor, features: Tensor | None) -> Tensor:
        """(b, hidden) input of nodes from the labels shown (b,), C where masked, and features (b, d)."""
        h = None
        if self.label_embedding is not None:
            h = functional.embedding(shown, self.label_embedding)
        if self.feature_weight is not None:
            projected = features @ self.feature_weight
            h = projected if h is None else h + projected
        return h

    def forward(self, propagations: list[Rows], h: Tensor) -> Tensor:
        """(targets of the last, C) logits from the input h of the first one's sources."""
        for number, propagation in enumerate(propagations):
            z = self.layers[number](propagation, h)
            h = self.activate(number, z, propagation.own(h) if z.shape[1] == h.shape[1] else None)
        return h

    def activate(
        self,
        number: int,
        z: Tensor,
        h: Tensor | None,
        statistics: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Finish layer `number`: normalize z, SELU, add the same nodes' input h where there is one (widths agree).

        `statistics` are the mean and variance of z over all nodes, where z holds only some of them.
        """
        if number < len(self.norms):
            norm = self.norms[number]
            if statistics is None and len(z) == 1:  # one node has no spread of its own
                statistics = z[0].detach(), torch.ones_like(z[0])
            mean, variance = statistics or (None, None)
            z = functional.batch_norm(
                z, mean, variance, norm.weight, norm.bias, training=statistics is None, eps=norm.eps
            )
            z = functional.selu(z)
        return z if h is None else z + h
