"""Numbers of neighbors that an analysis searches, and the memory that its stages take, known before any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clorg_scale.analysis.inputs import Inputs
from clorg_scale.analysis.probing import HELD_OUT, VARIED
from clorg_scale.analysis.steps import MOST_SPECTRAL_NODES
from clorg_scale.counted import counted
from clorg_scale.layout import memory_needed as layout_memory
from clorg_scale.neighbors import memory as neighbor_memory
from clorg_scale.neighbors.shared import width_with_share
from clorg_scale.rld import predicted as rld_memory
from clorg_scale.rld.compute import Method
from clorg_scale.spectrum import memory_needed as spectrum_memory

__all__ = [
    "CHI_POINTS",
    "MOST_SPECTRAL_NODES",
    "Sizes",
    "memory_needed",
    "probe_memory",
    "search_sizes",
    "spectrum_size",
]

CHI_POINTS = 5_000
"""Points asked for their neighbors' classes where there are more; the standard error is below .007."""

CHI_MOST = 1_000
"""Largest k of class homogeneity, the paper's."""

FEWEST_VECTORS, MOST_VECTORS = 20, 50
"""Eigenvectors of the graph; their number is twice that of the classes between these."""

LARGEST_SHARED = 64 << 20
"""Bytes of a table of all points that holds class homogeneity's many neighbors too."""


@dataclass(frozen=True)
class Sizes:
    """Neighbors of each point in the tables of an analysis.

    Attributes
    ----------
    table
        In the table of all points.
    probes
        Of these, or of those among points and test points, as many as the probes take: so many that k of them are
        training points.
    with_test
        Among the points and the test points passed.
    n_asked, chi_k
        Points asked for class homogeneity, and their neighbors.
    chi_from_table
        Whether the table of all points holds these.
    """

    table: int
    probes: int
    with_test: int
    n_asked: int
    chi_k: int
    chi_from_table: bool


def search_sizes(
    data: Inputs, k: int, *, chi_points: int | None, probes: bool, probe_study: bool, normalize: bool
) -> Sizes:
    """Numbers of neighbors to search.

    Parameters
    ----------
    data
        Points and labels.
    k
        Neighbors in the graph, and of the k-NN probe.
    chi_points
        Points asked for class homogeneity at most; None for all.
    probes, probe_study
        Whether probes are trained, and also in other settings.
    normalize
        Whether the points are divided by their lengths, so that cosine and Euclidean neighbors are the same.
    """
    n, n_labeled = len(data.points), int(data.classes.counts.sum())
    n_asked = n_labeled if chi_points is None else min(int(chi_points), n_labeled)
    chi_k = min(CHI_MOST, n - 1)
    n_split = n if data.test is None else n + len(data.test)
    share = n_labeled * (1 - HELD_OUT if data.test is None else 1) / n_split
    of_probes = width_with_share(k, share, n_split) if probes else k
    most = of_probes
    if probes and probe_study:
        most = max(
            of_probes, width_with_share(min(max(k, *map(int, VARIED["neighbors"])), n_split - 1), share, n_split)
        )
    table = most if data.test is None else k
    shared = normalize and n_asked == n_labeled and 8 * n * chi_k <= LARGEST_SHARED
    return Sizes(max(table, chi_k) if shared else table, of_probes, most, n_asked, chi_k, shared)


def spectrum_size(data: Inputs) -> int:
    """Eigenvectors: twice as many as classes, so that a gap behind the classes is seen; from 20 to 50."""
    return min(len(data.points), max(FEWEST_VECTORS, min(2 * len(data.names), MOST_VECTORS)))


def memory_needed(
    data: Inputs, sizes: Sizes, k: int, *, n_temperatures: int, method: Method, map_points: int, perplexity: float
) -> dict[str, int]:
    """Bytes that each of the stages which bound their memory needs at least, by what it computes."""
    n, d = data.points.shape
    needs = {
        f"RLD of {n} points": rld_memory.memory_needed(
            (n, d), data.points.dtype, n_temperatures=n_temperatures, method=method, k=k
        ),
        f"Searching {counted(sizes.chi_k, 'neighbor')} of {sizes.n_asked} points": neighbor_memory.memory_needed(
            n, d, sizes.chi_k, sizes.n_asked
        ),
        f"Searching {counted(sizes.table, 'neighbor')} of {n} points": neighbor_memory.memory_needed(n, d, sizes.table),
    }
    if n <= MOST_SPECTRAL_NODES:
        needs[f"The spectrum of the graph of {n} points"] = spectrum_memory(n, spectrum_size(data))
    if map_points:
        what = f"The map of {min(map_points, n)} points"
        needs[what] = layout_memory(n, d, map_points, perplexity=perplexity)
    if data.test is not None:
        n += len(data.test)
        what = f"Searching {counted(sizes.with_test, 'neighbor')} of {n} points"
        needs[what] = neighbor_memory.memory_needed(n, d, sizes.with_test)
    return needs


def probe_memory(data: Inputs, probes: Sequence[str], k: int) -> dict[str, int]:
    """Bytes that each probe needs at least, by what it computes; probes see the training and the test points."""
    from clorg_scale.probes.least_memory import least_memory

    n, d = data.points.shape
    n_with_test = n + (0 if data.test is None else len(data.test))
    return {f"The {name} probe": least_memory(name, n_with_test, d, len(data.names), k) for name in probes}
