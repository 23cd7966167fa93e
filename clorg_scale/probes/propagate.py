"""The propagation matrix of a graph: normalized weights, whole, in row ranges and in sampled blocks, for PyTorch."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from clorg_scale.affinity.scaling import inverse_roots, scaled_weights, sums_of_rows
from clorg_scale.affinity.symmetrize import row_numbers
from clorg_scale.arrays import Array, array_module, on_host
from clorg_scale.arrays.mapped import compilable_view
from clorg_scale.probes.compiled_products import LabelPropagation, RowPropagation, SparseRows
from clorg_scale.probes.device_sampler import DeviceNeighborSampler
from clorg_scale.probes.layers import Propagation
from clorg_scale.probes.sampler import Block, NeighborSampler

__all__ = ["PropagationMatrix", "as_tensor", "block_propagation"]

Normalization = Literal["symmetric", "row"]

CPU = torch.device("cpu")


class PropagationMatrix:
    """D^-1/2 A D^-1/2 (``"symmetric"``) or D^-1 A (``"row"``) in CSR form; rows of isolated nodes are empty.

    Parameters
    ----------
    indptr, indices, weights
        Symmetric adjacency matrix A in CSR form.
    normalization
        Which of the two.
    device
        Device that trains. The matrix is made and kept there, in CuPy's arrays, if CuPy is installed beside PyTorch.

    Attributes
    ----------
    n, nnz
        Nodes, and stored entries.
    values
        (nnz,) float32, entries of the matrix.
    """

    def __init__(
        self,
        indptr: Array,
        indices: Array,
        weights: Array,
        normalization: Normalization,
        device: torch.device = CPU,
    ) -> None:
        self.n, self.nnz = len(indptr) - 1, len(indices)
        self._on_gpu = device.type == "cuda" and importlib.util.find_spec("cupy") is not None
        self._on_cpu = device.type == "cpu"
        indptr, indices, weights = (self._here(part) for part in (indptr, indices, weights))
        # One type for both: int32, which the CSR product is fastest with, while it can count the entries.
        index_type = np.int32 if self.nnz < 2**31 else np.int64
        indptr, indices = (part.astype(index_type, copy=False) for part in (indptr, indices))
        self.indptr, self.indices = (part if self._on_gpu else compilable_view(part) for part in (indptr, indices))
        degrees, xp = sums_of_rows(self.indptr, weights), array_module(weights)
        if normalization == "symmetric":
            root = inverse_roots(degrees)
            self.values = scaled_weights(self.indptr, self.indices, weights, root, root)
            self._transposed: Callable[[], Array] = lambda: self.values
        else:
            positive, ones = degrees > 0, xp.ones(self.n)
            inverse = xp.where(positive, 1 / xp.where(positive, degrees, 1.0), 0.0)
            self.values = scaled_weights(self.indptr, self.indices, weights, inverse, ones)
            self._transposed = lambda: scaled_weights(self.indptr, self.indices, weights, ones, inverse)

    def _here(self, array: Array) -> Array:
        """An array where the matrix is."""
        return importlib.import_module("cupy").asarray(array) if self._on_gpu else on_host(array)

    @cached_property
    def values_t(self) -> Array:
        """(nnz,) entries of the transpose, which has the same pattern; only training on the whole graph needs them."""
        return self._transposed()

    def whole(self, device: torch.device) -> Propagation:
        """The whole matrix, for full-batch training."""
        shape = (self.n, self.n)
        matrix = _csr_tensor(self.indptr, self.indices, self.values, shape, device)
        if self.values_t is self.values:
            return Propagation(matrix, matrix, slice(None))
        transposed = _csr_tensor(self.indptr, self.indices, self.values_t, shape, device)
        return Propagation(matrix, transposed, slice(None))

    def by_label(self, labels: torch.Tensor) -> LabelPropagation | None:
        """The whole matrix over nodes that are known by their label alone; None where the CPU does not train."""
        if not self._on_cpu:
            return None
        return LabelPropagation(SparseRows(self.indptr, self.indices, self.values), labels)

    def of_rows(self, rows: torch.Tensor) -> RowPropagation | None:
        """Some rows of the matrix, for training; None where the CPU does not train."""
        if not self._on_cpu:
            return None
        matrix, transposed = (SparseRows(self.indptr, self.indices, part) for part in (self.values, self.values_t))
        return RowPropagation(matrix, transposed, rows)

    def rows(self, rows: slice, device: torch.device) -> Propagation:
        """A range of rows over all nodes, for inference."""
        first, last = int(self.indptr[rows.start]), int(self.indptr[rows.stop])
        indptr = self.indptr[rows.start : rows.stop + 1] - first
        shape = (rows.stop - rows.start, self.n)
        matrix = _csr_tensor(indptr, self.indices[first:last], self.values[first:last], shape, device)
        return Propagation(matrix, None, rows)

    def chosen(self, nodes: npt.NDArray[np.int64], device: torch.device) -> Propagation:
        """Rows of some nodes, for inference."""
        which = self._here(nodes)
        xp, firsts = array_module(which), self.indptr[which]
        indptr = xp.zeros(len(nodes) + 1, dtype=self.indptr.dtype)
        indptr[1:] = xp.cumsum(self.indptr[which + 1] - firsts)
        entries = xp.arange(int(indptr[-1])) + (firsts - indptr[:-1])[row_numbers(indptr)]
        shape = (len(nodes), self.n)
        matrix = _csr_tensor(indptr, self.indices[entries], self.values[entries], shape, device)
        return Propagation(matrix, None, torch.from_numpy(nodes).to(device))

    def sampler(self) -> NeighborSampler | DeviceNeighborSampler:
        """A sampler of its rows, where the matrix is."""
        if self._on_gpu:
            return DeviceNeighborSampler(self.indptr, self.indices, self.values)
        return NeighborSampler(self.indptr, self.indices, self.values)


def block_propagation(block: Block, device: torch.device) -> Propagation:
    """A sampled block on the training device."""
    n_sources = len(block.sources)
    return Propagation(
        _csr_tensor(block.indptr, block.indices, block.values, (block.n_targets, n_sources), device),
        _csr_tensor(block.indptr_t, block.indices_t, block.values_t, (n_sources, block.n_targets), device),
        block.targets if isinstance(block.targets, slice) else as_tensor(block.targets, device),
    )


def _csr_tensor(
    indptr: Array,
    indices: Array,
    values: Array,
    shape: tuple[int, int],
    device: torch.device,
) -> torch.Tensor:
    """A sparse CSR tensor that shares memory with the arrays where they are on the device."""
    with warnings.catch_warnings():
        # PyTorch calls its CSR tensors "in beta state"; the product used here is a plain library call.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        parts = [as_tensor(part, device) for part in (indptr, indices, values)]
        return torch.sparse_csr_tensor(*parts, size=shape, check_invariants=False)


def as_tensor(array: Array, device: torch.device) -> torch.Tensor:
    """Share an array's memory where it is on the device already.

    Read-only arrays (memory maps) are only read, whatever PyTorch warns of.
    """
    if array_module(array) is not np:
        return torch.from_dlpack(array)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array).to(device)
