"""The demonstration: one set of real images, organised in two ways, analysed and compared.

Raw pixels, and the same images projected on the directions that separate the classes best (linear discriminant
analysis, fitted on other images): a representation that never saw a class beside one that was made for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.analysis import analyze, compare
from clorg_scale.datasets import FASHION_MNIST_CLASSES, load_digits, load_fashion_mnist
from clorg_scale.errors import InputError

__all__ = ["run_demo"]

N_POINTS, N_TEST, N_FITTED = 10_000, 2_000, 20_000
"""Images analysed, test images of the probes, and further images that the projection is fitted on."""


@dataclass(frozen=True)
class _Images:
    """Disjoint parts of a data set, one row an image."""

    name: str
    points: npt.NDArray[np.float32]
    labels: npt.NDArray[Any]
    fitted: npt.NDArray[np.float32]
    fitted_labels: npt.NDArray[Any]
    test: npt.NDArray[np.float32] | None
    test_labels: npt.NDArray[Any] | None


def run_demo(out: str | Path, *, seed: int = 0, progress: bool = False) -> Path:
    """Analyse raw pixels and their discriminant projection; write two reports and their comparison.

    Parameters
    ----------
    out
        Folder for the results.
    seed
        Of everything random.
    progress
        Show progress bars on stderr.

    Returns
    -------
    Path of the comparison page.
    """
    images = _load()
    print(f"{images.name}: {len(images.points):,} images, raw pixels and their discriminant projection.")
    project = _discriminant_projection(images.fitted, images.fitted_labels)
    analyses = {}
    for name, represent in (("raw pixels", np.asarray), ("discriminant projection", project)):
        print(f"Analysing {name} ...", flush=True)
        analyses[name] = analyze(
            represent(images.points),
            images.labels,
            test_embeddings=None if images.test is None else represent(images.test),
            test_labels=images.test_labels,
            name=name,
            output=Path(out) / name.replace(" ", "-"),
            seed=seed,
            progress=progress,
        )
    comparison = compare(analyses)
    for row in comparison.table():
        values = "  ".join(f"{row[name]:12.4f}" for name in analyses)
        print(f"{row['quantity']:<34} {values}")
    return comparison.report(Path(out) / "comparison.html")


def _load() -> _Images:
    """Fashion-MNIST where it is on this machine, the digits of scikit-learn otherwise."""
    try:
        images, labels = load_fashion_mnist("train")
        test, test_labels = load_fashion_mnist("test")
    except InputError:
        points, labels = load_digits()
        flat = np.asarray(points, np.float32).reshape(len(points), -1) / np.float32(16)
        here, fitted = slice(600, None), slice(600)
        return _Images("digits", flat[here], labels[here], flat[fitted], labels[fitted], None, None)
    names = np.array(FASHION_MNIST_CLASSES)
    points = _flat(images[: N_POINTS + N_FITTED])
    here, fitted = slice(N_POINTS), slice(N_POINTS, None)
    named = names[labels[: N_POINTS + N_FITTED]]
    return _Images(
        "Fashion-MNIST", points[here], named[here], points[fitted], named[fitted],
        _flat(test[:N_TEST]), names[test_labels[:N_TEST]],
    )  # fmt: skip


def _flat(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """One row an image, 0 .. 1."""
    return np.asarray(images.reshape(len(images), -1), np.float32) / np.float32(255)


def _discriminant_projection(points: npt.NDArray[np.float32], labels: npt.NDArray[Any]) -> Any:
    """Principal components, then the directions between classes; learnt from these images."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    n_components = min(100, points.shape[1] // 2)
    model = make_pipeline(PCA(n_components, random_state=0), LinearDiscriminantAnalysis()).fit(points, labels)
    return lambda other: model.transform(other).astype(np.float32)
