"""Measures by which studies compare embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Device
from clorg_scale.measures import calinski_harabasz, class_homogeneity
from clorg_scale.neighbors import knn
from clorg_scale.probes import KNNProbe, LinearProbe
from clorg_scale.rld import rld
from clorg_scale.studies.table import Row
from clorg_scale.whole import MOST_SEED, whole_number

__all__ = ["TEMPERATURES", "measure"]

TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.05)
KS = (1, 10, 100)
VOTERS = 20


def measure(embeddings: Any, labels: npt.NDArray[Any], *, device: Device = "auto", seed: int = 0) -> Row:
    """RLD, class homogeneity among cosine neighbors, Calinski-Harabasz; accuracies on one half from the other.

    Parameters
    ----------
    embeddings, labels
        (n, d) and (n,); n >= 40.
    device, seed
        As for `clorg_scale.rld`; the seed also halves the points.
    """
    seed = whole_number("seed", seed, 0, MOST_SEED)
    points = np.asarray(embeddings, dtype=np.float32)
    found: Row = {"points": len(points), "features": points.shape[1]}
    values = rld(points, labels, temperatures=TEMPERATURES, device=device, seed=seed).values
    found |= {f"RLD {t:g}": float(value) for t, value in zip(TEMPERATURES, values, strict=True)}
    ks = [k for k in KS if k < len(points)]
    table = knn(points, max(ks), metric="cosine", device=device, seed=seed)
    found |= {f"CHI {k}": float(value) for k, value in class_homogeneity(table, labels, ks=ks).items()}
    found["Calinski-Harabasz"] = float(calinski_harabasz(points, labels))
    order = np.random.default_rng(seed).permutation(len(points))
    fitted, scored = order[: len(points) // 2], order[len(points) // 2 :]
    for name, probe in (
        ("k-NN accuracy", KNNProbe(VOTERS, metric="cosine", device=device)),
        ("linear accuracy", LinearProbe(seed=seed, device=device)),
    ):
        found[name] = float(probe.fit(points[fitted], labels[fitted]).score(points[scored], labels[scored]))
    return found
