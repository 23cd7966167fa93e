"""Conversions of an affinity graph to the objects of other libraries, which are imported when they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clorg_scale.affinity.scaling import inverse_roots, scaled_weights
from clorg_scale.arrays import Array, array_module, on_host
from clorg_scale.counted import counted
from clorg_scale.errors import InputError, require

if TYPE_CHECKING:
    from clorg_scale.affinity.graph import AffinityGraph

__all__ = [
    "checked_csr",
    "shared_scipy",
    "to_anndata",
    "to_cudf_edgelist",
    "to_cugraph",
    "to_cupy",
    "to_igraph",
    "to_networkx",
    "to_pyg",
    "to_scipy",
]


def checked_csr(matrix: Any) -> tuple[Array, Array, Array]:
    """CSR arrays of a sparse matrix that is a graph."""
    if not hasattr(matrix, "tocsr"):
        raise InputError(f"The graph is a {type(matrix).__name__}; pass a SciPy sparse matrix.")
    if matrix.dtype.kind not in "fiub":
        raise InputError(f"The graph has weights of dtype {matrix.dtype}; they must be real numbers.")
    # In float64 before duplicates are summed: small integers would wrap around.
    csr = matrix.astype(np.float64).tocsr(copy=True)
    if csr.shape[0] != csr.shape[1]:
        raise InputError(f"The graph has shape {csr.shape}; an adjacency matrix is square.")
    xp = array_module(csr.data)
    if len(csr.data) and not bool((xp.isfinite(csr.data) & (csr.data >= 0)).all()):
        raise InputError("The graph has weights that are negative, NaN or infinite; repair or remove them.")
    csr.sum_duplicates()
    largest = float(csr.data.max()) if len(csr.data) else 0.0
    if largest > np.finfo(np.float64).max / max(1, len(csr.data)):
        raise InputError("The weights of the graph may add up beyond float64; divide all of them by a common factor.")
    if largest and abs(csr - csr.T).max() > 1e-6 * largest:
        raise InputError("The graph is not symmetric; pass for example graph.maximum(graph.T).")
    csr = csr.tocoo()
    rows, columns = csr.row, csr.col
    kept = (rows != columns) & (csr.data > 0)
    rows, columns, weights = rows[kept], columns[kept], csr.data[kept]
    order = xp.lexsort(xp.stack([columns, rows]))
    dtype = np.int32 if max(csr.shape[0], len(rows)) < 2**31 else np.int64
    indptr = xp.zeros(csr.shape[0] + 1, dtype=dtype)
    indptr[1:] = xp.cumsum(xp.bincount(rows, minlength=csr.shape[0]))
    return indptr, columns[order].astype(dtype), weights[order].astype(_weight_dtype(weights))


def _weight_dtype(weights: Array) -> type[np.floating[Any]]:
    """Give float32, or float64 where float32 does not hold all weights (> 0)."""
    limits = np.finfo(np.float32)
    fits = not len(weights) or (limits.tiny <= weights.min() and weights.max() <= float(limits.max))
    return np.float32 if fits else np.float64


def to_scipy(graph: AffinityGraph) -> Any:
    """See `AffinityGraph.to_scipy`."""
    return shared_scipy(graph).copy()


def shared_scipy(graph: AffinityGraph) -> Any:
    """(n, n) `csr_array` on the graph's own arrays where they are on the CPU; not to be changed."""
    from scipy.sparse import csr_array

    indptr, indices, weights = (on_host(array) for array in (graph.indptr, graph.indices, graph.weights))
    matrix = csr_array((weights, indices, indptr), shape=(graph.n_nodes, graph.n_nodes), copy=False)
    matrix.has_canonical_format = True
    return matrix


def to_cupy(graph: AffinityGraph) -> Any:
    """See `AffinityGraph.to_cupy`."""
    if len(graph.indices) >= 2**31:
        raise InputError(
            f"The graph has {len(graph.indices)} entries; CuPy's sparse matrices hold at most 2^31 - 1. "
            "Use the arrays indptr, indices and weights themselves."
        )
    cupy = require("cupy", extra="cuda13", purpose="A graph on the GPU")
    sparse = require("cupyx.scipy.sparse", extra="cuda13", purpose="A graph on the GPU")
    arrays = tuple(cupy.array(array) for array in (graph.weights, graph.indices, graph.indptr))
    return sparse.csr_matrix(arrays, shape=(graph.n_nodes, graph.n_nodes))


def to_cudf_edgelist(graph: AffinityGraph) -> Any:
    """See `AffinityGraph.to_cudf_edgelist`."""
    cudf = require("cudf", extra="rapids13", purpose="A cuDF edge list")
    cupy = require("cupy", extra="cuda13", purpose="A cuDF edge list")
    return cudf.DataFrame(
        {
            "source": cupy.asarray(graph.rows().astype(graph.indices.dtype)),
            "destination": cupy.array(graph.indices),
            "weight": cupy.array(graph.weights),
        }
    )


def to_cugraph(graph: AffinityGraph) -> Any:
    """See `AffinityGraph.to_cugraph`."""
    cugraph = require("cugraph", extra="rapids13", purpose="A cuGraph graph")
    cudf = require("cudf", extra="rapids13", purpose="A cuGraph graph")
    cupy = require("cupy", extra="cuda13", purpose="A cuGraph graph")
    # Both directions are in the list already: cuGraph is to symmetrize nothing (it would keep minima or means by
    # its version). `vertices` keeps the isolated ones.
    result = cugraph.Graph(directed=False)
    result.from_cudf_edgelist(
        to_cudf_edgelist(graph),
        source="source",
        destination="destination",
        weight="weight",
        renumber=False,
        symmetrize=False,
        vertices=cudf.Series(cupy.arange(graph.n_nodes, dtype=graph.indices.dtype)),
    )
    return result


def to_networkx(graph: AffinityGraph) -> Any:
    """See `AffinityGraph.to_networkx`."""
    networkx = require("networkx", extra="interop", purpose="A NetworkX graph")
    return networkx.from_scipy_sparse_array(shared_scipy(graph))


def to_igraph(graph: AffinityGraph) -> Any:
    """See `AffinityGraph.to_igraph`."""
    import igraph

    rows, columns, weights = (on_host(array) for array in (graph.rows(), graph.indices, graph.weights))
    once = rows < columns
    edges = np.column_stack([rows[once], columns[once]]).astype(np.int64)
    converted = igraph.Graph(n=graph.n_nodes)
    converted.add_edges(edges, attributes={"weight": weights[once].astype(np.float64)})  # faster than the constructor
    return converted


def to_pyg(graph: AffinityGraph, *, normalize: bool = True) -> Any:
    """See `AffinityGraph.to_pyg`."""
    torch = require("torch", extra="train", purpose="A PyTorch Geometric graph")
    data = require("torch_geometric.data", extra="test", purpose="A PyTorch Geometric graph")
    rows = graph.rows()
    weights = _normalized(graph) if normalize else graph.weights.copy()
    # DLPack: on the CPU or the GPU. `stack` copies the indices; the weights are a copy already.
    arrays = (rows, graph.indices.astype(np.int64), weights)
    rows, columns, weights = (torch.from_dlpack(array) for array in arrays)
    return data.Data(edge_index=torch.stack([rows, columns]), edge_weight=weights, num_nodes=graph.n_nodes)


def _normalized(graph: AffinityGraph) -> Array:
    """(entries,) float32 weights of D^-1/2 A D^-1/2; 0 at nodes without weight."""
    inverse = inverse_roots(graph.degrees)
    return scaled_weights(graph.indptr, graph.indices, graph.weights, inverse, inverse)


def to_anndata(graph: AffinityGraph, adata: Any = None, *, key_added: str | None, use_rep: str | None) -> Any:
    """See `AffinityGraph.to_anndata`."""
    anndata = require("anndata", extra="interop", purpose="An AnnData object")
    pandas = require("pandas", extra="interop", purpose="An AnnData object")
    from scipy.sparse import csr_matrix

    _check_anndata(graph, adata, anndata.AnnData, use_rep)
    if adata is None:
        # X stays None: tools that take centroids of the points then do without them; on X without columns they fail.
        adata = anndata.AnnData(obs=pandas.DataFrame(index=[str(i) for i in range(graph.n_nodes)]))
    elif adata.is_view:
        adata._init_as_actual(adata.copy())  # as Scanpy does
    prefix = "" if key_added is None else f"{key_added}_"
    keys = {"connectivities_key": f"{prefix}connectivities", "distances_key": f"{prefix}distances"}
    adata.obsp[keys["connectivities_key"]] = csr_matrix(to_scipy(graph))
    adata.obsp[keys["distances_key"]] = csr_matrix(_distances(graph))
    adata.uns[key_added or "neighbors"] = keys | {"params": _neighbor_settings(graph, use_rep)}
    return adata


def _check_anndata(graph: AffinityGraph, adata: Any, kind: Any, use_rep: str | None) -> None:
    """Refuse objects that the graph cannot be written into."""
    if adata is None:
        if use_rep is not None:
            raise InputError(f"use_rep={use_rep!r} names an entry of an AnnData; pass the AnnData, too.")
        return
    if not isinstance(adata, kind):
        raise InputError(f"The graph is written into an AnnData, not into a {type(adata).__name__}.")
    if adata.n_obs != graph.n_nodes:
        raise InputError(f"The AnnData has {counted(adata.n_obs, 'observation')}, the graph {graph.n_nodes} nodes.")
    if use_rep is not None and use_rep != "X" and use_rep not in adata.obsm:
        raise InputError(f"use_rep={use_rep!r} is not in the AnnData's obsm; it has {sorted(adata.obsm)}.")


def _distances(graph: AffinityGraph) -> Any:
    """Sparse (n, n) float64: distances of the k-NN table, or values in their place where there is none."""
    if graph.knn is not None:
        distances = graph.knn.to_scipy("distance", include_self=False)
        distances.sort_indices()
        return distances
    distances = to_scipy(graph).astype(np.float64)
    # 1 for the strongest edge, more for the others: none is 0, which sparse matrices drop. An edge of weight 0 (below
    # the smallest float32) counts as one of that weight.
    smallest = float(np.finfo(np.float32).smallest_subnormal)
    weights = np.maximum(distances.data, smallest)
    distances.data = 1.0 - np.log(weights / weights.max(initial=smallest))
    return distances


def _neighbor_settings(graph: AffinityGraph, use_rep: str | None) -> dict[str, Any]:
    """Entries of `params` as `scanpy.pp.neighbors` writes them; it counts each point among its own neighbors."""
    settings: dict[str, Any] = {"method": "clorg-scale", "random_state": 0}
    if graph.knn is not None:
        settings |= {"n_neighbors": graph.knn.k + 1, "metric": graph.knn.metric}
    else:
        mean_degree = len(graph.indices) / max(graph.n_nodes, 1)
        settings |= {"n_neighbors": max(round(mean_degree), 1) + 1, "metric": "euclidean"}
        settings["distances"] = "1 - log(weight / largest weight): the graph has no k-NN table"
    return settings if use_rep is None else settings | {"use_rep": use_rep}
