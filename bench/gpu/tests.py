"""The tests of tests/gpu run by pytest in this process, each reported as it ends."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.gpu.report import Report, first_line, gpu_answers

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "gpu"

CPU_VARIANTS = {"machine": "cpu", "cupy": "serial"}
"""Fixtures with a variant for the CPU, and its name: what a dry run runs."""


def run_tests(report: Report, *, folder: Path, only: Sequence[str], seconds: float, dry: bool) -> None:
    """Run the tests that are not done and whose names contain one of `only`, until one leaves the GPU unusable.

    Parameters
    ----------
    report
        Receives a row for every test and for every error that a test measures.
    folder
        The tests.
    only
        Parts of names; an empty one is in every name.
    seconds
        Time of the whole run after which no further test is started.
    dry
        Run the variants for the CPU instead of those marked `gpu`.
    """
    recorder = Recorder(report, only=only, seconds=seconds, dry=dry)
    arguments = [str(folder), "-p", "no:cacheprovider", "--continue-on-collection-errors", "-q", "--no-header"]
    if importlib.util.find_spec("pytest_timeout") is None:
        arguments += ["-o", "addopts="]
    pytest.main(arguments, plugins=[recorder])
    if recorder.usable:
        report.contents["finished"].append("tests")
        report.write()


class Recorder:
    """Plugin of pytest that selects tests, keeps the report, and stops when the GPU no longer answers."""

    def __init__(self, report: Report, *, only: Sequence[str], seconds: float, dry: bool) -> None:
        self.report, self.only, self.seconds, self.dry = report, only, seconds, dry
        self.usable, self.failed = True, False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Report a file that cannot be imported, once."""
        name = report.nodeid or "tests"
        if report.failed and name not in self.report.contents["done"]:
            self.report.add(name, failed=first_line(str(report.longrepr).rstrip().rpartition("\n")[2]))
            self.report.finish(name)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the tests that this run is about."""
        kept = [item for item in items if self._wanted(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept

    def _wanted(self, item: pytest.Item) -> bool:
        variants = getattr(getattr(item, "callspec", None), "params", {})
        on_cpu = any(variants.get(fixture) == variant for fixture, variant in CPU_VARIANTS.items())
        here = on_cpu if self.dry else item.get_closest_marker("gpu") is not None
        named = any(part in item.nodeid for part in self.only)
        return here and named and item.nodeid not in self.report.contents["done"]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Run one test between two writes of the report."""
        self.failed = False
        self.report.start(item.nodeid)
        if not self.dry:
            _free_memory()
        result = yield
        self.report.finish(item.nodeid)
        if self.failed and not gpu_answers():
            self.usable = False
            item.session.shouldstop = "the GPU no longer answers"
        return result

    def pytest_runtest_setup(self) -> None:
        """Leave out what no longer fits into the time."""
        if self.report.elapsed >= self.seconds:
            pytest.skip("no time left")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Report what a test measured, and how it ended."""
        name = report.nodeid
        if report.when == "call":
            for what, numbers in report.user_properties:
                self.report.add(what, **(numbers if isinstance(numbers, dict) else {"value": numbers}))
        if report.failed:
            self.failed = True
            crash = getattr(report.longrepr, "reprcrash", None)
            self.report.add(name, failed=first_line(str(report.longrepr) if crash is None else crash.message))
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.report.add(name, skipped=reason.removeprefix("Skipped: "))
        elif report.when == "call":
            self.report.add(f"[{name}]", wall=report.duration, **({} if self.dry else _peak_memory()))


def _free_memory() -> None:
    """Free what earlier tests left on the GPU, and start a new peak."""
    import torch

    from clorg_scale.arrays import free_device_memory

    free_device_memory()
    torch.cuda.reset_peak_memory_stats()


def _peak_memory() -> dict[str, float]:
    import torch

    return {"peak_GB": torch.cuda.max_memory_allocated() / 1e9}
