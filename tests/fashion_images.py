"""Real images for tests: the first 3,000 training images of Fashion-MNIST; more where it is installed."""

from pathlib import Path

import pytest

from clorg_scale.datasets import load_fashion_mnist
from clorg_scale.datasets.idx import read_idx
from clorg_scale.errors import InputError

FOLDER = Path(__file__).parent / "data" / "fashion-mnist-3000"

SHIPPED = 3_000


def first_images(n):
    """(n, 784) uint8 pixels and (n,) int64 labels, in file order; skips the test where there are not so many."""
    if n <= SHIPPED:
        images = read_idx(FOLDER / "train-images-idx3-ubyte.gz")
        labels = read_idx(FOLDER / "train-labels-idx1-ubyte.gz").astype("int64")
    elif has_all_images():
        images, labels = load_fashion_mnist("train")
    else:
        pytest.skip(f"needs {n:,} images of Fashion-MNIST; only {SHIPPED:,} come with the tests")
    return images[:n].reshape(n, -1), labels[:n]


def has_all_images():
    """Whether the whole data set is on this machine."""
    try:
        load_fashion_mnist("test")
    except InputError:
        return False
    return True
