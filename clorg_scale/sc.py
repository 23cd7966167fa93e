"""Neighbors, communities and RLD of an AnnData, in place, where Scanpy's tools look for them.

`neighbors` and `leiden` write what `scanpy.pp.neighbors` and `scanpy.tl.leiden` write, under the same names, so that
`scanpy.tl.umap`, `paga`, `diffmap`, `rank_genes_groups` and others run on it. Scanpy need not be installed, but for
principal components that are not there yet.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from clorg_scale.affinity import AffinityGraph, affinity_graph
from clorg_scale.affinity.construction import Weighting
from clorg_scale.arrays import UNLABELLED, Array, Device
from clorg_scale.communities import communities
from clorg_scale.counted import counted
from clorg_scale.errors import InputError, require
from clorg_scale.neighbors import knn
from clorg_scale.neighbors.result import Metric
from clorg_scale.rld import rld as compute_rld
from clorg_scale.whole import whole_number

__all__ = ["leiden", "neighbors", "rld"]

SMALL = 50
"""Features of X up to which it is taken itself, as Scanpy does."""


def neighbors(
    adata: Any,
    n_neighbors: int = 15,
    n_pcs: int | None = None,
    *,
    use_rep: str | None = None,
    metric: Metric = "euclidean",
    random_state: int = 0,
    key_added: str | None = None,
    copy: bool = False,
    temperature: float = 0.1,
    weighting: Weighting = "rld",
    index: str = "auto",
    device: Device = "auto",
) -> Any:
    """Find neighbors and build the affinity graph, as `scanpy.pp.neighbors` with this package's graph.

    Parameters
    ----------
    adata
        `AnnData` (n, any).
    n_neighbors
        Neighbors of each point, itself included, as Scanpy counts.
    n_pcs
        Columns of the representation that are used; 0 takes X.
    use_rep
        ``"X"`` or a key of ``adata.obsm``; default: ``obsm["X_pca"]`` (computed by Scanpy where it is missing), or X
        where it has at most 50 features.
    metric, index, device
        As for `clorg_scale.knn`.
    random_state
        Seed of the search.
    key_added
        Write to ``uns[key_added]`` and ``obsp[f"{key_added}_..."]``.
    copy
        Change a copy and return it.
    temperature, weighting
        As for `clorg_scale.affinity_graph`.

    Returns
    -------
    None, or the copy, with ``obsp["connectivities"]`` (n, n) float32, ``obsp["distances"]`` (n, n) float64 and
    ``uns["neighbors"]``.

    Raises
    ------
    InputError
        If it is not an AnnData, the representation is missing or too narrow, or a setting is out of range.
    """
    adata = _annotated(adata, copy=copy)
    n_neighbors = whole_number("n_neighbors", n_neighbors, 2)
    X, use_rep = _representation(adata, use_rep, n_pcs)
    table = knn(X, n_neighbors - 1, metric=metric, index=index, device=device, seed=random_state)
    graph = affinity_graph(table, temperature=temperature, weighting=weighting)
    named = use_rep if use_rep == "X" or use_rep in adata.obsm else None
    graph.to_anndata(adata, key_added=key_added, use_rep=named)
    params = adata.uns[key_added or "neighbors"]["params"]
    params["random_state"] = int(random_state)
    params |= {"weighting": weighting, "temperature": float(temperature), "index": table.index}
    if n_pcs is not None:
        params["n_pcs"] = int(n_pcs)
    return adata if copy else None


def leiden(
    adata: Any,
    resolution: float = 1.0,
    *,
    random_state: int = 0,
    key_added: str = "leiden",
    adjacency: Any = None,
    neighbors_key: str | None = None,
    obsp: str | None = None,
    copy: bool = False,
    method: Literal["leiden", "louvain"] = "leiden",
    device: Device = "auto",
) -> Any:
    """Find communities, as `scanpy.tl.leiden`.

    Parameters
    ----------
    adata
        `AnnData` (n, any) with neighbors.
    resolution
        Larger gives more communities.
    random_state
        Seed.
    key_added
        Column of ``obs`` and entry of ``uns``.
    adjacency
        (n, n) symmetric sparse matrix to use in place of the neighbors.
    neighbors_key
        ``key_added`` of `neighbors`.
    obsp
        Key of ``adata.obsp`` to use in place of the neighbors.
    copy
        Change a copy and return it.
    method, device
        As for `clorg_scale.communities`.

    Returns
    -------
    None, or the copy, with ``obs[key_added]``, categories ``"0"``, ``"1"``, ... by decreasing size, and
    ``uns[key_added]``: ``params`` and ``modularity``.

    Raises
    ------
    InputError
        If it is not an AnnData, has no neighbors, or a setting is out of range.
    """
    pandas = require("pandas", extra="interop", purpose="An AnnData object")
    adata = _annotated(adata, copy=copy)
    if adjacency is None:
        adjacency = _adjacency(adata, neighbors_key, obsp)
    graph = AffinityGraph.from_scipy(adjacency)
    if graph.n_nodes != adata.n_obs:
        raise InputError(f"The graph has {graph.n_nodes} nodes, the AnnData {counted(adata.n_obs, 'observation')}.")
    found = communities(graph, method=method, resolution=resolution, seed=random_state, device=device)
    adata.obs[key_added] = pandas.Categorical.from_codes(found.labels, [str(i) for i in range(len(found.sizes))])
    adata.uns[key_added] = {
        "params": {
            "resolution": float(resolution),
            "random_state": int(random_state),
            "n_iterations": int(found.details.get("iterations", -1)),
        },
        "modularity": found.modularity,
    }
    return adata if copy else None


def rld(
    adata: Any,
    label_key: str,
    n_pcs: int | None = None,
    *,
    use_rep: str | None = None,
    key_added: str = "rld",
    copy: bool = False,
    unlabelled: int | str | None = UNLABELLED,
    random_state: int = 0,
    **settings: Any,
) -> Any:
    """Measure Relative Local Density of labels of the observations.

    Parameters
    ----------
    adata
        `AnnData` (n, any).
    label_key
        Column of ``adata.obs`` with the classes.
    n_pcs, use_rep, copy
        As for `neighbors`.
    key_added
        Entry of ``uns`` and ``obsm``.
    unlabelled
        Label of observations without a class.
    random_state
        Seed, where RLD is sampled.
    settings
        Others of `clorg_scale.rld`: ``temperatures``, ``method``, ``device``, ``target_error``, ...

    Returns
    -------
    None, or the copy. ``uns[key_added]`` holds ``temperatures`` (t,), ``values`` (t,), ``stderr`` (t,), ``per_class``
    (t, C), ``classes`` (C,), ``method``, ``mean_distance``, ``n_points`` and ``params``;
    ``obsm[f"{key_added}_density"]`` (n, t) float32 the local density of each observation, NaN where unlabelled.

    Raises
    ------
    InputError
        If it is not an AnnData, the column or the representation is missing, or `clorg_scale.rld` refuses the data.
    """
    adata = _annotated(adata, copy=copy)
    if label_key not in adata.obs:
        raise InputError(f"label_key={label_key!r} is not in the AnnData's obs; it has {sorted(map(str, adata.obs))}.")
    X, use_rep = _representation(adata, use_rep, n_pcs)
    labels = adata.obs[label_key]
    result = compute_rld(X, labels, unlabelled=unlabelled, seed=random_state, **settings)
    params: dict[str, Any] = {"label_key": label_key, "use_rep": use_rep, "random_state": int(random_state)}
    if n_pcs is not None:
        params["n_pcs"] = int(n_pcs)
    adata.uns[key_added] = {
        "temperatures": np.asarray(result.temperatures, dtype=np.float64),
        "values": np.asarray(result.values, dtype=np.float64),
        "stderr": np.asarray(result.stderr, dtype=np.float64),
        "per_class": np.asarray(result.per_class, dtype=np.float64),
        "classes": np.asarray(result.classes),
        "method": result.method,
        "mean_distance": float(result.mean_distance),
        "n_points": int(result.n_points),
        "params": params,
    }
    adata.obsm[f"{key_added}_density"] = np.asarray(result.local_density, dtype=np.float32).T.copy()
    return adata if copy else None


def _annotated(adata: Any, *, copy: bool) -> Any:
    """Check that it is an AnnData that can be written into."""
    anndata = require("anndata", extra="interop", purpose="An AnnData object")
    if not isinstance(adata, anndata.AnnData):
        raise InputError(f"An AnnData is needed, not a {type(adata).__name__}.")
    if copy:
        return adata.copy()
    if adata.is_view:
        adata._init_as_actual(adata.copy())  # as Scanpy does
    return adata


def _representation(adata: Any, use_rep: str | None, n_pcs: int | None) -> tuple[Array, str]:
    """Choose the embeddings as Scanpy does; (n, d), and where they are."""
    if n_pcs is not None:
        n_pcs = whole_number("n_pcs", n_pcs, 0)
    if use_rep is None:
        if n_pcs == 0 or ("X_pca" not in adata.obsm and adata.n_vars <= SMALL):
            use_rep, n_pcs = "X", None
        else:
            use_rep = "X_pca"
            if use_rep not in adata.obsm:
                scanpy = require("scanpy", extra="test-core", purpose="Principal components of X, which are not there,")
                scanpy.pp.pca(adata)
    if use_rep == "X":
        if adata.X is None:
            raise InputError("The AnnData has no X; name a key of its obsm with use_rep.")
        return adata.X, use_rep
    if use_rep not in adata.obsm:
        raise InputError(f"use_rep={use_rep!r} is not in the AnnData's obsm; it has {sorted(adata.obsm)}.")
    X = adata.obsm[use_rep]
    if not n_pcs:
        return X, use_rep
    if n_pcs > X.shape[1]:
        raise InputError(f"n_pcs={n_pcs}, but {use_rep} has {X.shape[1]} columns.")
    return (X.iloc[:, :n_pcs] if hasattr(X, "iloc") else X[:, :n_pcs]), use_rep


def _adjacency(adata: Any, neighbors_key: str | None, obsp: str | None) -> Any:
    """Find the connectivities that Scanpy would take."""
    if obsp is not None and neighbors_key is not None:
        raise InputError("Give either obsp or neighbors_key, not both.")
    if obsp is None:
        entry = adata.uns.get(neighbors_key or "neighbors")
        if entry is None:
            raise InputError(
                f"The AnnData has no uns[{neighbors_key or 'neighbors'!r}]; run clorg_scale.sc.neighbors or "
                "scanpy.pp.neighbors first."
            )
        obsp = entry.get("connectivities_key", "connectivities")
    if obsp not in adata.obsp:
        raise InputError(f"obsp={obsp!r} is not in the AnnData; it has {sorted(adata.obsp)}.")
    return adata.obsp[obsp]
