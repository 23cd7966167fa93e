"""Progress off a terminal: plain lines now and then on stderr, none for short work."""

import io
import os
import pty
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from clorg_scale import progress
from clorg_scale.progress import progress_bar, stage_progress

LINE = re.compile(r"(.+): (\d+) %, ([\d.,]+) points/s, (.+) so far, (.+) left")


@pytest.fixture
def lines(monkeypatch, capsys):
    """What goes to stderr, with a first line after .2 s and one each .1 s."""
    monkeypatch.setattr(progress, "FIRST_LINE", 0.2)
    monkeypatch.setattr(progress, "NEXT_LINE", 0.1)
    monkeypatch.setattr(progress, "_LINES", progress._Lines())
    return lambda: capsys.readouterr().err.splitlines()


def test_stage_share_rate_and_time_left(lines):
    with progress_bar("nearest neighbors", 8000, unit="points", enabled=True) as advance:
        for _ in range(20):
            time.sleep(0.02)
            advance(200)
        time.sleep(0.15)
    found = [LINE.fullmatch(line) for line in lines()]
    assert len(found) >= 2
    assert all(found)
    assert found[-1][1] == "nearest neighbors"
    assert [int(match[2]) for match in found] == sorted(int(match[2]) for match in found)
    assert int(found[-1][2]) == 50
    assert 1_000 < float(found[-1][3].replace(",", "")) < 10_000


def test_nothing_for_short_work(lines):
    for _ in range(3):
        with progress_bar("short", 10, unit="points", enabled=True) as advance:
            advance(10)
    assert lines() == []


def test_many_short_stages_are_long_work(lines):
    for i in range(10):
        with progress_bar(f"stage {i}", 10, unit="points", enabled=True) as advance:
            advance(5)
            time.sleep(0.06)
    assert 2 <= len(lines()) <= 6


def test_one_long_step_is_told_too(lines):
    """Nothing is counted meanwhile, as in a step within a compiled library."""
    with stage_progress("probes", enabled=True):
        time.sleep(0.35)
        with progress_bar("gcn", 100, unit="epochs", enabled=True):
            time.sleep(0.25)
    written = lines()
    assert written[0] == "probes: 0 s so far"
    assert written[-1] == "gcn: 0 %, 0 s so far"


def test_advance_from_several_threads(lines):
    with progress_bar("tiles", 40_000, unit="points", enabled=True) as advance:
        workers = [threading.Thread(target=lambda: [advance(1) for _ in range(10_000)]) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        time.sleep(0.4)
    assert ": 100 %" in lines()[-1]


def test_stderr_that_is_closed_stops_nothing(monkeypatch, lines):
    closed = io.StringIO()
    closed.close()
    for stderr in (closed, None):
        with progress_bar("work", 10, unit="points", enabled=True) as advance, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stderr)
            time.sleep(0.3)
            with progress_bar("more", 10, unit="points", enabled=True), stage_progress("more", enabled=True):
                advance(1)


def test_a_line_is_not_written_into_the_error_that_follows(monkeypatch, lines):
    """A writer in the middle of a line keeps its stage from ending."""
    begun = threading.Event()

    class Slow(io.StringIO):
        def write(self, text):
            half = len(text) // 2
            super().write(text[:half])
            begun.set()
            time.sleep(0.2)
            return half + super().write(text[half:])

    stream = Slow()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar("work", 10, unit="points", enabled=True):
        assert begun.wait(10)
    io.StringIO.write(stream, "error: It failed.\n")
    time.sleep(0.3)
    assert re.fullmatch(r"work: 0 %, 0 s so far\nerror: It failed\.\n", stream.getvalue())


def test_threads_end_with_the_work(lines):
    before = threading.active_count()
    for _ in range(20):
        with progress_bar("work", 10, unit="points", enabled=True):
            pass
    time.sleep(0.1)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (130, "2 min 10 s"), (11_100, "3 h 5 min")]
)
def test_durations(seconds, text):
    assert progress._duration(seconds) == text


COMMAND = (
    "import sys, clorg_scale.progress as p; p.FIRST_LINE = p.NEXT_LINE = 0.05\nfrom clorg_scale.cli import main; main()"
)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(6000, 32)).astype(np.float32))
    np.save(tmp_path / "y.npy", rng.integers(0, 5, 6000))
    return tmp_path


def test_a_command_in_a_pipe(files):
    command = [sys.executable, "-c", COMMAND, "rld", "x.npy", "--labels", "y.npy", "--method", "exact", "--json"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True, timeout=500, check=True)
    assert done.stdout.startswith("{")
    assert re.search(r"^exact RLD: \d+ %", done.stderr, re.M), done.stderr
    assert "\x1b" not in done.stderr + done.stdout


def test_a_command_in_a_pipe_that_is_short(files):
    command = [sys.executable, "-m", "clorg_scale", "rld", "x.npy", "--labels", "y.npy", "--json"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True, timeout=500, check=True)
    assert " % " not in done.stderr


def test_a_bar_on_a_terminal(files):
    """Bars only: no lines among them."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", COMMAND, "rld", "x.npy", "--labels", "y.npy", "--method", "exact"]
    environment = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(command, cwd=files, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the terminal is closed
                break
            if not piece:
                break
            shown += piece
        assert process.wait(500) == 0
    assert b"\x1b[" in shown
    assert b"so far" not in shown
