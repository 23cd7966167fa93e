"""Commands with mistakes, and what must hold of every refusal."""

import resource

import numpy as np
from command_line import assert_one_sentence, run, tree

N, D = 40, 4


def points():
    """Three separate classes, no row of zeros."""
    labels = np.arange(N) % 3
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32) + 6 * labels[:, None] + 3


OUT = {"analyze": "results", "rld": "result.json", "knn": "result.npz", "communities": "result.npy"}
STAGES = tuple(OUT)
QUICK = {"analyze": ("--probes", "none", "--map-points", "0", "--k", "5")}


def command(name, embeddings="x.npy", labels="y.npy", *more):
    """Arguments of a command that computes and writes something."""
    labeled = () if name == "knn" or labels is None else ("--labels", labels)
    return (name, embeddings, *labeled, "--out", OUT[name], *QUICK.get(name, ()), *more)


def refused(here, arguments, *words):
    """Run a command that must fail: in a clean folder, and again where earlier results lie."""
    before = tree(here)
    assert_one_sentence(run(*arguments), *words)
    assert tree(here) == before
    out = here / OUT[arguments[0]]
    if out.suffix:
        out.write_bytes(b"earlier result")
    else:
        out.mkdir()
        for name in ("analysis.json", "analysis_arrays.npz", "report.html", "RLD-0123456789abcdef.npz"):
            (out / name).write_bytes(b"earlier result")
    before = tree(here)
    assert_one_sentence(run(*arguments), *words)
    assert tree(here) == before


LABELS = np.arange(N) % 3


def spoiled(rows, value):
    X = points()
    X[rows, 1] = value
    return X


def limited(n_bytes):
    """Options of a process none of whose files may exceed this size: the write fails as on a full disk."""
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))}
