"""Sampled RLD by torch's tiles against the CPU's compiled loops: landmarks and near field are the same."""

import numpy as np
import pytest
from gpu_data import TEMPERATURES, clustered

from clorg_scale.neighbors import knn
from clorg_scale.rld.points import ClassOrderedPoints
from clorg_scale.rld.sampled.estimate import sampled_sums
from clorg_scale.rld.sampled.near_field import NearField
from clorg_scale.rld.sampled.tile_order import tile_order

CASES = [
    pytest.param("cpu", 700, 17, np.float32, 1e-4),
    pytest.param("gpu", 700, 17, np.float32, 1e-4, marks=pytest.mark.gpu),
    pytest.param("gpu", 20_000, 128, np.float32, 1e-4, marks=pytest.mark.gpu),
    pytest.param("gpu", 3000, 64, np.float64, 1e-9, marks=pytest.mark.gpu),
]


@pytest.mark.parametrize(("machine", "n", "d", "dtype", "allowed"), CASES, indirect=["machine"])
def test_sampled_rld(machine, n, d, dtype, allowed, within):
    X, codes = clustered(n, d)
    points = ClassOrderedPoints(X.astype(dtype), codes, 10)
    near_field = NearField.of(knn(X, 15, device="cpu"), tile_order(n, 0))
    found, expected = (
        sampled_sums(points, codes, near_field, TEMPERATURES, target_error=0.005, n_landmarks=300, device=device)
        for device in (machine.device, None)
    )
    for name in ("k", "w", "log_r", "stderr"):
        scale = abs(getattr(expected, name)).max()
        error = abs(getattr(found, name) - getattr(expected, name)).max() / scale
        within(f"sampled RLD {n} x {d} {np.dtype(dtype).name}, {name}", error, allowed)
