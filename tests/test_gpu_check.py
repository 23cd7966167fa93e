"""bench/gpu_check.py runs where there is no GPU, and fails loudly where something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

SCRIPT = Path(__file__).resolve().parent.parent / "bench" / "gpu_check.py"


def run(*options, **more):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, SCRIPT, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **more)


def rows_of(path):
    report = json.loads(path.read_text())
    assert report["machine"]["versions"]["torch"]
    return {row["what"]: row for row in report["rows"]}


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


def test_one_failure_hides_nothing(tmp_path):
    """A wrong engine: its checks fail and are named, the others run."""
    program = f"""
import sys
sys.argv = ["gpu_check", "--cpu-dry-run", "--only", "check_near"]
sys.path.insert(0, {str(SCRIPT.parent)!r})
import gpu_check
def check_near_broken(run):
    raise RuntimeError("broken on purpose")
def check_near_wrong(run):
    run.correct("too far off", 1.0, 0.1)
def check_near_fine(run):
    run.correct("right", 0.0, 0.1)
gpu_check.CHECKS = (check_near_broken, check_near_wrong, check_near_fine)
sys.exit(gpu_check.main())
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "RuntimeError: broken on purpose" in result.stdout
    assert "2 failed: check_near_broken; too far off" in result.stdout
    assert "[check_near_fine]" in result.stdout


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
