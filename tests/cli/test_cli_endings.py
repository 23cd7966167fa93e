"""How commands end: interrupted, out of memory, or well with unusual but valid data."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from command_line import CONSOLE_SCRIPT, run, tree
from mistakes import LABELS, OUT, STAGES, N, command, points, refused, spoiled
from records import record

import clorg_scale as cs

# ---- interruption ----------------------------------------------------------------------------------------------


def interrupted(arguments, ready):
    """Run a command in a process and press Ctrl-C half a second after `ready(pid)`; gives exit code and stderr."""
    process = subprocess.Popen(
        [*CONSOLE_SCRIPT, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests started in the background of a shell are deaf to Ctrl-C, and so would be their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and not ready(process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)
        assert process.poll() is None, "the command ended before it could be interrupted"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode, err


def large(n, d):
    rng = np.random.default_rng(1)
    np.save("large.npy", rng.normal(size=(n, d)).astype(np.float32))
    np.save("many.npy", rng.integers(0, 5, n))


def test_interrupted_analysis(here):
    large(6_000, 60)
    arguments = ("analyze", "large.npy", "--labels", "many.npy", "--out", "results", "--probes", "linear")
    code, err = interrupted(arguments, lambda _: any(Path("results").glob("Calinski*.npz")))
    assert re.fullmatch(r"\n?Interrupted; [^\n]+\.\n", err), err
    assert code == 130
    names = set(tree(here / "results"))
    assert "analysis.json" not in names
    assert not [name for name in names if name.endswith(".tmp")]


def test_interrupted_stage(here):
    """Within compiled code, where Ctrl-C comes out as another error."""
    large(100_000, 32)
    # Compiled before: in the seconds of the first compilation Ctrl-C may end the process without a word.
    rng = np.random.default_rng(0)
    cs.rld(rng.normal(size=(1200, 32)).astype(np.float32), rng.integers(0, 5, 1200), method="exact")
    code, err = interrupted(
        ("rld", "large.npy", "--labels", "many.npy", "--out", "result.json"),
        lambda pid: "large.npy" in Path(f"/proc/{pid}/maps").read_text(),
    )
    assert re.fullmatch(r"\n?Interrupted; [^\n]+\.\n", err), err
    assert (code, "result.json" in tree(here)) == (130, False)


# ---- as a user runs it -----------------------------------------------------------------------------------------


def test_installed_script(here):
    """The same through the script that pip installs."""
    script = Path(sys.executable).with_name("clorg-scale")
    np.save("x.npy", spoiled([3, 7], np.nan))
    before = tree(here)
    for name in ("analyze", "knn"):
        done = subprocess.run(
            [script, *map(str, command(name))], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == (
            f"error: The embeddings hold NaN or infinite values in 2 of {N} rows (rows 3, 7); "
            "remove or repair these rows.\n"
        )
        assert tree(here) == before


# ---- what is accepted ------------------------------------------------------------------------------------------

ACCEPTED = {
    "class of one point": lambda X, y: (X, np.where(np.arange(N) == 7, 9, y)),
    "unlabelled points": lambda X, y: (X, np.where(np.arange(N) % 8 == 1, -1, y)),
    "few labels": lambda X, y: (X, np.where(np.arange(N) < 34, -1, y)),
    "duplicates": lambda X, y: (np.repeat(X[::4], 4, axis=0), y),
    "one point apart": lambda X, y: (np.where(np.arange(N)[:, None] == 3, X, X[:1]), y),
    "columns first": lambda X, y: (np.asfortranarray(X), y),
    "big-endian": lambda X, y: (X.astype(">f8"), y.astype(">i4")),
    "float16": lambda X, y: (X.astype(np.float16), y),
    "float64": lambda X, y: (X.astype(np.float64), y.astype(np.float64)),
    "bytes": lambda X, y: ((10 * X).astype(np.int8), y.astype(np.uint8)),
    "long integers": lambda X, y: ((1000 * X).astype(np.int64), y),
    "truth values": lambda X, y: (X > X.mean(), y == 1),
    "one feature": lambda X, y: (X[:, :1], y),
    "names": lambda X, y: (X, np.array(["cat", "dog", "horse"])[y]),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(here, case):
    X, y = ACCEPTED[case](points(), LABELS)
    X[~X.astype(bool).any(axis=1)] = 1  # no row of zeros
    np.save("x.npy", X)
    np.save("y.npy", y)
    Path("x.npy").chmod(0o444)
    before = tree(here)
    for name in STAGES:
        outcome = run(*command(name))
        assert (outcome.code, outcome.err) == (0, "")
        assert (here / OUT[name]).exists()
    assert {name: contents for name, contents in tree(here).items() if name in before} == before


def test_records_are_what_the_tests_alter():
    assert {"rld", "classes", "class_homogeneity", "probes", "communities"} <= asdict(record()).keys()


@pytest.mark.parametrize(
    ("library", "sentence"),
    [("numpy", ("main memory does not suffice",)), ("torch", ("device's memory does not suffice", "--device cpu"))],
)
def test_memory_that_runs_out(here, monkeypatch, library, sentence):
    """NumPy and CuPy raise a MemoryError, torch an error of its own."""
    kind = MemoryError if library == "numpy" else pytest.importorskip("torch").OutOfMemoryError

    def full(*_, **__):
        raise kind("Unable to allocate 8.00 TiB.\nMore that nobody reads.")

    monkeypatch.setattr(sys.modules["clorg_scale.rld"], "rld", full)
    refused(here, command("rld"), "Unable to allocate 8.00 TiB", *sentence)
