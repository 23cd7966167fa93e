"""Exact RLD of the GPU's engines against the dense definition in float64."""

from functools import cache

import numpy as np
import pytest
from gpu_data import TEMPERATURES, clustered

from clorg_scale.rld.definition import dense_rld
from clorg_scale.rld.modularity import label_modularity
from clorg_scale.rld.points import ClassOrderedPoints

torch = pytest.importorskip("torch", reason="torch is not installed")

from clorg_scale.rld.exact import gpu as gpu_engine
from clorg_scale.rld.exact.launch_plan import choose_kernels

ALLOWED = {"ieee": 2e-6, "tf32x3": 2e-6, "tf32": 1e-4, "fp16": 1e-4, "bf16": 1e-3}
"""Error of each input mode on points of few features."""

SHAPES = {"cpu": [(311, 17)], "gpu": [(2999, 17), (3001, 300)]}
"""Numbers of points that fill no tile."""


def values(machine, X, codes, *, kernels=None, precision=None):
    """RLD by some kernels, or by those of the machine."""
    n_classes = int(codes.max()) + 1
    points = ClassOrderedPoints(X, codes, n_classes)
    options = {"kernels": kernels or machine.kernels, "precision": precision, "device": machine.device}
    sums = gpu_engine.exact_sums(points, TEMPERATURES, **options, advance=lambda _: None)
    return label_modularity(sums.k, sums.w, codes, n_classes).values


@cache
def expected_values(n, d, spread=1.0):
    """RLD of `clustered` points by the definition."""
    return dense_rld(*clustered(n, d, spread=spread), TEMPERATURES)[0]


def cases():
    """All kernels in every input mode that they have; on the CPU torch's tiles."""
    for machine, shapes in SHAPES.items():
        for n, d in shapes:
            for kernels in ("torch",) if machine == "cpu" else ("hopper", "triton", "torch"):
                for precision in ("fp16", "bf16") if kernels == "hopper" else ALLOWED:
                    marks = [pytest.mark.gpu] if machine == "gpu" else []
                    yield pytest.param(machine, n, d, kernels, precision, marks=marks)


@pytest.mark.parametrize(("machine", "n", "d", "kernels", "precision"), list(cases()), indirect=["machine"])
def test_exact_rld(machine, n, d, kernels, precision, within):
    if kernels == "hopper":
        device = torch.device("cuda", torch.cuda.current_device())
        if choose_kernels("auto", precision, device, len(TEMPERATURES)) != "hopper":
            pytest.skip("the GPU is not of the Hopper generation, or CuPy or cuda-core is not installed")
    found = values(machine, *clustered(n, d), kernels=kernels, precision=precision)
    error = abs(found - expected_values(n, d)).max()
    within(f"exact RLD {n} x {d} {kernels} {precision}", error, ALLOWED[precision])


def test_exact_rld_of_collapsed_classes(machine, within):
    """Classes so tight that every pair within one is recomputed; twice, bit for bit."""
    n = 3000 if machine.is_gpu else 300
    X, codes = clustered(n, 32, spread=1e-3)
    first, second = (values(machine, X, codes, precision="ieee") for _ in range(2))
    within("exact RLD of collapsed classes", abs(first - expected_values(n, 32, 1e-3)).max(), 5e-5)
    within("the same twice (difference)", abs(first - second).max(), 0.0)


def test_exact_rld_streamed(machine, within, monkeypatch):
    """Panels copied while others are worked on give what resident points give."""
    n, d, panel_rows = (60_000, 512, 8192) if machine.is_gpu else (600, 32, 200)
    X, codes = clustered(n, d)
    resident = values(machine, X, codes)
    monkeypatch.setattr(gpu_engine, "plan_panels", lambda *_, **__: (panel_rows, False))
    streamed = values(machine, X, codes)
    assert np.isfinite(streamed).all()
    # The first estimate of mu is coarser for streamed points; what is left after its correction is less than this.
    within(f"exact RLD {n} x {d}, panels of {panel_rows} streamed", abs(streamed - resident).max(), 5e-6)
