"""Runs that were killed: the next one goes on from the last finished stage and gives the same numbers."""

import fcntl
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import CONSOLE_SCRIPT, run, run_process

STAGES = {
    "Calinski-Harabasz",
    "class-homogeneity",
    "RLD",
    "nearest-neighbors",
    "communities",
    "spectrum",
    "probes",
    "map",
}

N = 300


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Arguments of an analysis of overlapping classes, but for its output."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, N)
    np.save(folder / "x.npy", (rng.normal(size=(N, 8)) + 2 * np.eye(8)[y]).astype(np.float32))
    np.save(folder / "y.npy", y)
    files = ["analyze", folder / "x.npy", "--labels", folder / "y.npy"]
    return [*files, "--method=exact", "--k=10", "--probes=knn,label_propagation", "--map-points=100"]


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """Folder of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed")
    analyze(data, out)
    return out


def analyze(data, out, *settings):
    """Run it in this process."""
    outcome = run(*data, *settings, "--out", out)
    assert (outcome.code, outcome.err) == (0, "")


def numbers(out):
    """The written record and its arrays without what differs between two runs."""
    document = json.loads((out / "analysis.json").read_text())
    for part in (*document["stages"], *document["probes"]):
        for time_or_memory in ("seconds", "compile_seconds", "peak_memory_bytes"):
            part.pop(time_or_memory, None)
    del document["arrays"]["digest"]  # of numbers that are equal but for rounding
    with np.load(out / "analysis_arrays.npz") as arrays:
        return document | {"values": {name: array.tolist() for name, array in arrays.items()}}


def same_numbers(out, other):
    return same_values(numbers(out), numbers(other))


def same_values(ours, theirs):
    """Equal, floating-point numbers but for rounding in float32.

    Each process is bound to what it compiled itself or took from the cache, and a loop that is compiled while those it
    calls come from the cache is not optimized across them: the first process on a machine may round otherwise.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same_values(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same_values, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-6, abs_tol=2e-7)
    return ours == theirs


def stage_files(out):
    """Inode of each stage's file, by the name of the stage and of the file: another one is a new file."""
    return {(path.name[:-21], path.name): path.stat().st_ino for path in out.glob("*-*.npz")}


def strays(out):
    return [path.name for path in out.iterdir() if path.name.endswith(".tmp")]


# ---- killed ----------------------------------------------------------------------------------------------------


def start(arguments, script=CONSOLE_SCRIPT):
    return subprocess.Popen(
        [*script, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.slow
def test_killed_at_random_moments(data, undisturbed, tmp_path):
    """One in each third of a run; the moments at which files are half-written come one by one in the next test."""
    expected = numbers(undisturbed)
    begun = time.monotonic()
    assert start([*data, "--out", tmp_path / "measured"]).wait(timeout=120) == 0
    duration = time.monotonic() - begun
    rng = np.random.default_rng(7)
    n_finished = []
    for moment in range(3):
        out = tmp_path / str(moment)
        process = start([*data, "--out", out])
        time.sleep(duration * (moment + rng.random()) / 3)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kept = stage_files(out) if out.exists() else {}
        n_finished.append(len(kept))
        analyze(data, out)
        assert same_values(numbers(out), expected)
        # What was finished was taken, not computed again.
        assert kept.items() <= stage_files(out).items()
        assert {name for name, _ in stage_files(out)} == STAGES
        assert (out / "report.html").read_bytes().rstrip().endswith(b"</html>")
    assert max(n_finished) > 0, "no run was killed after its first stage"


DIES_AT_SYNC = """
import os, signal, sys
calls, real, last = 0, os.fsync, int(sys.argv.pop(1))
def fsync(descriptor):
    global calls
    calls += 1
    if calls == last:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
os.fsync = fsync
from clorg_scale.cli import main
sys.argv[0] = "clorg-scale"
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("file", [1, 3, 9])
def test_killed_while_a_file_is_written(data, undisturbed, tmp_path, file):
    """Each file is synced, then its folder: at sync 2 i - 1 the i-th file is half-written under its temporary name."""
    script = [sys.executable, "-c", DIES_AT_SYNC, str(2 * file - 1)]
    process = start([*data, "--out", tmp_path], script)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (-signal.SIGKILL, b"")
    kept = stage_files(tmp_path)
    assert len(kept) == min(file - 1, len(STAGES))
    assert len(strays(tmp_path)) == 1
    done = run_process(*data, "--out", tmp_path)
    assert (done.code, done.err) == (0, "")
    assert strays(tmp_path) == []
    assert kept.items() <= stage_files(tmp_path).items()
    assert same_numbers(tmp_path, undisturbed)


# ---- stray files -----------------------------------------------------------------------------------------------


def aged(path, contents=b"half"):
    """A file from an hour ago."""
    path.write_bytes(contents)
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    return path


def test_only_our_own_strays_are_removed(data, undisturbed, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    (out / "below").mkdir()
    gone = [
        aged(out / name)
        for name in (
            ".RLD-0123456789abcdef.npz.0123456789ab.tmp",
            ".nearest-neighbors-0123456789abcdef.npz.ffffffffffff.tmp",
            ".analysis.json.0123456789ab.tmp",
            ".report.html.abcdefabcdef.tmp",
        )
    ]
    held = aged(out / ".map-0123456789abcdef.npz.0123456789ab.tmp")
    young = out / ".probes-0123456789abcdef.npz.0123456789ab.tmp"
    young.write_bytes(b"being written")
    linked = out / ".analysis.json.aaaaaaaaaaaa.tmp"
    linked.symlink_to(aged(tmp_path / "mine"))
    others = [
        aged(out / name)
        for name in (
            ".notes.txt.0123456789ab.tmp",
            "RLD-0123456789abcdef.npz.0123456789ab.tmp",
            ".analysis.json.tmp",
            ".analysis.json.0123456789ab.tmp~",
            ".analysis.json.0123456789AB.tmp",
            "below/.analysis.json.0123456789ab.tmp",
        )
    ]
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        analyze(data, out)
        assert not any(path.exists() for path in gone)
        assert all(path.exists() for path in (held, young, *others))
        assert linked.is_symlink()
        assert (tmp_path / "mine").exists()
    analyze(data, out)
    assert not held.exists()


def test_strays_of_a_single_file(data, tmp_path):
    """The next write of the same file removes them, and no others."""
    out = tmp_path / "result.json"
    gone = aged(tmp_path / ".result.json.0123456789ab.tmp")
    kept = aged(tmp_path / ".other.json.0123456789ab.tmp")
    assert run("rld", *data[1:4], "--out", out).code == 0
    assert sorted(tmp_path.iterdir()) == [kept, out]
    assert not gone.exists()


# ---- damaged stages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_truncated_stages_are_computed_again(data, undisturbed, tmp_path, share):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("*-*.npz"):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
    before = stage_files(tmp_path)
    analyze(data, tmp_path)
    after = stage_files(tmp_path)
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)
    assert same_numbers(tmp_path, undisturbed)


def test_flipped_bits_are_noticed(data, undisturbed, tmp_path):
    """Wherever a stage file is damaged, the numbers are the same: it is not taken, or the damage says nothing."""
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    rng = np.random.default_rng(11)
    for _ in range(4):
        for path in tmp_path.glob("*-*.npz"):
            damaged = bytearray(path.read_bytes())
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
        analyze(data, tmp_path)
        assert same_numbers(tmp_path, undisturbed)


def test_foreign_contents_of_stages_are_not_trusted(data, undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    files = sorted(tmp_path.glob("*-*.npz"))
    contents = [path.read_bytes() for path in files]
    for path, other in zip(files, contents[1:] + contents[:1], strict=True):
        path.write_bytes(other)
    analyze(data, tmp_path)
    assert same_numbers(tmp_path, undisturbed)
    for path in files:
        np.savez(path, json=np.frombuffer(b"[1, 2]", np.uint8))
    analyze(data, tmp_path)
    assert same_numbers(tmp_path, undisturbed)


# ---- what is computed again ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "again"),
    [
        ((), set()),
        (("--name", "another"), set()),
        (("--memory-limit", "1GB"), set()),
        (("--target-error", "0.1"), set()),
        (("--temperatures", "1,0.1"), {"RLD"}),
        (("--communities", "louvain"), {"communities"}),
        (("--resolution", "2"), {"communities"}),
        (("--probes", "knn"), {"probes"}),
        (("--map-points", "50"), {"map"}),
        (("--perplexity", "10"), {"map"}),
        (("--k", "7"), {"nearest-neighbors", "communities", "spectrum", "probes"}),
        (("--seed", "1"), STAGES - {"Calinski-Harabasz"}),
        (("--no-resume",), STAGES),
    ],
)
def test_a_changed_setting_computes_what_depends_on_it(data, undisturbed, tmp_path, settings, again):
    shutil.copytree(undisturbed, tmp_path / "resumed")
    before = stage_files(tmp_path / "resumed")
    analyze(data, tmp_path / "resumed", *settings)
    after = stage_files(tmp_path / "resumed")
    assert {stage for (stage, _), _ in after.items() - before.items()} == again
    if again not in (set(), STAGES):
        analyze(data, tmp_path / "afresh", *settings)
        assert numbers(tmp_path / "resumed") == numbers(tmp_path / "afresh")


def test_changed_data_compute_everything_that_depends_on_them(data, undisturbed, tmp_path):
    X, y = np.load(data[1]), np.load(data[3])
    X[17, 3] += 1e-3
    np.save(tmp_path / "x.npy", X)
    y[17] = (y[17] + 1) % 4
    np.save(tmp_path / "y.npy", y)
    # Neighbors do not depend on the labels, nor does what is made of them, but for the rounding of the mean distance.
    of_points = {"nearest-neighbors", "communities"}
    for x_file, y_file, spared in ((tmp_path / "x.npy", data[3], set()), (data[1], tmp_path / "y.npy", of_points)):
        out = tmp_path / f"out of {x_file.parent.name} {y_file.parent.name}"
        shutil.copytree(undisturbed, out)
        before = stage_files(out)
        analyze(["analyze", x_file, "--labels", y_file, *data[4:]], out)
        again = {stage for stage, _ in stage_files(out).keys() - before.keys()}
        assert STAGES - spared <= again
        assert ("nearest-neighbors" in again) == (not spared)
        assert before.items() <= stage_files(out).items()


def test_test_points_compute_the_probes(data, undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    before = stage_files(tmp_path)
    np.save(tmp_path / "test.npy", np.load(data[1])[::-1])
    np.save(tmp_path / "test_labels.npy", np.load(data[3])[::-1])
    test = ("--test-embeddings", tmp_path / "test.npy", "--test-labels", tmp_path / "test_labels.npy")
    analyze(data, tmp_path, *test)
    assert {stage for stage, _ in stage_files(tmp_path).keys() - before.keys()} == {
        "nearest-neighbors",
        "neighbors-with-the-test-points",
        "probes",
        "test-points-among-the-points",
    }


def test_stage_files_say_what_they_are(undisturbed):
    assert {name for name, _ in stage_files(undisturbed)} == STAGES
    for path in undisturbed.glob("*-*.npz"):
        assert re.fullmatch(r"[A-Za-z-]+-[0-9a-f]{16}\.npz", path.name)
        with np.load(path, allow_pickle=False) as stored:
            kept = {"values", "seconds", "compile", "peak", "engine", "on_device"}
            assert json.loads(stored["json"].tobytes()).keys() == kept
