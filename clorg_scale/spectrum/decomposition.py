r"""`spectrum`: the largest eigenvalues of :math:`S = D^{-1/2} A D^{-1/2}`, with their eigenvectors.

S has eigenvalues in -1 .. 1, and 1 once for each connected component, with the eigenvector :math:`D^{1/2} 1` on it.
The spectrum of a graph is the union of those of its components. So each component is solved by itself: a Lanczos
method from one start vector may miss copies of an eigenvalue, and components are where copies come from.

The result of every solver is checked: residuals :math:`|S u - \lambda u|`, and whether a search
orthogonal to the vectors found meets a larger eigenvalue.
"""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph
from clorg_scale.arrays import (
    UNLABELLED,
    Array,
    Device,
    array_module,
    encode_labels,
    on_host,
    resolve_device,
    within_device_memory,
)
from clorg_scale.errors import InputError
from clorg_scale.results.result import Columns, Result
from clorg_scale.results.stored import beside
from clorg_scale.spectrum.dense import dense_pairs
from clorg_scale.spectrum.filtered_subspace import METHOD, filtered_pairs
from clorg_scale.spectrum.normalized import (
    NotConvergedError,
    connected_components,
    normalized_affinity,
    residuals_of,
)
from clorg_scale.whole import whole_number

__all__ = ["Spectrum", "memory_needed", "solver_device", "spectrum"]

DENSE_NODES = 2_000
"""Nodes up to which a component is solved as a dense matrix (half a second), on the CPU: clusters that barely hang
together have many eigenvalues within 1e-6 of 1, which no iteration tells apart in less."""

Solver = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Spectrum(Result):
    """Leading eigenpairs of the normalized affinity graph, largest first.

    Attributes
    ----------
    eigenvalues
        (m,) float64, descending, 1 at most.
    eigenvectors
        (n, m) float64, orthonormal columns, the largest entry of each positive; 0 at isolated nodes. NumPy.
    residuals
        (m,) float64 length of S u - lambda u.
    n_connected
        Connected components with an edge: the multiplicity of the eigenvalue 1.
    n_isolated
        Nodes without an edge; they have no part in S.
    classes
        (C,) class labels; empty where no labels were given.
    class_share
        (m,) share of the class indicators in the span of the first 1 .. m eigenvectors, mean over the classes; empty
        where no labels were given. 1 where every class is a union of the clusters that these eigenvectors describe.
    per_class
        (C,) share of each class's indicator in the span of all m; NaN for a class of isolated nodes only.
    method
        Library and device.
    seconds
        Wall-clock time.
    """

    eigenvalues: npt.NDArray[np.float64]
    eigenvectors: npt.NDArray[np.float64] = field(metadata=beside())
    residuals: npt.NDArray[np.float64]
    n_connected: int
    n_isolated: int
    classes: npt.NDArray[Any]
    class_share: npt.NDArray[np.float64]
    per_class: npt.NDArray[np.float64]
    method: str
    seconds: float = field(compare=False)

    @property
    def eigengap(self) -> npt.NDArray[np.float64]:
        """(m - 1,) difference of each eigenvalue to the next."""
        return -np.diff(self.eigenvalues)

    @property
    def n_clusters(self) -> int:
        """Clusters of the graph, found without labels: eigenvalues before the largest gap (von Luxburg 2007).

        The number of connected components where all eigenvalues are 1.
        """
        if self.n_connected >= len(self.eigenvalues):
            return self.n_connected
        return int(self.eigengap.argmax()) + 1

    def to_dict(self) -> dict[str, Any]:
        """Everything but the eigenvectors, as numbers, strings and lists that JSON can hold."""
        return {
            "eigenvalues": self.eigenvalues.tolist(),
            "eigengap": self.eigengap.tolist(),
            "n_clusters": self.n_clusters,
            "residuals": self.residuals.tolist(),
            "n_connected": self.n_connected,
            "n_isolated": self.n_isolated,
            "classes": self.classes.tolist(),
            "class_share": self.class_share.tolist(),
            "per_class": [None if np.isnan(share) else float(share) for share in self.per_class],
            "method": self.method,
            "seconds": self.seconds,
        }

    def _tables(self) -> dict[str, Callable[[], Columns]]:
        return {"eigenvalues": self._by_eigenvalue} | ({"classes": self._by_class} if len(self.classes) else {})

    def _by_eigenvalue(self) -> Columns:
        m = len(self.eigenvalues)
        columns: dict[str, Any] = {"number": np.arange(1, m + 1), "eigenvalue": self.eigenvalues}
        columns |= {"gap": np.append(self.eigengap, np.nan), "residual": self.residuals}
        return columns | ({"class_share": self.class_share} if len(self.class_share) else {})

    def _by_class(self) -> Columns:
        return {"class": self.classes, "share": self.per_class}

    def _line(self) -> str:
        first = ", ".join(f"{value:.4f}" for value in self.eigenvalues[:5])
        more = ", ..." if len(self.eigenvalues) > 5 else ""
        share = f", class_share={self.class_share[-1]:.3f}" if len(self.class_share) else ""
        isolated = f", {self.n_isolated} isolated nodes" if self.n_isolated else ""
        return (
            f"{len(self.eigenvalues)} eigenvalues: {first}{more}; n_clusters={self.n_clusters}{share}{isolated}; "
            f"{self.method}"
        )


@within_device_memory("the spectrum of the graph")
def spectrum(
    graph: AffinityGraph,
    n_components: int = 50,
    *,
    labels: Any = None,
    unlabelled: int | str | None = UNLABELLED,
    device: Device = "auto",
) -> Spectrum:
    r"""Find the leading eigenpairs of the normalized affinity graph.

    With labels, also the share of the class indicators in their span: for class c with
    :math:`y_c = D^{1/2} 1_c / |D^{1/2} 1_c|`, the squared length of the projection of :math:`y_c` on the first m
    eigenvectors; the mean over classes. Contrastive learning recovers these eigenvectors (HaoChen et al. 2021), so
    this bounds what a linear classifier can read from m features. By chance it is about m / n, and at least 1 / C
    on a connected graph whose nodes are all labeled, as the first eigenvector lies in the span of the indicators.

    Parameters
    ----------
    graph
        The affinity graph; its weights are used.
    n_components
        Eigenpairs m; all where the graph has fewer nodes with an edge.
    labels
        (n,) class of each node, or None.
    unlabelled
        The label of nodes without a class; None: every label is one.
    device
        "auto" computes where the graph is: on the GPU with pylibraft's Lanczos method, on the CPU by Chebyshev-filtered
        subspace iteration otherwise, or where pylibraft is not installed. Components of up to 2,000 nodes are solved
        densely on the CPU.

    Returns
    -------
    Spectrum
        Computing it takes about 48 n m bytes on a CPU.

    Raises
    ------
    InputError
        If the graph has no edges, an argument is out of range, labels do not fit, or no solver converges.

    Warns
    -----
    UserWarning
        If pylibraft did not converge under ``device="auto"`` and the CPU was used instead.
    """
    started = time.perf_counter()
    n_components = whole_number("n_components", n_components, 1)
    classes = None if labels is None else encode_labels(labels, graph.n_nodes, unlabelled=unlabelled)
    used = solver_device(graph, device)
    if used == "cpu":
        graph = replace(
            graph, indptr=on_host(graph.indptr), indices=on_host(graph.indices), weights=on_host(graph.weights)
        )
    components, n_connected = connected_components(graph)
    if not n_connected:
        raise InputError("The graph has no edges; it has no spectrum.")
    isolated = components < 0
    n_isolated = int(isolated.sum())
    wanted = min(int(n_components), graph.n_nodes - n_isolated)
    solver = _Solver(used, fall_back=device == "auto")
    values, vectors, residuals = _union(graph, components, n_connected, wanted, solver)
    share, per_class = np.empty(0), np.empty(0)
    if classes is not None:
        roots = np.sqrt(on_host(graph.degrees))
        share, per_class = _class_shares(vectors, roots, classes.codes, len(classes.names))
    return Spectrum(
        eigenvalues=values,
        eigenvectors=vectors,
        residuals=residuals,
        n_connected=n_connected,
        n_isolated=n_isolated,
        classes=np.empty(0) if classes is None else classes.names,
        class_share=share,
        per_class=per_class,
        method=solver.name,
        seconds=time.perf_counter() - started,
    )


def memory_needed(n: int, m: int) -> int:
    """Bytes that `spectrum` takes on a CPU for m eigenvectors of n nodes: four blocks of float64 of 1.5 m vectors."""
    return 48 * n * m


def solver_device(graph: AffinityGraph, device: Device) -> Solver:
    """Choose the device: a GPU for a graph that is on it already, or if it is named."""
    chosen = resolve_device(device)
    if device == "auto" and chosen == "cuda":
        if array_module(graph.weights) is np:
            return "cpu"
        try:
            importlib.import_module("pylibraft.sparse.linalg")
        except ImportError:
            return "cpu"
    return chosen


class _Solver:
    """Solves components on a device, and records by which method.

    Parameters
    ----------
    device
        Device that solves large components.
    fall_back
        Whether SciPy solves what pylibraft does not.
    """

    def __init__(self, device: Solver, *, fall_back: bool) -> None:
        self.device: Solver = device
        self.fall_back = fall_back
        self.name = "NumPy, dense, on the CPU"

    def pairs(self, graph: AffinityGraph, k: int) -> tuple[npt.NDArray[np.float64], ...]:
        """(k,) eigenvalues, (n, k) eigenvectors and (k,) residuals of a connected graph, k <= n."""
        matrix, roots = normalized_affinity(graph)
        if k == 1:
            self._used("closed form: no component has more than one of these eigenvectors")
            return self._checked(matrix, roots, np.ones(1), roots[:, None])
        if graph.n_nodes <= DENSE_NODES or k >= graph.n_nodes // 4:
            matrix = matrix.get() if hasattr(matrix, "get") else matrix
            return self._checked(matrix, on_host(roots), *dense_pairs(matrix, k))
        if self.device == "cuda":
            try:
                return self._on_gpu(matrix, roots, k)
            except NotConvergedError as problem:
                if not self.fall_back:
                    raise InputError(f"{problem} Ask for fewer eigenvectors, or use device='cpu'.") from None
                warnings.warn(f"{problem} The CPU is used instead.", stacklevel=5)
        matrix = matrix.get() if hasattr(matrix, "get") else matrix
        try:
            values, vectors = filtered_pairs(matrix, k)
        except NotConvergedError as problem:
            raise InputError(f"{problem} Ask for fewer eigenvectors.") from None
        self._used(METHOD)
        return self._checked(matrix, on_host(roots), values, vectors)

    def _on_gpu(self, matrix: Any, roots: Array, k: int) -> tuple[npt.NDArray[np.float64], ...]:
        from clorg_scale.spectrum.lanczos_pylibraft import lanczos_pairs_on_gpu

        values, vectors, name = lanczos_pairs_on_gpu(matrix, k)
        self._used(name)
        return self._checked(matrix, roots, values, vectors)

    def _used(self, name: str) -> None:
        if not name.startswith("closed form") or self.name.startswith("NumPy"):
            self.name = name

    @staticmethod
    def _checked(matrix: Any, roots: Array, values: Array, vectors: Array) -> tuple[npt.NDArray[np.float64], ...]:
        """Pairs in order, in main memory; the first one is known exactly."""
        xp = array_module(vectors)
        values, vectors = xp.asarray(values), xp.asarray(vectors)
        order = xp.argsort(-values, kind="stable")
        values, vectors = values[order], vectors[:, order]
        values[0], vectors[:, 0] = 1.0, roots / xp.sqrt((roots**2).sum())
        vectors[:, 1:] -= vectors[:, :1] @ (vectors[:, :1].T @ vectors[:, 1:])
        residuals = residuals_of(matrix, values, vectors)
        return on_host(values), on_host(vectors), on_host(residuals)


def _union(
    graph: AffinityGraph, components: npt.NDArray[np.int64], n_connected: int, m: int, solver: _Solver
) -> tuple[npt.NDArray[np.float64], ...]:
    """(m,) eigenvalues, (n, m) eigenvectors, (m,) residuals: the largest of all components."""
    # Every component has the eigenvalue 1, so that none has more than m - (the others) of the m largest.
    solved = range(min(m, n_connected))
    most = m - len(solved) + 1
    nodes = [np.flatnonzero(components == component) for component in solved]
    xp = array_module(graph.weights)
    solutions = []
    for members in nodes:
        mask = np.zeros(graph.n_nodes, dtype=bool)
        mask[members] = True
        component = graph if len(members) == graph.n_nodes else graph.subgraph(xp.asarray(mask))
        solutions.append(solver.pairs(component, min(most, len(members))))
    values = np.concatenate([solution[0] for solution in solutions])
    owner = np.repeat(np.arange(len(solutions)), [len(solution[0]) for solution in solutions])
    column = np.concatenate([np.arange(len(solution[0])) for solution in solutions])
    chosen = np.argsort(-values, kind="stable")[:m]
    vectors = np.zeros((graph.n_nodes, m))
    residuals = np.empty(m)
    for j, pick in enumerate(chosen):
        found = solutions[owner[pick]][1][:, column[pick]]
        vectors[nodes[owner[pick]], j] = found * np.sign(found[np.abs(found).argmax()])
        residuals[j] = solutions[owner[pick]][2][column[pick]]
    return np.minimum(values[chosen], 1.0), vectors, residuals


def _class_shares(
    vectors: npt.NDArray[np.float64], roots: npt.NDArray[np.float64], codes: npt.NDArray[np.int64], n_classes: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(m,) share of the indicators in the span of the first 1 .. m vectors, and (C,) of each class in that of all."""
    labeled = codes >= 0
    squares = np.bincount(codes[labeled], weights=roots[labeled] ** 2, minlength=n_classes)
    projections = np.empty((n_classes, vectors.shape[1]))
    for j, vector in enumerate(vectors.T):
        projections[:, j] = np.bincount(codes[labeled], weights=(vector * roots)[labeled], minlength=n_classes) ** 2
    present = squares > 0
    if not present.any():
        raise InputError("No node with an edge has a label; the share of the class indicators is not defined.")
    shares = np.full(projections.shape, np.nan)
    shares[present] = projections[present] / squares[present, None]
    cumulative = np.minimum(shares.cumsum(axis=1), 1.0)
    return cumulative[present].mean(axis=0), cumulative[:, -1]
