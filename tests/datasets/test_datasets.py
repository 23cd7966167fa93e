"""Fashion-MNIST from its files, and the synthetic mixtures."""

from __future__ import annotations

import gzip
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clorg_scale
from clorg_scale.datasets import (
    FASHION_MNIST_CLASSES,
    compact_mixture,
    fashion_mnist,
    load_digits,
    load_fashion_mnist,
    locally_dense_mixture,
    mixtures,
)
from clorg_scale.errors import InputError

needs_fashion_mnist = pytest.mark.skipif(
    not fashion_mnist._DEBIAN_FOLDER.is_dir(),
    reason="needs all images of Fashion-MNIST (apt-get install dataset-fashion-mnist)",
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


# --- mixtures


def mixture(**changes):
    """A small locally dense mixture, before its points are drawn."""
    options = {"n_classes": 4, "n_clusters": 10, "spread": 0.1, "n_dimensions": 3, "class_exponent": 1.0}
    return mixtures._mixture(1, 6, **options | {"seed": 5, "separation": 1.0} | changes)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9000), st.integers(500, 9000))
def test_points_do_not_depend_on_the_blocks_they_are_drawn_in(n_points, block_rows):
    points, labels = mixture().points(n_points)
    blocks = list(mixture().blocks(n_points, block_rows))
    assert np.array_equal(np.concatenate([block for block, _ in blocks]), points)
    assert np.array_equal(np.concatenate([block_labels for _, block_labels in blocks]), labels)
    start = n_points // 3
    assert np.array_equal(mixture().rows(start, n_points)[0], points[start:])


@pytest.mark.parametrize("draw", [locally_dense_mixture, compact_mixture])
def test_seed_and_size(draw):
    points, labels = draw(6000, 8, seed=1)
    assert points.shape == (6000, 8)
    assert points.dtype == np.float32
    assert labels.dtype == np.int64
    larger, larger_labels = draw(9000, 8, seed=1)
    assert np.array_equal(larger[:6000], points)
    assert np.array_equal(larger_labels[:6000], labels)
    assert not np.array_equal(draw(6000, 8, seed=2)[0], points)


def test_output_file_holds_the_same_points(tmp_path):
    in_memory, labels = locally_dense_mixture(10_000, 8, dtype=np.float16)
    mapped, mapped_labels = locally_dense_mixture(10_000, 8, dtype=np.float16, output=tmp_path / "x.npy")
    assert isinstance(mapped, np.memmap)
    assert mapped.dtype == np.float16
    assert np.array_equal(mapped, in_memory)
    assert np.array_equal(mapped_labels, labels)
    assert np.array_equal(np.load(tmp_path / "x.npy"), in_memory)
    with pytest.raises(InputError, match="its folder does not exist"):
        compact_mixture(100, 8, output=tmp_path / "no" / "x.npy")


@pytest.mark.slow
def test_a_set_larger_than_the_memory_allowed(tmp_path):
    """640 MiB of points are written by a process that may take 512 MiB for its data."""
    code = """
import resource, sys
import numpy as np
import clorg_scale.datasets as datasets
import clorg_scale.datasets.mixtures
resource.setrlimit(resource.RLIMIT_DATA, (1 << 29, 1 << 29))
points, labels = datasets.locally_dense_mixture(655_360, 512, dtype=np.float16, output=sys.argv[1])
# Not ru_maxrss: it begins with what the process that forked held.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(points.shape, points.nbytes, peak.split()[1])
"""
    environment = {"OPENBLAS_NUM_THREADS": "1", "PATH": ""}
    command = [sys.executable, "-c", code, str(tmp_path / "x.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    (tmp_path / "x.npy").unlink(missing_ok=True)
    assert done.stdout.startswith("(655360, 512) 671088640"), done.stderr
    assert int(done.stdout.split()[-1]) < 1 << 19  # KiB


def test_zipf_classes():
    """Shares proportional to 1 / (c + 1); counts within 5 standard deviations of the multinomial."""
    n, n_classes = 40_000, 30
    _, labels = locally_dense_mixture(n, 2, n_classes=n_classes, class_exponent=1.0)
    shares = 1 / np.arange(1, n_classes + 1)
    shares /= shares.sum()
    deviation = np.sqrt(n * shares * (1 - shares))
    assert (np.abs(np.bincount(labels, minlength=n_classes) - n * shares) < 5 * deviation).all()


def test_spread_within_and_between_clusters():
    """The mean squared distance to the cluster's center is spread^2 q (1 + 0.01), noise included.

    With n q normal deviates its relative error has standard deviation sqrt(2 / (n q)) = 0.6 %.
    """
    drawn = mixture(spread=0.05)
    points, labels = drawn.points(20_000)
    centers = drawn.centers @ drawn.basis
    squared = ((points[:, None] - centers[labels]) ** 2).sum(axis=2).min(axis=1)
    # A point next to another center of its class than its own would make the mean smaller: at this spread, few.
    assert squared.mean() == pytest.approx(0.05**2 * 3 * 1.01, rel=0.03)
    assert np.allclose(drawn.basis @ drawn.basis.T, np.eye(3), atol=1e-6)


def test_the_two_kinds_are_told_apart_by_rld():
    """Locally dense classes hold together at low temperatures only, compact ones at all."""
    values = {}
    for draw in (locally_dense_mixture, compact_mixture):
        points, labels = draw(1500, 64, n_classes=5, seed=3)
        values[draw] = clorg_scale.rld(points, labels, temperatures=(1.0, 0.05), method="exact", device="cpu").values
    locally, compact = values[locally_dense_mixture], values[compact_mixture]
    assert locally[0] < 0.1 < 0.6 < locally[1]
    assert compact[0] > 2 * locally[0]
    assert compact[1] > 0.6


def test_numbers_that_make_no_sense():
    with pytest.raises(InputError, match="n_classes must be a whole number of 1 or more, not 0"):
        compact_mixture(10, 2, n_classes=0)
    with pytest.raises(InputError, match="clusters_per_class must be a whole number of 1 or more, not -1"):
        locally_dense_mixture(10, 2, clusters_per_class=-1)
    with pytest.raises(InputError, match=r"spread must be a positive number, not 0\.0"):
        locally_dense_mixture(10, 2, spread=0.0)
    with pytest.raises(InputError, match="separation must be a positive number, not nan"):
        compact_mixture(10, 2, separation=float("nan"))
    with pytest.raises(InputError, match="class_exponent must be a number of 0 or more, not '1'"):
        compact_mixture(10, 2, class_exponent="1")
    drawn = mixtures._mixture(
        10, 3, n_classes=2, n_clusters=1, spread=1, separation=1, n_dimensions=2, class_exponent=0, seed=0
    )
    for numbers in ((0, 3.0), ("a", 3), (-1, 3), (0, None)):
        with pytest.raises(InputError, match="must be a whole number of 0 or more"):
            drawn.rows(*numbers)
    for numbers in ((None,), (5, 2.5)):
        with pytest.raises(InputError, match="must be a whole number of 1 or more"):
            next(drawn.blocks(*numbers))
    np.testing.assert_array_equal(drawn.rows(np.uint8(0), np.uint8(200))[0], drawn.rows(0, 200)[0])
