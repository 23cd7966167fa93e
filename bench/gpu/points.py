"""Seeded mixtures of points, made on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bench.gpu.timer import Timer


class GeneratedPoints:
    """A seeded mixture with the interface of `ClassOrderedPoints`, made on the device block by block."""

    on_gpu = True

    def __init__(self, n: int, d: int, n_classes: int, device: Any) -> None:
        self.n_points, self.n_features, self.device = n, d, device
        self.order = np.arange(n)
        self.codes = np.sort(np.arange(n) % n_classes)
        generator = torch.Generator(device).manual_seed(0)
        self.centers = torch.randn(n_classes, 8, d, device=device, generator=generator)
        self.centers -= self.centers.mean((0, 1))

    def rows(self, which: Any, dtype: Any = np.float32) -> Any:
        """Rows of the mixture: class center, one of eight sub-clusters, noise."""
        generator = torch.Generator(self.device).manual_seed(int(which[0]) + 1)
        codes = torch.as_tensor(self.codes[which], device=self.device)
        cluster = torch.as_tensor(np.asarray(which) % 8, device=self.device)
        noise = torch.randn(len(which), self.n_features, device=self.device, generator=generator)
        return 0.4 * self.centers[codes, cluster] + 0.6 * self.centers[codes, 0] + noise


def generated(timer: Timer, n: int, d: int, n_classes: int) -> tuple[Any, Any]:
    """(n, d) float16 of `GeneratedPoints`, on the GPU if there is one, and their classes."""
    points = GeneratedPoints(n, d, n_classes, timer.device)
    X = np.empty((n, d), np.float16) if timer.dry else timer.cupy().empty((n, d), np.float16)
    for start in range(0, n, 20_000):
        block = points.rows(np.arange(start, min(n, start + 20_000))).half()
        X[start : start + len(block)] = block.numpy() if timer.dry else timer.cupy().from_dlpack(block)
    return X, points.codes


def shuffled(timer: Timer, n: int, d: int) -> tuple[Any, Any]:
    """(n, d) float32 of ten classes in random order, as users have them, and their classes."""
    X, codes = generated(timer, n, d, 10)
    order = np.random.default_rng(0).permutation(n)
    return X[order].astype(np.float32), codes[order]
