"""Processes side by side compile a function once, and never wait for one that will not finish."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import clorg_scale
from clorg_scale.numerics import compile_lock
from clorg_scale.numerics.compile_lock import CompileLock
from clorg_scale.numerics.compiler import njit

MODULE = """
import sys
from clorg_scale.numerics.compiler import njit

@njit(cache=True)
def total(x):
    result = 0.0
    for i in range(len(x)):
        result += x[i]
    return result
"""

ASK = """
import sys
import numpy as np
from total import total
print("ready", flush=True)
sys.stdin.readline()
print(total(np.arange(4, dtype=sys.argv[1])), sum(total.stats.cache_misses.values()))
"""

HOLD = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def start(tmp_path):
    """Start processes that wait for a line before they compile; all end with the test."""
    (tmp_path / "total.py").write_text(MODULE)
    path = os.pathsep.join([str(tmp_path), str(Path(clorg_scale.__file__).parent.parent)])
    environment = os.environ | {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    started = []

    def process(code, *arguments):
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        )
        return started[-1]

    yield process
    for each in started:
        each.kill()
        each.communicate()


def answers(processes):
    """What each process says, all of which compile at once: the sum, and how many versions it compiled."""
    for each in processes:
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        each.stdin.write("\n")
        each.stdin.flush()
    return [tuple(map(float, each.communicate(timeout=300)[0].split())) for each in processes]


@pytest.mark.slow
def test_each_version_is_compiled_once_and_all_are_kept(start):
    types = ["float64", "float32", "float64"]
    found = answers([start(ASK, dtype) for dtype in types])
    assert [total for total, _ in found] == [6.0, 6.0, 6.0]
    assert sum(compiled for _, compiled in found) == 2
    later = start(ASK.replace("print(total", "total(np.arange(4, dtype='float64')); print(total"), "float32")
    assert answers([later]) == [(6.0, 0.0)]


def test_a_holder_that_dies_is_not_waited_for(start, tmp_path):
    assert answers([start(ASK, "float64")]) == [(6.0, 1.0)]
    (lock,) = (tmp_path / "cache").rglob("*.lock")
    holder = start(HOLD, str(lock))
    assert holder.stdout.readline() == "held\n"
    patient = "from clorg_scale.numerics import compile_lock\ncompile_lock._LONGEST_WAIT = 1e9\n"
    waiting = start(patient + ASK, "float32")
    assert waiting.stdout.readline() == "ready\n"
    waiting.stdin.write("\n")
    waiting.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=1)
    holder.send_signal(signal.SIGKILL)
    assert waiting.communicate(timeout=300)[0].split() == ["6.0", "1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder of compiled code of functions made in the test."""
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    return tmp_path


def can_be_locked(path):
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_holder_that_never_ends_is_waited_for_no_longer_than_a_limit(folder, monkeypatch):
    monkeypatch.setattr(compile_lock, "_LONGEST_WAIT", 0.1)

    @njit(cache=True)
    def doubled(x):
        return 2 * x

    assert doubled(1) == 2
    (path,) = folder.rglob("*.lock")
    holder = CompileLock(path)
    holder.acquire()
    assert not can_be_locked(path)
    assert doubled(1.5) == 3.0
    assert not can_be_locked(path)
    holder.release()
    assert can_be_locked(path)


def test_code_that_cannot_be_compiled_holds_nobody_up(folder):
    @njit(cache=True)
    def doubled(x):
        return 2 * x

    with pytest.raises(Exception, match="No implementation of function"):
        doubled(None)
    (path,) = folder.rglob("*.lock")
    assert can_be_locked(path)
    assert doubled(2) == 4
    assert can_be_locked(path)


def test_folders_that_cannot_be_locked_are_done_without(folder, monkeypatch):
    missing = CompileLock(folder / "missing" / "lock")
    missing.acquire()
    missing.release()

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)

    @njit(cache=True)
    def doubled(x):
        return 2 * x

    assert doubled(2) == 4
    assert list(folder.rglob("*.nbc"))


def test_one_function_with_two_sets_of_options_is_kept_twice(folder):
    """To Numba they are the same, so that the loop in parallel would be read back as the one that is not."""

    def doubled(x):
        return 2 * x

    first, second = njit(cache=True)(doubled), njit(cache=True, parallel=True)(doubled)
    np.testing.assert_array_equal(first(np.ones(3)), second(np.ones(3)))
    assert not sum(second.stats.cache_hits.values())
    again = njit(cache=True, parallel=True)(doubled)
    np.testing.assert_array_equal(again(np.ones(3)), 2)
    assert sum(again.stats.cache_hits.values()) == 1
