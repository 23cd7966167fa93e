"""bench/gpu_check.py runs the tests and timings of GPU code, and one that fails, crashes or hangs hides nothing."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(out, *options, **more):
    """Run the script in a process of its own, in a dry run unless it is told otherwise; gives its result and rows."""
    command = [sys.executable, ROOT / "bench" / "gpu_check.py", "--cpu-dry-run", "--out", out, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if "--tests" in options:  # folders with a configuration of their own, which need no plugins of pytest
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **more)
    report = json.loads(out.read_text())
    assert {"torch", "numpy"} <= report["machine"]["versions"].keys()
    return result, {row["what"]: row for row in report["rows"]}


@pytest.mark.slow
def test_a_test_of_the_dry_run(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    result, rows = run(tmp_path / "report.json", "--only", "collapsed", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert rows["exact RLD of collapsed classes"]["ok"]
    assert rows["the same twice (difference)"]["error"] == 0
    assert "[tests/gpu/test_gpu_exact_rld.py::test_exact_rld_of_collapsed_classes[cpu]]" in rows
    assert "floors" not in rows


@pytest.mark.slow
def test_the_timings_of_the_dry_run(tmp_path):
    """The tests of the dry run are tests here as well, so they are left out."""
    pytest.importorskip("torch", reason="torch is not installed")
    result, rows = run(tmp_path / "report.json", "--only", "timing_")
    assert result.returncode == 0, result.stdout + result.stderr
    assert rows["floors"]["matrix_TFLOPs"] > 0
    skipped = {what for what, row in rows.items() if "skipped" in row}
    assert skipped <= {"timing_keops", "timing_graph"}
    for name in ("exact_rld", "rld", "variants", "dense", "knn_engines", "stages", "images", "imagenet", "analyze"):
        assert f"[timing_{name}]" in rows


TESTS = {
    "test_a_broken.py": """
import pytest
@pytest.fixture(params=["cpu"])
def machine(request):
    return request.param
def test_numbers(machine, record_property):
    record_property("a measured error", {"error": 0.5, "allowed": 1.0, "ok": True})
def test_wrong(machine):
    raise RuntimeError("broken on purpose\\nwith a second line")
def test_skipped(machine):
    pytest.skip("not today")
""",
    "test_b_crashing.py": """
import os, sys, types, pytest
@pytest.fixture(params=["cpu"])
def machine(request):
    return request.param
def test_aborts(machine):
    os.abort()
def test_leaves_the_gpu_unusable(machine):
    def lost():
        raise RuntimeError("an illegal memory access was encountered")
    sys.modules["torch"] = types.SimpleNamespace(
        cuda=types.SimpleNamespace(is_initialized=lambda: True, synchronize=lost)
    )
    lost()
def test_in_a_new_process(machine):
    assert "torch" not in sys.modules
""",
    "test_c_unreadable.py": "import a_module_that_is_not_there\n",
    "test_d_fine.py": """
import pytest
@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request):
    return request.param
def test_fine(machine):
    assert machine == "cpu"
def test_of_no_machine():
    raise AssertionError("not for this command")
""",
}


def test_what_fails_hides_nothing(tmp_path):
    """Failures and crashes are reported by name, once; everything else runs, in a new process where that is needed."""
    folder = tmp_path / "checks"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = gpu: for a GPU\n")
    for name, text in TESTS.items():
        (folder / name).write_text(text)
    result, rows = run(tmp_path / "report.json", "--tests", folder, "--only", "test_")
    assert result.returncode == 1
    failed = {what: row["failed"] for what, row in rows.items() if "failed" in row}
    assert failed == {
        "test_a_broken.py::test_wrong[cpu]": "RuntimeError: broken on purpose",
        "test_b_crashing.py::test_aborts[cpu]": "ended the process with code -6",
        "test_b_crashing.py::test_leaves_the_gpu_unusable[cpu]": (
            "RuntimeError: an illegal memory access was encountered"
        ),
        "test_c_unreadable.py": "E   ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
    }
    assert result.stdout.splitlines()[-1].startswith("failed: ")
    assert all(name in result.stdout.splitlines()[-1] for name in failed)
    assert rows["a measured error"] == {"what": "a measured error", "error": 0.5, "allowed": 1.0, "ok": True}
    assert rows["test_a_broken.py::test_skipped[cpu]"]["skipped"] == "not today"
    passed = {what for what in rows if what.startswith("[")}
    assert passed == {
        "[test_a_broken.py::test_numbers[cpu]]",
        "[test_b_crashing.py::test_in_a_new_process[cpu]]",
        "[test_d_fine.py::test_fine[cpu]]",
    }


def test_a_test_that_never_ends_is_ended(tmp_path):
    """It alone: the test after it runs, and none is started when the time is up."""
    (tmp_path / "test_endless.py").write_text("""
import time, pytest
@pytest.fixture(params=["cpu"])
def machine(request):
    return request.param
def test_endless(machine):
    time.sleep(1000)
def test_next(machine):
    pass
""")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    out = tmp_path / "report.json"
    result, rows = run(out, "--tests", tmp_path, "--only", "test_", "--limit", "4")
    assert result.stdout.splitlines()[-1] == "failed: test_endless.py::test_endless[cpu]"
    assert rows["test_endless.py::test_endless[cpu]"]["failed"] == "took too long"
    assert "[test_endless.py::test_next[cpu]]" in rows
    result, rows = run(out, "--tests", tmp_path, "--only", "test_", "--seconds", "0")
    assert result.returncode == 0
    assert {row.get("skipped") for row in rows.values()} == {"no time left"}


ON_A_GPU = """
import sys, types
from pathlib import Path
cuda = types.SimpleNamespace(
    is_initialized=lambda: True, synchronize=lambda: None, reset_peak_memory_stats=lambda: freed.append("peak"),
    max_memory_allocated=lambda: 2e9,
)
freed = []
sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
sys.modules["clorg_scale"] = types.SimpleNamespace(__path__=[])
sys.modules["clorg_scale.arrays"] = types.SimpleNamespace(free_device_memory=lambda: freed.append("memory"))
sys.path.insert(0, sys.argv[1])
from bench.gpu.report import Report
from bench.gpu.tests import run_tests
run_tests(Report(Path(sys.argv[2])), folder=Path(sys.argv[3]), only=[""], seconds=100, dry=False)
assert freed == ["memory", "peak"]
"""


def test_on_a_gpu_it_runs_what_is_marked_so(tmp_path):
    """Each test with the memory that earlier ones left freed, and with its own peak."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: for a GPU\n")
    (tmp_path / "test_d_fine.py").write_text(TESTS["test_d_fine.py"].replace('machine == "cpu"', 'machine == "gpu"'))
    out = tmp_path / "report.json"
    result = subprocess.run(
        [sys.executable, "-c", ON_A_GPU, ROOT, out, tmp_path], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(out.read_text())
    (row,) = report["rows"]
    assert (row["what"], row["peak_GB"]) == ("[test_d_fine.py::test_fine[gpu]]", 2.0)
    assert report["finished"] == ["tests"]


@pytest.fixture
def timings(monkeypatch):
    """The module of the timings, and its report's class."""
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("bench.gpu.timings"), importlib.import_module("bench.gpu.report").Report


def test_a_timing_that_fails_hides_nothing(tmp_path, monkeypatch, timings):
    """Nor does one section of it; one after which the GPU no longer answers ends the process, and is done."""
    module, report_class = timings

    def timing_sections(timer):
        timer.section("a bad section", lambda: 1 / 0)
        timer.correct("a good section", 0.0, 0.1)

    def timing_wrong(timer):
        timer.correct("too far off", 1.0, 0.1)

    def timing_unusable(timer):
        timer.report.add("more", count=np.int64(3))
        monkeypatch.setattr("bench.gpu.timer.gpu_answers", lambda: False)
        raise RuntimeError("an illegal memory access was encountered")

    def timing_fine(timer):
        timer.correct("right", 0.0, 0.1)

    functions = {f.__name__: f for f in (timing_sections, timing_wrong, timing_unusable, timing_fine)}
    monkeypatch.setattr(module, "TIMINGS", functions)
    monkeypatch.setattr(module, "load", functions.get)
    path = tmp_path / "report.json"
    module.run_timings(report_class(path), only=[""], seconds=100, dry=True)
    report = report_class.read(path)
    rows = {row["what"]: row for row in report.rows}
    assert report.failed == ["a bad section", "too far off", "timing_unusable"]
    assert rows["a bad section"]["failed"] == "ZeroDivisionError: division by zero"
    assert rows["a good section"]["ok"]
    assert rows["more"]["count"] == 3
    assert "right" not in rows
    assert report.contents["finished"] == []
    assert report.contents["done"] == ["floors", "timing_sections", "timing_wrong", "timing_unusable"]
    module.run_timings(report, only=["fine", "unusable"], seconds=100, dry=True)
    assert report.rows[-1]["what"] == "[timing_fine]"
    assert report.contents["finished"] == ["timings"]


def test_without_a_gpu_it_says_so():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    command = [sys.executable, ROOT / "bench" / "gpu_check.py"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--cpu-dry-run" in result.stderr
