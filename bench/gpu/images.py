"""Timings of training and embedding beside the network alone, from memory and from JPEG files."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.gpu.timer import SkippedError, Timer
from bench.images import alone, as_files, embed, train


def timing_images(timer: Timer) -> None:
    """Images a second of a resnet18: 28 x 28 pixels from memory, 224 x 224 from JPEG files of 256 x 256."""
    lacking = [name for name in ("torchvision", "lightly", "PIL") if importlib.util.find_spec(name) is None]
    if lacking:
        raise SkippedError(f"{', '.join(lacking)} are not installed")
    from clorg_scale.datasets import Images

    n, width, batch = (32, 4, 16) if timer.dry else (8192, 64, 256)
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (n, 1, 7, 7), np.uint8), np.ones((4, 4), np.uint8))
    images = Images(pixels, rng.integers(0, 10, n), [str(number) for number in range(10)], "random")

    def timed(what: str, compute: Callable[..., None], *given: Any, **how: Any) -> None:
        """Report images a second of a pass over the images that are passed last."""
        seconds = timer.section(what, partial(timer.best, partial(compute, *given, width, batch, **how), 1))
        if seconds is not None:
            timer.report.add(what, seconds=seconds, images_per_second=len(given[-1]) / seconds)

    timed("training, supervised", train, "supervised", images)
    timed("  its network alone", alone, images, train=True)
    timed("training, SimCLR", train, "simclr", images)
    timed("embedding", embed, images)
    timed("  its network alone, embedding", alone, images, train=False)
    with tempfile.TemporaryDirectory() as folder:
        files = as_files(images.first(n // 4), folder)
        timed("embedding of JPEG files", embed, files)
        timed("  its network alone, at 224", alone, files, train=False)
