"""RLD of random subsets compared with RLD of all points: the effect of subsampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clorg_scale.arrays import UNLABELLED, ClassLabels, Device, as_embeddings, encode_labels
from clorg_scale.counted import counted
from clorg_scale.errors import InputError
from clorg_scale.progress import progress_bar
from clorg_scale.results.result import Columns, Result
from clorg_scale.rld.compute import DEFAULT_TEMPERATURES, Method, rld
from clorg_scale.rld.result import RLDResult
from clorg_scale.rld.types import Floats, Integers
from clorg_scale.whole import whole_number

__all__ = ["SubsetRLD", "rld_of_subsets"]


@dataclass(frozen=True)
class SubsetRLD(Result):
    """RLD of random subsets of growing size, and of all points.

    Attributes
    ----------
    temperatures
        (t,)
    sizes
        (s,) points in a subset.
    values
        (s, t) mean over the subsets of a size.
    stderr
        (s, t) its standard error.
    difference
        (s, t) `values` less those of all points: the error of subsampling.
    whole
        RLD of all points.
    """

    temperatures: Floats
    sizes: Integers
    values: Floats
    stderr: Floats
    difference: Floats
    whole: RLDResult

    def _tables(self) -> dict[str, Callable[[], Columns]]:
        return {"sizes": self._by_size}

    def _by_size(self) -> Columns:
        s, t = self.values.shape
        columns = {"size": np.repeat(self.sizes, t), "temperature": np.tile(self.temperatures, s)}
        return columns | {name: getattr(self, name).ravel() for name in ("values", "stderr", "difference")}

    def _line(self) -> str:
        sizes = ", ".join(f"{size:,}" for size in self.sizes)
        return f"subsets of {sizes} of {self.whole.n_points:,} points, {counted(len(self.temperatures), 'temperature')}"


def rld_of_subsets(
    embeddings: Any,
    labels: Any,
    *,
    sizes: Sequence[int] = (),
    n_subsets: int = 5,
    temperatures: Iterable[float] = DEFAULT_TEMPERATURES,
    method: Method = "auto",
    device: Device = "auto",
    target_error: float = 0.005,
    memory_limit: str | int | None = None,
    seed: int = 0,
    progress: bool = False,
    unlabelled: int | str | None = UNLABELLED,
) -> SubsetRLD:
    """Show how RLD of a random subset differs from RLD of all points.

    At small temperatures RLD depends on the nearest neighbors, and in a subset these are farther away: it is another
    number, mostly a smaller one. Where all points are too many, ``rld(..., method="sampled")`` estimates theirs.

    Parameters
    ----------
    embeddings, labels, temperatures, method, device, target_error, memory_limit, seed, unlabelled
        As for `clorg_scale.rld`, for all points and for each subset.
    sizes
        Points of the subsets, 3 <= size < n; default: a tenth, a fifth and a half of all.
    n_subsets
        Subsets of each size, at least 2; drawn independently of each other, without regard to the labels.
    progress
        Show a progress bar on stderr.

    Returns
    -------
    SubsetRLD

    Raises
    ------
    InputError
        As `clorg_scale.rld`; for sizes out of range or fewer than two subsets.
    """
    points = as_embeddings(embeddings)
    n = points.shape[0]
    classes = encode_labels(labels, n, unlabelled=unlabelled)
    given = [max(3, n // 10), max(3, n // 5), max(3, n // 2)] if len(sizes) == 0 else sizes
    chosen = [whole_number("The size of a subset", size, 3, n - 1, where=f" of the {n} points") for size in given]
    n_subsets, seed = whole_number("n_subsets", n_subsets, 2), whole_number("seed", seed, 0)
    requested = tuple(temperatures)
    settings: dict[str, Any] = {
        "temperatures": requested,
        "method": method,
        "device": device,
        "target_error": target_error,
        "memory_limit": memory_limit,
        "seed": seed,
    }
    whole = rld(points, classes, progress=progress, **settings)
    rng = np.random.default_rng(seed)
    values = np.empty((len(chosen), n_subsets, len(requested)))
    with progress_bar("RLD of subsets", values.shape[0] * n_subsets, unit="subsets", enabled=progress) as advance:
        for row, size in enumerate(chosen):
            for column in range(n_subsets):
                rows = np.sort(rng.choice(n, size=size, replace=False))
                values[row, column] = rld(points[rows], _of_subset(classes, rows), **settings).values
                advance(1)
    mean = values.mean(axis=1)
    return SubsetRLD(
        temperatures=whole.temperatures,
        sizes=np.asarray(chosen, dtype=np.int64),
        values=mean,
        stderr=values.std(axis=1, ddof=1) / np.sqrt(n_subsets),
        difference=mean - whole.values,
        whole=whole,
    )


def _of_subset(classes: ClassLabels, rows: Integers) -> ClassLabels:
    """Classes of some points, without those that have none of them.

    Raises
    ------
    InputError
        If fewer than two are left.
    """
    codes = classes.codes[rows]
    kept = np.unique(codes[codes >= 0])
    if len(kept) < 2:
        raise InputError(f"A subset of {len(rows)} points has fewer than two classes; take larger subsets.")
    return ClassLabels(np.where(codes >= 0, np.searchsorted(kept, codes), UNLABELLED), classes.names[kept])
