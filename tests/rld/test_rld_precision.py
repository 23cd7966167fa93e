"""The precision that `rld` computes in on a GPU; the engine runs on torch's CPU tensors here."""

from __future__ import annotations

import numpy as np
import pytest

import clorg_scale as cs

pytest.importorskip("torch", reason="torch is not installed")

from clorg_scale.rld import compute as module
from clorg_scale.rld.exact import gpu


def embeddings(dtype):
    rng = np.random.default_rng(0)
    codes = rng.integers(-1, 4, 350)
    X = 40 + 2 * rng.normal(size=(5, 24))[codes + 1] + rng.normal(size=(350, 24))
    return X.astype(dtype), codes


@pytest.fixture
def without_a_gpu(monkeypatch):
    """device="cuda" as far as the choice of the engine and its precision; tensors stay on the CPU."""
    exact_sums = gpu.exact_sums
    monkeypatch.setitem(module_globals(), "resolve_device", lambda device: device)
    monkeypatch.setattr(gpu, "exact_sums", lambda *args, **named: exact_sums(*args, **named | {"device": "cpu"}))


def module_globals():
    """`clorg_scale.rld.compute` names the function too."""
    return module.__globals__ if callable(module) else vars(module)


# fp16 keeps 11 bits of a coordinate; distances and RLD average over 24 of them and many pairs: about 1e-5.
@pytest.mark.parametrize(
    ("dtype", "precision", "allowed"),
    [("float64", "fp64", 1e-11), ("int64", "fp64", 1e-11), ("float32", "fp16", 3e-5), ("float16", "fp16", 3e-5)],
)
def test_float64_is_computed_in_float64(without_a_gpu, dtype, precision, allowed):
    X, codes = embeddings(dtype)
    on_gpu = cs.rld(X, codes, device="cuda", method="exact")
    expected = cs.rld(X.astype(np.float64), codes, device="cpu", method="exact")
    assert on_gpu.details["precision"] == precision
    assert on_gpu.details["kernels"] == "torch"
    assert abs(on_gpu.values - expected.values).max() < allowed


def test_on_the_cpu_it_is_the_dtype():
    for dtype in ("float64", "float32"):
        assert cs.rld(*embeddings(dtype), device="cpu", method="exact").details["precision"] == dtype


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "precision", "allowed"), [("float64", "fp64", 1e-11), ("float32", "fp16", 3e-5)])
def test_on_a_gpu(dtype, precision, allowed):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    X, codes = embeddings(dtype)
    on_gpu = cs.rld(X, codes, device="cuda", method="exact")
    expected = cs.rld(X.astype(np.float64), codes, device="cpu", method="exact")
    assert on_gpu.details["precision"] == precision
    assert abs(on_gpu.values - expected.values).max() < allowed
