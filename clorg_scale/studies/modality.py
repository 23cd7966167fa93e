"""Data other than photographs: digits as pixels, measurements of wines and of cells, texts."""

from __future__ import annotations

import inspect
import pkgutil
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Device
from clorg_scale.store.atomic import result_folder
from clorg_scale.store.locks import lock_folder, releasing_locks
from clorg_scale.studies.curves import rld_page
from clorg_scale.studies.measures import TEMPERATURES, measure
from clorg_scale.studies.sentences import embed_sentences, has_sentence_model
from clorg_scale.studies.table import Row, write_study
from clorg_scale.whole import MOST_SEED, whole_number

__all__ = ["study_modality"]

Labeled = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]

MODULES = (
    "argparse",
    "ast",
    "asyncio",
    "collections",
    "ctypes",
    "datetime",
    "decimal",
    "email",
    "http",
    "importlib",
    "inspect",
    "logging",
    "multiprocessing",
    "pathlib",
    "random",
    "socket",
    "statistics",
    "string",
    "tarfile",
    "threading",
    "turtle",
    "typing",
    "unittest",
    "urllib",
    "xml",
    "zipfile",
)
"""Modules of the standard library with much documentation."""

BY_SENTENCES = "documentation, MiniLM"

LEAST_LETTERS, MOST_CLASSES, AXES = 40, 12, 64


@releasing_locks
def study_modality(*, out: Path | str, device: Device = "auto", seed: int = 0) -> list[Row]:
    """Measure digits, tables and texts that come with scikit-learn and Python, all without a download.

    The texts are the documentation of functions and classes of Python's standard library, classified by their module.
    They are embedded by latent semantic analysis (TF-IDF and a truncated SVD), and by a sentence model where that is
    installed (`clorg_scale.studies.sentences`).

    Parameters
    ----------
    out
        Folder for table.csv, table.json and plot.html.
    device, seed
        As for `clorg_scale.rld`.

    Returns
    -------
    A row for each data set.

    Raises
    ------
    InputError
        If the seed is not a whole number, the folder cannot be written, or another run is writing to it.
    """
    seed = whole_number("seed", seed, 0, MOST_SEED)
    with result_folder(Path(out)):
        lock_folder(out)
        rows = _measured_sets(device, seed)
        curves = {str(row["data"]): [float(row[f"RLD {t:g}"]) for t in TEMPERATURES] for row in rows}
        write_study(out, rows, rld_page(TEMPERATURES, curves, title="RLD of digits, tables and texts"))
    return rows


def _measured_sets(device: Device, seed: int) -> list[Row]:
    """Measures of all sets."""
    from sklearn.datasets import load_breast_cancer, load_digits, load_wine

    texts, modules = _texts()
    sets: dict[str, Labeled] = {
        "digits, pixels": _standardized(*load_digits(return_X_y=True), scale=False),
        "wines, measurements": _standardized(*load_wine(return_X_y=True), scale=True),
        "cells, measurements": _standardized(*load_breast_cancer(return_X_y=True), scale=True),
        "documentation, LSA": _by_lsa(texts, modules, seed),
    }
    if has_sentence_model():
        sets[BY_SENTENCES] = embed_sentences(texts, device=device), modules
    rows: list[Row] = []
    for name, (points, labels) in sets.items():
        row: Row = {"data": name, "classes": len(np.unique(labels))}
        rows.append(row | measure(points, labels, device=device, seed=seed))
    return rows


def _standardized(points: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], *, scale: bool) -> Labeled:
    centered = points - points.mean(axis=0)
    return (centered / points.std(axis=0) if scale else centered).astype(np.float32), labels


def _texts() -> tuple[list[str], npt.NDArray[np.int64]]:
    """Documentation strings of the modules that have most of them, and the module of each."""
    texts, modules = _documentation()
    names, counts = np.unique(modules, return_counts=True)
    kept = names[np.argsort(-counts, kind="stable")][:MOST_CLASSES]
    chosen = np.flatnonzero(np.isin(modules, kept))
    return [texts[i] for i in chosen], np.unique(modules[chosen], return_inverse=True)[1]


def _by_lsa(texts: list[str], labels: npt.NDArray[np.int64], seed: int) -> Labeled:
    """Embed texts by the words in them, each scaled to length 1; texts without such words are left out."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(stop_words="english", sublinear_tf=True, min_df=2).fit_transform(texts)
    points = TruncatedSVD(min(AXES, words.shape[1] - 1), random_state=seed).fit_transform(words)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    nonzero = lengths[:, 0] > 0
    return (points / np.where(lengths > 0, lengths, 1))[nonzero].astype(np.float32), labels[nonzero]


def _documentation() -> tuple[list[str], npt.NDArray[np.str_]]:
    """Documentation strings of what public modules of the standard library define, each once, and their modules."""
    seen: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of modules
        for module in MODULES:
            for name in _with_submodules(module):
                for text in _texts_of(name):
                    seen.setdefault(text, module)
    return list(seen), np.array(list(seen.values()))


def _with_submodules(module: str) -> list[str]:
    """List the module and those of its submodules that can be imported without side effects."""
    import importlib

    found = importlib.import_module(module)
    inside = [m.name for m in pkgutil.iter_modules(getattr(found, "__path__", []))]
    return [module, *(f"{module}.{name}" for name in inside if not name.startswith("_") and name != "__main__")]


def _texts_of(module: str) -> list[str]:
    import importlib

    try:
        members = vars(importlib.import_module(module))
    except Exception:  # modules of other systems
        return []
    own = [value for value in members.values() if getattr(value, "__module__", None) == module]
    methods = [value for cls in own if inspect.isclass(cls) for value in vars(cls).values()]
    texts = [getattr(value, "__doc__", None) for value in [*own, *methods] if callable(value)]
    return [text for text in texts if isinstance(text, str) and len(text) >= LEAST_LETTERS]
