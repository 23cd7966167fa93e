"""Worker processes that run checks one after another, each restarted where a check ended it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.gpu.report import Report

START = 120.0
"""Seconds that a worker may take to import everything."""


def supervise(command: Sequence[str], steps: Sequence[str], path: Path, limit: float) -> Report:
    """Run every step in worker processes of its own, and report the checks that end their process.

    Parameters
    ----------
    command
        Starts a worker; the name of its step is appended.
    steps
        Names of the steps, in order. A worker enters its step under `finished` in the report when all is done.
    path
        The report, through which workers and supervisor communicate.
    limit
        Seconds without news in the report until a check counts as hanging; `START` at least until the first begins.
    """
    Report(path).write()
    for step in steps:
        while step not in Report.read(path).contents["finished"]:
            n_done = len(Report.read(path).contents["done"])
            ended = _wait([*command, step], path, limit)
            report = Report.read(path)
            name = report.contents["running"]
            if name:
                report.add(name, failed=ended)
                report.finish(name)
            elif len(report.contents["done"]) == n_done and step not in report.contents["finished"]:
                report.add(f"the process of the {step}", failed=ended)
                break
    return Report.read(path)


def _wait(command: Sequence[str], path: Path, limit: float) -> str:
    """Run a worker to its end, or kill it when it reports nothing for too long; gives how it ended."""
    path.touch()
    with subprocess.Popen(command) as process:
        try:
            while (left := _seconds_left(path, limit)) > 0:
                try:
                    return f"ended the process with code {process.wait(left)}"
                except subprocess.TimeoutExpired:
                    continue
            return "took too long"
        finally:
            process.kill()  # nothing happens to one that has ended


def _seconds_left(path: Path, limit: float) -> float:
    """Seconds that may pass without a change of the report."""
    allowed = limit if Report.read(path).contents["running"] else max(limit, START)
    return min(limit, allowed - (time.time() - path.stat().st_mtime))
