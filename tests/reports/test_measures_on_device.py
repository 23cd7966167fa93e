"""Calinski-Harabasz in class order, as on a GPU, with the serial stand-in of CuPy: the values of the CPU."""

import shutil
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from serial_cupy import serial_cupy
from sklearn.metrics import calinski_harabasz_score

from clorg_scale import measures
from clorg_scale.arrays import column_means, encode_labels


@pytest.fixture
def cupy(monkeypatch):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    module = serial_cupy()
    module.__spec__ = ModuleSpec("cupy", None)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def unequal_classes(n=700, d=5, offset=0.0):
    """Classes of one point, of most points, and unlabelled ones."""
    rng = np.random.default_rng(0)
    labels = np.minimum(rng.zipf(1.4, n), 60) - 1
    labels[:50] = -1
    X = rng.normal(size=(n, d)) + rng.normal(size=(60, d))[labels] * 2 + offset
    return X, labels


@pytest.mark.parametrize("block_bytes", [1 << 28, 120 * 24 * 5, 24 * 5])
@pytest.mark.parametrize(("offset", "rel"), [(0.0, 1e-12), (1e6, 1e-8)])
def test_class_boundaries_anywhere_in_a_block(cupy, monkeypatch, block_bytes, offset, rel):
    """An offset of 1e6 leaves 1e-16 * 1e6 of each coordinate."""
    monkeypatch.setattr(measures, "DEVICE_BLOCK_BYTES", block_bytes)
    X, labels = unequal_classes(offset=offset)
    truth = calinski_harabasz_score(unequal_classes()[0][labels >= 0], labels[labels >= 0])
    assert measures.calinski_harabasz(cupy.asarray(X), labels) == pytest.approx(truth, rel=rel)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "u1"])
def test_types(cupy, dtype):
    X, labels = unequal_classes()
    X = (X * 8 + 90).clip(0, 250).astype(dtype)
    expected = measures.calinski_harabasz(X, labels)
    assert measures.calinski_harabasz(cupy.asarray(X), labels) == pytest.approx(expected, rel=1e-11)


def test_tight_classes_far_apart_keep_their_digits(cupy):
    """Squares to the overall mean would leave 1e-16 * 1e16 of those within the classes: nothing."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    centers = 2.0**30 * np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    X = rng.normal(size=(300, 4)) + centers[labels]
    apart = X - centers[labels]  # exact
    truth = sum(((apart[labels == c] - apart[labels == c].mean(axis=0)) ** 2).sum() for c in range(3))
    array = cupy.asarray(X)
    within = measures._means_and_squares(array, encode_labels(labels, 300), column_means(array))[1]
    assert within == pytest.approx(truth, rel=1e-12)


def test_no_variance_within(cupy):
    points = np.repeat(np.full((3, 3), 1 / 3) + np.eye(3), 7, axis=0)
    assert measures.calinski_harabasz(cupy.asarray(points), np.repeat([0, 1, 2], 7)) == float("inf")
    assert measures.calinski_harabasz(cupy.asarray(np.full((6, 2), 0.1)), np.arange(6) % 2) == 1.0


def test_there_is_no_loop_over_classes(cupy, monkeypatch):
    """As many reads of the embeddings as blocks, whatever the number of classes."""
    reads = []
    X, labels = unequal_classes()
    array = cupy.asarray(X)
    get = type(array).__getitem__

    def counted(self, key):
        if self is array:
            reads.append(key)
        return get(self, key)

    monkeypatch.setattr(type(array), "__getitem__", counted)
    classes, offset = encode_labels(labels, len(X)), column_means(array)
    reads.clear()
    measures._means_and_squares(array, classes, offset)
    assert len(reads) == 2  # one member of each class, and all rows
