"""bench/gpu_check.py runs where there is no GPU, and fails loudly where something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "gpu_check.py"


def run(*options, **more):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, SCRIPT, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **more)


def rows_of(path):
    report = json.loads(path.read_text())
    assert report["machine"]["versions"]["torch"]
    return {row["what"]: row for row in report["rows"]}


@pytest.mark.slow
def test_a_part_of_the_dry_run(tmp_path):
    result = run("--cpu-dry-run", "--only", "near", "--out", tmp_path / "report.json", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = rows_of(tmp_path / "report.json")
    assert rows["exact RLD of collapsed classes"]["ok"]
    assert rows["the same twice (difference)"]["error"] == 0
    assert rows["floors"]["matrix_TFLOPs"] > 0


@pytest.mark.slow
def test_the_whole_dry_run(tmp_path):
    result = run("--cpu-dry-run", "--out", tmp_path / "report.json")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = rows_of(tmp_path / "report.json")
    skipped = {what for what, row in rows.items() if "skipped" in row}
    assert skipped <= {"check_graph_kernels", "timing_keops", "timing_graph"}
    for name in ("check_exact_rld", "check_streaming", "check_knn", "check_stages", "timing_exact_rld", "timing_dense"):
        assert f"[{name}]" in rows


def run_with(checks, tmp_path, *options):
    """The program with other checks, in a file, as it starts itself again."""
    program = tmp_path / "program.py"
    program.write_text(f"""
import os, sys, time
sys.path.insert(0, {str(SCRIPT.parent)!r})
import gpu_check
{checks}
gpu_check.CHECKS = tuple(check for name, check in list(globals().items()) if name.startswith("check_"))
sys.exit(gpu_check.main())
""")
    command = [sys.executable, program, "--cpu-dry-run", "--out", tmp_path / "report.json", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_one_failure_hides_nothing(tmp_path):
    """A wrong engine: its checks fail and are named, the others run, the other parts of a check too."""
    result = run_with(
        """
def check_broken(run):
    raise RuntimeError("broken on purpose")
def check_parts(run):
    run.part("a bad part", lambda: 1 / 0)
    run.correct("a good part", 0.0, 0.1)
def check_wrong(run):
    run.correct("too far off", 1.0, 0.1)
def check_fine(run):
    run.correct("right", 0.0, 0.1)
""",
        tmp_path,
    )
    assert result.returncode == 1
    assert "RuntimeError: broken on purpose" in result.stdout
    assert "3 failed: check_broken; a bad part; too far off" in result.stdout
    assert rows_of(tmp_path / "report.json")["a good part"]["ok"]
    assert "[check_fine]" in result.stdout


@pytest.mark.slow
def test_a_check_that_ends_the_process_hides_nothing(tmp_path):
    """After an abort or an unusable GPU a new process goes on, with the rows of the old one."""
    result = run_with(
        """
def check_numbers(run):
    run.correct("of NumPy", gpu_check.np.float32(0), 0.1)
    run.report("more", count=gpu_check.np.int64(3))
def check_aborts(run):
    os.abort()
def check_unusable(run):
    def lost():
        raise RuntimeError("an illegal memory access was encountered")
    run.synchronize = lost
    raise RuntimeError("an illegal memory access was encountered")
def check_fine(run):
    run.correct("right", 0.0, 0.1)
""",
        tmp_path,
    )
    assert result.returncode == 1
    assert "2 failed: check_aborts; check_unusable" in result.stdout, result.stdout + result.stderr
    rows = rows_of(tmp_path / "report.json")
    assert rows["check_aborts"]["failed"] == "ended the process with code -6"
    assert rows["more"]["count"] == 3
    assert rows["right"]["ok"]


@pytest.mark.slow
def test_a_check_that_never_ends_is_ended(tmp_path):
    result = run_with(
        """
gpu_check.PATIENCE = 10
def check_endless(run):
    time.sleep(1000)
def check_late(run):
    run.correct("right", 0.0, 0.1)
""",
        tmp_path, "--seconds", "40",
    )  # fmt: skip
    assert "1 failed: check_endless" in result.stdout, result.stdout + result.stderr
    rows = rows_of(tmp_path / "report.json")
    assert rows["check_endless"]["failed"] == "took too long"
    assert rows["check_late"]["skipped"] == "no time left"


def test_without_a_gpu_it_says_so():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = run()
    assert result.returncode == 2
    assert "--cpu-dry-run" in result.stderr


@pytest.mark.gpu
@pytest.mark.slow
def test_every_check_on_the_gpu(tmp_path):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    result = run("--only", "check_", "--seconds", "300", "--out", tmp_path / "report.json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert rows_of(tmp_path / "report.json")["exact RLD 3001 x 300 triton fp16"]["ok"]
