"""Exact RLD beside the ways it replaces: dense torch, KeOps reductions, scikit-learn's chunks; all in float32.

The dense way is the paper's: all distances, then full n x n matrices for every temperature.
"""

from __future__ import annotations

import os
import sysconfig
from typing import Any

import numpy as np
import numpy.typing as npt

from .harness.data import load_data
from .harness.floors import floor_of
from .harness.peers import import_peer
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session
from .rld import TEMPERATURES

__all__ = ["BENCHMARK"]

Points = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]


def _run(session: Session) -> None:
    asked = session.settings
    n = asked.points if asked.points is not None else 500 if asked.quick else 10_000
    drawn = asked.data in (None, "compact", "mixture")
    features = asked.features or ((16 if asked.quick else 512) if drawn else None)
    data = load_data(asked.data or "compact", n, features, seed=asked.seed)
    X = data.X
    y = np.unique(data.y, return_inverse=True)[1] if data.y is not None else np.arange(len(X)) % 10
    floor = floor_of(2.0 * len(X) ** 2 * X.shape[1], 4.0 * X.size, session.rates)
    case = Case(f"exact, {data.shape}", {"n": len(X), "d": X.shape[1]}, floor)
    values: list[Any] = []

    def error(found: Any) -> dict[str, float]:
        """Largest difference from the first contender's values, ours."""
        values.append(np.asarray(found, dtype=np.float64))
        return {"difference": float(np.abs(values[-1] - values[0]).max())}

    small = X[:300], y[:300]
    contenders = [
        Contender(name, lambda run=run: run(X, y), error, role=role, warm_up=lambda run=run: run(*small))
        for name, role, run in (
            ("ours, exact", "ours", _exact),
            ("dense torch", "peer", _dense_torch),
            ("KeOps", "peer", _keops),
            ("scikit-learn pairwise_distances_chunked", "peer", _scikit_learn),
        )
    ]
    session.compare(case, contenders, repeats=2)


def _exact(X: Points, codes: Codes) -> list[float]:
    import clorg_scale as cs

    return list(cs.rld(X, codes, method="exact", temperatures=TEMPERATURES, device="cpu").values)


def _dense_torch(X: Points, codes: Codes) -> list[float]:
    """Compute as the paper's code does: pairwise distances, then E, A and the modularity matrix in full."""
    torch = import_peer("torch")
    x, y = torch.from_numpy(X), torch.from_numpy(codes)
    n = len(x)
    d = torch.cdist(x, x)
    d.fill_diagonal_(0)
    mu = d.sum(dtype=torch.float64) / (n * (n - 1))
    same = y[:, None] == y[None]
    values = []
    for temperature in TEMPERATURES:
        E = torch.exp(-d / (mu.float() * temperature)).fill_diagonal_(0)
        P = E / E.sum(1, keepdim=True)
        A = P * P.T * n**2
        k = A.sum(1, dtype=torch.float64)
        B = A / k.sum() - (k[:, None] * k[None] / k.sum() ** 2)
        values.append(float((B * same).sum()))
    return values


def _keops(X: Points, codes: Codes) -> list[float]:
    """The kernel sums as KeOps reductions."""
    # KeOps compiles with the headers of pybind11 and Python, which it looks for in the environment of the PATH only.
    folders = (import_peer("pybind11").get_include(), sysconfig.get_paths()["include"], os.environ.get("CPATH"))
    os.environ["CPATH"] = os.pathsep.join(filter(None, folders))
    torch, LazyTensor = import_peer("torch"), import_peer("pykeops.torch", "pykeops").LazyTensor
    x, y = torch.from_numpy(X), torch.from_numpy(codes).float()
    xi, xj = LazyTensor(x[:, None]), LazyTensor(x[None])
    yi, yj = LazyTensor(y[:, None, None]), LazyTensor(y[None, :, None])
    n, n_classes = len(x), int(codes.max()) + 1
    row = torch.arange(n, dtype=torch.float32)
    other = ((LazyTensor(row[:, None, None]) - LazyTensor(row[None, :, None])).abs() - 0.5).step()  # i != j
    d = ((xi - xj) ** 2).sum(-1).sqrt()
    mu = float(d.sum(1).double().sum()) / (n * (n - 1))
    values = []
    for temperature in TEMPERATURES:
        r = ((-d / (mu * temperature)).exp() * other).sum(1)[:, 0]
        log_r = r.log()[:, None]
        A = (-2 * d / (mu * temperature) - LazyTensor(log_r[:, None]) - LazyTensor(log_r[None])).exp()
        k = (A * other).sum(1)[:, 0].double()
        same = (0.5 - (yi - yj).abs()).step()
        w = (A * other * same).sum(1)[:, 0].double()
        values.append(_modularity(k.numpy(), w.numpy(), codes, n_classes))
    return values


def _scikit_learn(X: Points, codes: Codes) -> list[float]:
    """Three passes over scikit-learn's chunks of distances: mu, then r, then k and w."""
    from sklearn.metrics import pairwise_distances_chunked

    n, n_classes = len(X), int(codes.max()) + 1

    def chunks() -> Any:
        start = 0
        for chunk in pairwise_distances_chunked(X):
            rows = np.arange(start, start + len(chunk))
            start += len(chunk)
            yield rows, chunk

    mu = sum(float(chunk.sum(dtype=np.float64)) for _, chunk in chunks()) / (n * (n - 1))
    r, k, w = (np.zeros((len(TEMPERATURES), n)) for _ in range(3))
    for rows, chunk in chunks():
        for t, temperature in enumerate(TEMPERATURES):
            r[t, rows] = _kernel(chunk, rows, mu * temperature).sum(axis=1, dtype=np.float64)
    for rows, chunk in chunks():
        same = codes[rows, None] == codes
        for t, temperature in enumerate(TEMPERATURES):
            A = _kernel(chunk, rows, mu * temperature) ** 2 / r[t].astype(np.float32)
            k[t, rows] = A.sum(axis=1, dtype=np.float64) / r[t, rows]
            w[t, rows] = (A * same).sum(axis=1, dtype=np.float64) / r[t, rows]
    return [_modularity(k[t], w[t], codes, n_classes) for t in range(len(TEMPERATURES))]


def _kernel(chunk: Points, rows: npt.NDArray[np.int64], scale: float) -> Points:
    E = np.exp(chunk * np.float32(-1 / scale))
    E[np.arange(len(rows)), rows] = 0
    return E


def _modularity(k: npt.NDArray[np.float64], w: npt.NDArray[np.float64], codes: Codes, n_classes: int) -> float:
    shares = np.bincount(codes, weights=k, minlength=n_classes) / k.sum()
    return float(w.sum() / k.sum() - (shares**2).sum())


BENCHMARK = Benchmark(
    "kernel-sums",
    "exact RLD: ours against dense torch, KeOps and scikit-learn's chunks, memory beside time",
    "10,000 x 512",
    6,
    _run,
    frozenset({"data", "points", "features"}),
    ("pykeops", "pybind11"),
)
