"""State that all timings share: the device, repetitions, and the floors that a time is compared with."""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bench.gpu.report import Report, first_line, gpu_answers

TEMPERATURES = np.array([1.0, 0.5, 0.2, 0.1, 0.05])


class SkippedError(Exception):
    """A timing that cannot be taken here, with the reason."""


class Timer:
    """The device that is timed, and its report.

    Parameters
    ----------
    report
        Receives the rows.
    seconds
        Time of the whole run after which no further timing is started.
    dry
        Run tiny sizes on torch's CPU tensors.
    """

    def __init__(self, report: Report, *, seconds: float, dry: bool) -> None:
        self.report, self.seconds, self.dry = report, seconds, dry
        self.device = torch.device("cpu" if dry else "cuda")
        self.matrix_rate, self.copy_rate = report.contents["floors"] or (float("nan"), float("nan"))
        self.usable = True

    @property
    def left(self) -> float:
        """Seconds until no further timing is started."""
        return self.seconds - self.report.elapsed

    def cupy(self) -> Any:
        """CuPy, or a reason to skip."""
        if self.dry:
            raise SkippedError("CuPy needs a GPU")
        return importlib.import_module("cupy")

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def best(self, compute: Callable[[], Any], repeats: int = 3) -> float:
        """Seconds of the fastest of `repeats` calls after one that compiles."""
        compute()
        times = []
        for _ in range(1 if self.dry else repeats):
            self.synchronize()
            start = time.perf_counter()
            compute()
            self.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)

    def timing(self, what: str, seconds: float, *, flops: float = 0.0, moved: float = 0.0, **more: Any) -> None:
        """Report a time beside its floor."""
        floor = max(flops / self.matrix_rate, moved / self.copy_rate)
        self.report.add(what, seconds=seconds, floor=floor, share=floor / seconds, **more)

    def correct(self, what: str, error: float, allowed: float) -> None:
        """Report an error beside what is allowed; one that is too large makes the run fail."""
        self.report.add(what, error=float(error), allowed=allowed, ok=bool(error <= allowed))

    def attempt(self, name: str, timing: Callable[[Timer], None]) -> None:
        """Run one timing, whatever happens in it."""
        if self.left <= 0:
            self.report.add(name, skipped="no time left")
            return
        if self.device.type == "cuda":
            from clorg_scale.arrays import free_device_memory

            free_device_memory()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        if self._runs(name, lambda: (timing(self),)) is not None:
            memory = {"peak_GB": torch.cuda.max_memory_allocated() / 1e9} if self.device.type == "cuda" else {}
            self.report.add(f"[{name}]", wall=time.perf_counter() - start, **memory)

    def section(self, what: str, compute: Callable[[], Any]) -> Any:
        """Run one section of a timing; if it fails, give None, and the sections after it run."""
        return self._runs(what, compute)

    def _runs(self, what: str, compute: Callable[[], Any]) -> Any:
        try:
            return compute()
        except SkippedError as reason:
            self.report.add(what, skipped=str(reason))
        except Exception as error:
            self.report.add(what, failed=first_line(error))
            traceback.print_exception(error)
            self.usable = self.usable and gpu_answers()
        return None


def floors(timer: Timer) -> None:
    """Rate of a large fp16 product of random numbers, and of a copy, counting bytes read and written."""
    size = 256 if timer.dry else 8192
    dtype = torch.float32 if timer.dry else torch.float16
    a, b = (torch.randn(size, size, device=timer.device).to(dtype) for _ in "ab")
    timer.matrix_rate = 2 * size**3 / timer.best(lambda: a @ b, 10)
    source = torch.empty((1 << 20) if timer.dry else (1 << 29), dtype=torch.float32, device=timer.device)
    target = torch.empty_like(source)
    timer.copy_rate = 2 * source.numel() * 4 / timer.best(lambda: target.copy_(source), 5)
    host = torch.empty(1 << 20 if timer.dry else 1 << 28, dtype=torch.float32, pin_memory=not timer.dry)
    loading = 4 * len(host) / timer.best(lambda: target[: len(host)].copy_(host, non_blocking=True))
    timer.report.contents["floors"] = [timer.matrix_rate, timer.copy_rate]
    timer.report.add(
        "floors", matrix_TFLOPs=timer.matrix_rate / 1e12, copy_GBs=timer.copy_rate / 1e9, from_pinned_GBs=loading / 1e9
    )
