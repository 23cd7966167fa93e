"""The affinity graph: three CSR arrays, and its conversions to the objects of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.affinity import conversions
from clorg_scale.affinity.scaling import sums_of_rows
from clorg_scale.affinity.storage import is_graph_folder, open_folder, write_folder
from clorg_scale.affinity.symmetrize import row_numbers
from clorg_scale.arrays import Array, array_module, on_host
from clorg_scale.counted import counted
from clorg_scale.errors import InputError
from clorg_scale.neighbors.result import KNN
from clorg_scale.results.result import Columns, Result
from clorg_scale.results.stored import beside
from clorg_scale.store.atomic import write_whole
from clorg_scale.store.endings import check_ending
from clorg_scale.store.regular import check_regular_file

__all__ = ["AffinityGraph"]


@dataclass(frozen=True)
class AffinityGraph(Result):
    """A symmetric, weighted, sparse graph without self-loops, as compressed sparse rows.

    Attributes
    ----------
    indptr
        (n + 1,) first entry of each row; int32 while there are fewer than 2^31 entries, int64 beyond.
    indices
        (entries,) column of each entry, sorted within a row; the dtype of `indptr`.
    weights
        (entries,) float32, or float64 where float32 does not hold those of a given graph; finite, >= 0.
        Each edge is stored twice, once for either end.
    knn
        The table that the graph was made of, whose distances `to_anndata` writes; None for any other graph.

    The ``to_...`` methods return copies: changes to them in place do not change the graph.
    """

    indptr: Array = field(metadata=beside())
    indices: Array = field(metadata=beside())
    weights: Array = field(metadata=beside())
    knn: KNN | None = field(default=None, repr=False, compare=False)

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.indptr) - 1

    @property
    def n_edges(self) -> int:
        """Number of undirected edges."""
        return len(self.indices) // 2

    @property
    def degrees(self) -> Array:
        """(n,) float64 sum of the weights at each node."""
        return sums_of_rows(self.indptr, self.weights)

    def rows(self) -> Array:
        """(entries,) row of each entry, int64."""
        return row_numbers(self.indptr)

    def subgraph(self, nodes: Any) -> AffinityGraph:
        """Keep some nodes, a boolean mask (n,), and the edges among them."""
        xp = array_module(self.indptr)
        mask = xp.asarray(nodes)
        if mask.dtype != np.bool_ or mask.shape != (self.n_nodes,):
            raise InputError(f"A subgraph needs one boolean for each of the {self.n_nodes} nodes.")
        number = xp.cumsum(mask) - 1
        rows = self.rows()
        kept = mask[rows] & mask[self.indices]
        indptr = xp.zeros(int(mask.sum()) + 1, dtype=self.indptr.dtype)
        indptr[1:] = xp.cumsum(xp.bincount(number[rows[kept]], minlength=len(indptr) - 1))
        return AffinityGraph(indptr, number[self.indices[kept]].astype(self.indices.dtype), self.weights[kept])

    def n_components(self) -> int:
        """Number of connected components."""
        from scipy.sparse.csgraph import connected_components

        return int(connected_components(conversions.shared_scipy(self), directed=False, return_labels=False))

    @classmethod
    def from_scipy(cls, matrix: Any) -> AffinityGraph:
        """Make a graph of a SciPy (or CuPy) sparse adjacency matrix.

        Explicit zeros and the diagonal are dropped, duplicates summed in float64, indices sorted. Weights beyond the
        range of float32 stay float64.

        Raises
        ------
        InputError
            If it is not square and symmetric, or holds negative, NaN or infinite weights.
        """
        return cls(*conversions.checked_csr(matrix))

    def to_scipy(self) -> Any:
        """(n, n) `scipy.sparse.csr_array` of the dtype of `weights`."""
        return conversions.to_scipy(self)

    def to_cupy(self) -> Any:
        """(n, n) `cupyx.scipy.sparse.csr_matrix` of the dtype of `weights`, on the GPU.

        Raises
        ------
        InputError
            Beyond 2^31 entries, where CuPy's sparse matrices are silently wrong.
        """
        return conversions.to_cupy(self)

    def to_cugraph(self) -> Any:
        """Undirected weighted `cugraph.Graph` with all n vertices, isolated ones too."""
        return conversions.to_cugraph(self)

    def to_cudf_edgelist(self) -> Any:
        """`cudf.DataFrame` with columns source, destination, weight; each edge in both directions."""
        return conversions.to_cudf_edgelist(self)

    def to_networkx(self) -> Any:
        """`networkx.Graph` with edge attribute "weight"."""
        return conversions.to_networkx(self)

    def to_igraph(self) -> Any:
        """Undirected `igraph.Graph` with edge attribute "weight"."""
        return conversions.to_igraph(self)

    def to_pyg(self, *, normalize: bool = True) -> Any:
        """`torch_geometric.data.Data` with edge_index (2, entries) int64 and edge_weight (entries,) float32.

        Parameters
        ----------
        normalize
            Weights D^-1/2 A D^-1/2, D the sums of the weights at the nodes: the eigenvalues lie between -1 and 1, so
            that layers which only sum (`GraphConv`) can learn. False: the graph's own weights, up to n^2 for
            ``weighting="rld"``, for layers that normalize themselves (`GCNConv`).
        """
        return conversions.to_pyg(self, normalize=normalize)

    def to_anndata(self, adata: Any = None, *, key_added: str | None = None, use_rep: str | None = None) -> Any:
        """`anndata.AnnData` with the graph where `scanpy.pp.neighbors` puts it and Scanpy's tools read it.

        That is ``obsp["connectivities"]`` (the weights), ``obsp["distances"]`` and ``uns["neighbors"]``. The distances
        are those of the k-NN table. A graph that has no table (`from_scipy`, `load`, `subgraph`) gets
        1 - log(weight / largest weight), which orders the neighbors as the weights do and is not a distance of points;
        ``uns["neighbors"]["params"]["distances"]`` says so.

        Parameters
        ----------
        adata
            (n, any) `AnnData` of the same points, in the same order, that is written into and returned; the default
            is a new one without X.
        key_added
            As in `scanpy.pp.neighbors`: ``uns[key_added]``, ``obsp[f"{key_added}_connectivities"]`` and
            ``obsp[f"{key_added}_distances"]`` instead.
        use_rep
            Key of ``adata.obsm``, or "X", that holds the embeddings which the graph was made of; Scanpy's tools read
            them there. By default Scanpy takes X, or its principal components.

        Raises
        ------
        InputError
            If `adata` is not an AnnData or has another number of observations, or `use_rep` is not in it.
        """
        return conversions.to_anndata(self, adata, key_added=key_added, use_rep=use_rep)

    def to_dict(self) -> dict[str, Any]:
        """Numbers of nodes and of edges."""
        return {"n_nodes": self.n_nodes, "n_edges": self.n_edges}

    def _tables(self) -> dict[str, Callable[[], Columns]]:
        return {"edges": self._edges}

    def _edges(self) -> Columns:
        rows, columns = on_host(self.rows()), on_host(self.indices)
        once = rows < columns
        return {"source": rows[once], "target": columns[once], "weight": on_host(self.weights)[once]}

    def _line(self) -> str:
        return f"{counted(self.n_nodes, 'node')}, {counted(self.n_edges, 'edge')}"

    def _shown(self) -> Columns:
        return {"": list(self.to_dict()), "value": list(self.to_dict().values())}

    def save(self, path: str | Path) -> None:
        """Write the graph, whole or not at all, for `open` or `load`.

        Parameters
        ----------
        path
            ``NAME.npz`` for one file, or a folder, without an ending, for ``indptr.npy``, ``indices.npy``,
            ``weights.npy`` and ``metadata.json``, which `open` maps. A folder that holds another graph is replaced;
            graphs that are opened from it stay as they are.

        Raises
        ------
        InputError
            If the ending is another, the folder holds something else, or it cannot be written.
        """
        if Path(path).is_dir() or not Path(path).suffix:
            write_folder(path, tuple(on_host(array) for array in self._arrays()))
            return
        check_ending(path, (".npz",))
        host = [on_host(array) for array in self._arrays()]
        with write_whole(path) as file:
            np.savez(file, indptr=host[0], indices=host[1], weights=host[2])

    @classmethod
    def open(cls, path: str | Path) -> AffinityGraph:
        """Map a graph in a folder that `save` wrote, read-only: it may be larger than main memory.

        Degrees, modularity of labels, label propagation and minibatches of the probes read it in blocks; communities
        (igraph) and the ``to_...`` methods copy it.

        Raises
        ------
        InputError
            If there is no graph, or it is truncated, changed or something else.
        """
        return cls(*open_folder(path))

    @classmethod
    def load(cls, path: str | Path) -> AffinityGraph:
        """Read an .npz file that `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, truncated or something else.
        """
        check_regular_file(path)
        if is_graph_folder(path):
            raise InputError(f"{path} is a graph in a folder; use AffinityGraph.open.")
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = stored["indptr"], stored["indices"], stored["weights"]
        except FileNotFoundError:
            raise InputError(f"There is no file {path}.") from None
        except Exception as error:  # a damaged zip file raises one of many
            raise InputError(
                f"{path} is not an affinity graph that clorg-scale wrote, or is damaged ({error})."
            ) from error
        indptr, indices, weights = arrays
        if len(indptr) < 1 or int(indptr[-1]) != len(indices) or len(indices) != len(weights):
            raise InputError(f"{path} is damaged: its arrays do not fit together.")
        return cls(indptr, indices, weights)

    def _arrays(self) -> tuple[Array, Array, Array]:
        return self.indptr, self.indices, self.weights
