"""What steers a terminal, in paths, names and labels, is escaped wherever it is printed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import run, run_process
from records import record

from clorg_scale.cli.output import printable

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
Y = np.arange(30) % 3

NASTY = "\x1b[31mred\x07\x9b2J\u202e\r\x7f"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


def assert_tame(outcome):
    for text in (outcome.out, outcome.err):
        assert not STEERING.search(text), repr(text)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(f"{NASTY}.npy", X)
    np.save("y.npy", Y)
    return tmp_path


def test_paths_in_errors(here):
    for arguments in (
        ("rld", f"no {NASTY}.npy"),
        ("rld", f"{NASTY}.npy"),
        ("rld", f"{NASTY}.npy", "--labels", f"{NASTY}.csv"),
        ("knn", f"{NASTY}.npy", "--metric", NASTY),
        ("knn", f"{NASTY}.npy", "--memory-limit", NASTY),
        ("knn", f"{NASTY}.npy", f"--{NASTY}"),
        ("compare", NASTY, "--out", "out"),
        (NASTY,),
    ):
        outcome = run(*arguments)
        assert outcome.code == 2, outcome
        assert r"\x1b[31mred\x07\x9b2J\u202e" in outcome.err, outcome.err
        assert_tame(outcome)


def test_names_of_classes_and_models_in_output(here):
    labels = np.array([f"a\n{NASTY}", "b\t", NASTY])[Y]
    np.save("labels.npy", labels)
    listed = run("rld", f"{NASTY}.npy", "--labels", "labels.npy", "--json")
    assert_tame(listed)
    assert NASTY in json.loads(listed.out)["per_class"]
    written = run("knn", f"{NASTY}.npy", "--out", f"{NASTY}\n.npz")
    assert written.code == 0, written.err
    assert_tame(written)
    assert written.out.rstrip().endswith(r"\r\x7f\n.npz")


def test_names_of_models_side_by_side(here):
    for name in ("one", "two"):
        Path(name).mkdir()
        record(f"{name}\n{NASTY}").to_json(f"{name}/analysis.json")
    done = run("compare", "one", "two", "--out", f"out\n{NASTY}")
    assert done.code == 0, done.err
    assert_tame(done)
    assert r"out\n\x1b[31mred" in done.out
    assert r"one\n\x1b[31m" in done.out
    listed = run("compare", "one", "two", "--out", "out", "--json")
    assert_tame(listed)
    assert f"two\n{NASTY}" in json.loads(listed.out)[0]


def test_warnings(here):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(f"{NASTY}.zarr", shape=(30,), chunks=(10,), dtype="i4")
    array[:20] = Y[:20] + 1
    done = run("rld", f"{NASTY}.npy", "--labels", f"{NASTY}.zarr")
    assert "warning: " in done.err
    assert_tame(done)


def test_in_a_process_of_its_own(here):
    for name in ("one", "two"):
        Path(name).mkdir()
        record(name).to_json(f"{name}/analysis.json")
    outcome = run_process("compare", "one", "two", "--out", NASTY, timeout=120)
    assert outcome.code == 0, outcome.err
    assert_tame(outcome)
    assert r"\x1b[31mred\x07\x9b2J\u202e\r\x7f" in outcome.out


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain äöü 猫", "plain äöü 猫"), ("a\nb\tc", r"a\nb\tc"), ("\x1b[2J", r"\x1b[2J"), ("\u202eabc", r"\u202eabc")],
)
def test_printable(text, shown):
    assert printable(text) == shown
