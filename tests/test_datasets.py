"""Fashion-MNIST from its files, and the synthetic mixtures."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from clorg_scale.datasets import FASHION_MNIST_CLASSES, fashion_mnist, load_digits, load_fashion_mnist
from clorg_scale.errors import InputError

needs_fashion_mnist = pytest.mark.skipif(
    not fashion_mnist._DEBIAN_FOLDER.is_dir(),
    reason="dataset-fashion-mnist is not installed",
)


def idx_bytes(array: np.ndarray) -> bytes:
    """An idx file of unsigned bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def no_system_files(monkeypatch, tmp_path):
    """Neither the system's files nor the environment variable can be found."""
    monkeypatch.setattr(fashion_mnist, "_DEBIAN_FOLDER", tmp_path / "not-installed")
    monkeypatch.delenv("CLORG_SCALE_DATA", raising=False)


@pytest.fixture
def small_test_split(tmp_path, no_system_files):
    """Five images in the files of the test split."""
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    labels = np.array([3, 0, 9, 9, 1], np.uint8)
    folder = tmp_path / "data" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(images))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    return folder, images, labels


@needs_fashion_mnist
def test_fashion_mnist_is_the_published_set():
    images, labels = load_fashion_mnist("train")
    assert images.shape == (60_000, 28, 28)
    assert images.dtype == np.uint8
    assert labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert np.bincount(labels).tolist() == [6000] * 10
    # Mean and standard deviation known from countless training scripts: 0.2860 and 0.3530.
    assert images.mean() / 255 == pytest.approx(0.2860, abs=1e-4)
    assert images.std() / 255 == pytest.approx(0.3530, abs=1e-4)
    assert FASHION_MNIST_CLASSES[labels[0]] == "Ankle boot"
    test_images, test_labels = load_fashion_mnist("test")
    assert test_images.shape == (10_000, 28, 28)
    assert np.bincount(test_labels).tolist() == [1000] * 10


def test_fashion_mnist_in_a_data_folder(small_test_split, tmp_path, monkeypatch):
    _, images, labels = small_test_split
    found, found_labels = load_fashion_mnist("test", root=tmp_path / "data")
    assert np.array_equal(found, images)
    assert np.array_equal(found_labels, labels)
    assert found_labels.dtype == np.int64
    monkeypatch.setenv("CLORG_SCALE_DATA", str(tmp_path / "data"))
    assert np.array_equal(load_fashion_mnist("test")[0], images)


def test_fashion_mnist_that_is_not_there(no_system_files, tmp_path):
    with pytest.raises(InputError, match=r"apt-get install dataset-fashion-mnist.*CLORG_SCALE_DATA"):
        load_fashion_mnist("train", root=tmp_path)
    with pytest.raises(InputError, match="must be 'train' or 'test', not 'valid'"):
        load_fashion_mnist("valid")
    with pytest.raises(InputError, match="needs a folder"):
        load_fashion_mnist("train", download=True)


def test_fashion_mnist_with_damaged_files(small_test_split, tmp_path):
    folder, images, _ = small_test_split
    images_path = folder / "t10k-images-idx3-ubyte"
    labels_path = folder / "t10k-labels-idx1-ubyte.gz"
    whole = labels_path.read_bytes()
    for damaged in (whole[:-12], b"not gzip at all", whole[:15] + b"\xff\xff" + whole[17:]):
        labels_path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"labels-idx1-ubyte\.gz .*fetch the file again"):
            load_fashion_mnist("test", root=tmp_path / "data")
    labels_path.write_bytes(whole)
    for damaged, sentence in (
        (idx_bytes(images)[:-1], "truncated or damaged"),
        (idx_bytes(images)[:9], "truncated or damaged"),
        (b"\x89PNG", "is not an idx file"),
        (b"", "is not an idx file"),
        (idx_bytes(images[:4]), "not the files of Fashion-MNIST"),
    ):
        images_path.write_bytes(damaged)
        with pytest.raises(InputError, match=sentence):
            load_fashion_mnist("test", root=tmp_path / "data")


def test_digits():
    pixels, digits = load_digits()
    assert pixels.shape == (1797, 64)
    assert pixels.dtype == np.float32
    assert digits[:10].tolist() == list(range(10))
