"""Main memory that probes may take, and what they say of it before they begin."""

from __future__ import annotations

from typing import NamedTuple

from clorg_scale.arrays import available_memory, parse_memory
from clorg_scale.arrays.memory import at_least, in_bytes
from clorg_scale.errors import InputError

__all__ = ["Allowance", "least_memory", "memory_allowed"]

SHARE_OF_AVAILABLE = 0.8
"""Share of the free memory that a probe takes where no limit is given."""


class Allowance(NamedTuple):
    """Memory that may be taken.

    Attributes
    ----------
    bytes
        Amount.
    name
        What it is called in a message.
    """

    bytes: int
    name: str

    def check(self, what: str, needed: int, advice: str = "raise the limit") -> None:
        """Check that so many bytes are allowed.

        Raises
        ------
        InputError
            If not; says how much would do.
        """
        if needed > self.bytes:
            raise InputError(
                f"{what} needs at least {at_least(needed)}, more than the {self.name} of {in_bytes(self.bytes)}; "
                f"{advice}."
            )


def memory_allowed(limit: str | int | None) -> Allowance:
    """Memory that a limit as users give it allows; without one, most of what is free.

    Raises
    ------
    InputError
        If the limit is no amount of memory.
    """
    given = parse_memory(limit)
    if given is not None:
        return Allowance(given, "memory limit")
    return Allowance(int(SHARE_OF_AVAILABLE * available_memory()), "memory available")


def least_memory(name: str, n: int, n_features: int, n_classes: int, k: int) -> int:
    """Bytes that a probe needs at least beside embeddings and graph, on a graph of k neighbors; 0 where it bounds none.

    Parameters
    ----------
    name
        One of `clorg_scale.probes.PROBES`. The k-NN probe keeps to a limit as the search does.
    n, n_features, n_classes
        Points, features, classes.
    k
        Neighbors; a symmetric graph has at most 2 n k entries.
    """
    nnz = 2 * n * k
    if name == "linear":
        from clorg_scale.probes.fitting import memory_needed as for_softmax

        return for_softmax(n, n_features, n_classes)
    if name == "label_propagation":
        from clorg_scale.probes import propagation

        return propagation.memory_needed(n, nnz, n_classes, propagation.chosen_scores(n, n_classes))
    if name in ("gcn", "sage"):
        from clorg_scale.probes import planning

        size = planning.GraphSize(n, nnz, n_classes, 0, planning.DEFAULT_HIDDEN, planning.DEFAULT_LAYERS)
        fanouts = planning.fanouts_by_degree(n, nnz, size.n_layers)
        return min(planning.full_batch_bytes(size), planning.batch_bytes(size, planning.SMALLEST_BATCH, fanouts))
    return 0
