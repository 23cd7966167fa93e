"""The timings in their order, run in this process."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from bench.gpu.report import Report

TIMINGS = {
    "timing_exact_rld": "exact_rld",
    "timing_rld": "exact_rld",
    "timing_variants": "exact_rld",
    "timing_dense": "exact_rld",
    "timing_keops": "exact_rld",
    "timing_graph": "stages",
    "timing_knn_engines": "stages",
    "timing_stages": "stages",
    "timing_images": "images",
    "timing_imagenet": "stages",
    "timing_analyze": "stages",
}
"""Names of the timings, and their modules, which are imported only if one of them is wanted."""


def load(name: str) -> Callable[[Any], None]:
    """Import a timing."""
    timing: Callable[[Any], None] = getattr(importlib.import_module(f"bench.gpu.{TIMINGS[name]}"), name)
    return timing


def run_timings(report: Report, *, only: Sequence[str], seconds: float, dry: bool) -> None:
    """Take the timings that are not done and whose names contain one of `only`, until one leaves the GPU unusable.

    Parameters
    ----------
    report
        Receives the rows.
    only
        Parts of names; an empty one is in every name.
    seconds
        Time of the whole run after which no further timing is started.
    dry
        Run tiny sizes on torch's CPU tensors.
    """
    wanted = [name for name in TIMINGS if any(part in name for part in only)]
    if wanted:
        from bench.gpu.timer import Timer, floors

        timer = Timer(report, seconds=seconds, dry=dry)
        for name in ["floors", *wanted]:
            if name in report.contents["done"]:
                continue
            report.start(name)
            timer.attempt(name, floors if name == "floors" else load(name))
            report.finish(name)
            if not timer.usable:
                return
    report.contents["finished"].append("timings")
    report.write()
