"""Embeddings that somebody writes to while they are computed on: nothing is kept that is not of the file's contents."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import CONSOLE_SCRIPT, assert_one_sentence, run

import clorg_scale as cs
from clorg_scale.analysis import steps
from clorg_scale.analysis.fingerprint import Unchanged

SETTINGS = {"temperatures": (0.1,), "probes": [], "map_points": 0, "device": "cpu"}


def overwrite():
    """In place, in the same length, and with the time it had: what a sloppy copy does."""
    before = Path("x.npy").stat()
    with Path("x.npy").open("r+b") as file:
        np.save(file, np.random.default_rng(1).normal(size=(90, 5)).astype(np.float32))
    os.utime("x.npy", ns=(before.st_atime_ns, before.st_mtime_ns))


def touch():
    os.utime("x.npy", ns=(1, 1))


def overwrite_through_a_map():
    np.lib.format.open_memmap("x.npy", "r+")[:] = 1


@pytest.mark.parametrize("change", [overwrite, touch, overwrite_through_a_map])
def test_analyze_keeps_nothing_of_other_contents(here, monkeypatch, change):
    """Overwritten during RLD: the stages before are kept, RLD and what follows are not; restored, all is right."""
    original, labels = Path("x.npy").read_bytes(), np.load("y.npy")
    right = cs.analyze(np.load("x.npy"), labels, **SETTINGS)
    points = cs.load_embeddings("x.npy").embeddings
    compute = steps.rld_from_table

    def slow(*arguments, **settings):
        change()
        return compute(*arguments, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "rld_from_table", slow)
        with pytest.raises(cs.InputError, match=r"embeddings in .*x\.npy were written to while they were computed on"):
            cs.analyze(points, labels, output="out", **SETTINGS)
    kept = {path.name[:-21] for path in Path("out").iterdir()}
    assert kept == {"Calinski-Harabasz", "class-homogeneity", "nearest-neighbors"}
    Path("x.npy").write_bytes(original)
    resumed = cs.analyze(cs.load_embeddings("x.npy").embeddings, labels, output="out", **SETTINGS)
    assert resumed.rld.values == pytest.approx(right.rld.values, abs=1e-6)


def test_test_embeddings_are_watched_too(here, monkeypatch):
    np.save("t.npy", np.load("x.npy"))
    points, labels = np.load("t.npy"), np.load("y.npy")
    mapped = cs.load_embeddings("x.npy").embeddings
    compute = steps.knn
    monkeypatch.setattr(steps, "knn", lambda *a, **s: (overwrite(), compute(*a, **s))[1])
    with pytest.raises(cs.InputError, match="test embeddings in"):
        cs.analyze(points, labels, test_embeddings=mapped, test_labels=labels, output="out", **SETTINGS)


def test_a_file_that_is_replaced_under_its_name_leaves_the_mapped_one_alone(here):
    points = cs.load_embeddings("x.npy").embeddings
    unchanged = Unchanged({"embeddings": points})
    np.save("new.npy", np.zeros((90, 5), np.float32))
    Path("new.npy").replace("x.npy")
    unchanged.check()
    Path("x.npy").unlink()
    unchanged.check()


def test_a_shortened_file_is_not_read(here):
    unchanged = Unchanged({"embeddings": cs.load_embeddings("x.npy").embeddings})
    os.truncate("x.npy", 200)
    with pytest.raises(cs.InputError, match="written to"):
        unchanged.check()


@pytest.mark.parametrize(
    ("command", "room"),
    [
        (("rld", "x.npy", "--labels", "y.npy", "--out", "r.json"), "rld.rld"),
        (("knn", "x.npy", "--out", "r.npz"), "neighbors.knn"),
        (("communities", "x.npy", "--out", "r.npy"), "neighbors.knn"),
        (("study", "temperature", "store", "--out", "r"), "studies.temperature.rld"),
    ],
)
def test_commands_write_no_result_of_a_file_that_changed(here, monkeypatch, command, room):
    if "store" in command:
        cs.save_embeddings("store", np.load("x.npy"), np.load("y.npy"))
        Path("x.npy").unlink()
        Path("x.npy").symlink_to("store/embeddings.npy")
    module, _, name = room.rpartition(".")
    if module == "studies.temperature":
        import clorg_scale.studies.temperature  # noqa: F401
    rooms = sys.modules[f"clorg_scale.{module}"]
    compute = getattr(rooms, name)
    monkeypatch.setattr(rooms, name, lambda *a, **s: (overwrite(), compute(*a, **s))[1])
    assert_one_sentence(run(*command), "were written to while they were computed on")
    assert not any(Path(name).exists() for name in ("r.json", "r.npz", "r.npy", "r"))


def test_a_file_shortened_while_it_is_read_ends_in_a_sentence(here):
    """Where the kernel would end the process without a word."""
    labels = np.arange(2000) % 3
    np.save("x.npy", np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32) + labels[:, None])
    np.save("y.npy", labels)
    script = (
        "import os, clorg_scale, sys\n"
        "room = sys.modules['clorg_scale.rld']\n"
        "compute = room.rld\n"
        "def rld(*a, **s):\n"
        "    os.truncate('x.npy', 100)\n"
        "    return compute(*a, **s)\n"
        "room.rld = rld\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script + CONSOLE_SCRIPT[-1], "rld", "x.npy", "--labels", "y.npy", "--out", "r.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: A memory-mapped file of embeddings was shortened")
    assert not Path("r.json").exists()
