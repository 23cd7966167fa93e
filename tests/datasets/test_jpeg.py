"""Decoding on a GPU, whose calls torchvision answers on the CPU here: what Pillow gives; and batches read ahead."""

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
Image = pytest.importorskip("PIL.Image")

from clorg_scale.datasets import Images, jpeg, load_images, prefetch
from clorg_scale.errors import InputError

CPU = torch.device("cpu")


def photo(width, height, seed=0):
    """A smooth image with colors, as photos are."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Files of every kind, in the order of their names."""
    (tmp_path / "class").mkdir()
    for number, (width, height) in enumerate([(80, 60), (41, 70), (32, 32), (90, 1), (700, 36), (300, 200)]):
        photo(width, height, number).save(tmp_path / "class" / f"{number}.jpg", quality=90)
    photo(80, 60, 6).convert("L").save(tmp_path / "class" / "6.jpg")
    photo(80, 60, 7).convert("CMYK").save(tmp_path / "class" / "7.jpg")
    photo(80, 60, 8).save(tmp_path / "class" / "8.png")
    photo(80, 60, 9).save(tmp_path / "class" / "9.jpg", progressive=True)
    return tmp_path


@pytest.fixture
def decoded_by_torchvision(monkeypatch):
    """Numbers of files that torchvision has decoded, call by call."""
    calls, decode = [], jpeg.decode_jpeg
    monkeypatch.setattr(
        jpeg, "decode_jpeg", lambda files, *rest, **how: (calls.append(len(files)), decode(files, *rest, **how))[1]
    )
    return calls


def test_squares_are_those_of_pillow(folder, decoded_by_torchvision):
    images = load_images(str(folder), image_size=32)
    rows = np.array([3, *range(len(images))])
    found, expected = images.batch_on(rows, CPU), images.batch(rows)
    assert decoded_by_torchvision == [9]  # not the one in CMYK, nor the PNG
    assert (found.dtype, found.shape) == (torch.uint8, (11, 3, 32, 32))
    np.testing.assert_array_equal(found[8:10], expected[8:10])
    difference = abs(found.numpy().astype(int) - expected)
    assert difference.mean(axis=(1, 2, 3)).max() < 1.5
    assert difference.max() < 16  # where Pillow decodes at a fraction of the size
    np.testing.assert_array_equal(images.batch_on(np.array([7, 8]), CPU), images.batch(np.array([7, 8])))


def test_a_file_that_is_cut_off_is_reported_as_by_pillow(folder, decoded_by_torchvision):
    path = folder / "class" / "5.jpg"
    path.write_bytes(path.read_bytes()[:1000])
    images = load_images(str(folder), image_size=32)
    with pytest.raises(InputError) as by_pillow:
        images.batch(np.arange(6))
    with pytest.raises(InputError) as ours:
        images.batch_on(np.arange(6), CPU)
    assert str(ours.value) == str(by_pillow.value)
    assert not decoded_by_torchvision


def test_an_error_of_the_gpu_leaves_the_batch_to_pillow(folder, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("nvjpegDecode failed: 4")

    monkeypatch.setattr(jpeg, "decode_jpeg", fails)
    images = load_images(str(folder), image_size=32)
    np.testing.assert_array_equal(images.batch_on(np.arange(10), CPU), images.batch(np.arange(10)))


def test_large_images_are_left_to_pillow(folder, monkeypatch, decoded_by_torchvision):
    monkeypatch.setattr(jpeg, "MOST_PIXELS", 80 * 60)
    images = load_images(str(folder), image_size=32)
    found = images.batch_on(np.array([0, 5]), CPU)
    assert decoded_by_torchvision == [1]
    np.testing.assert_array_equal(found[1], images.batch(np.array([5]))[0])


def test_batches_are_read_ahead_in_order():
    images = Images(np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1), np.zeros(12, np.int64), ["a"], "numbers")
    batches = np.arange(12).reshape(6, 2)
    read, enough = [], threading.Event()

    class Watched:
        def batch(self, rows):
            read.append(rows[0])
            if len(read) == 1 + prefetch.AHEAD:
                enough.set()
            return images.batch(rows)

    coming = prefetch.prefetched(Watched(), batches)
    first = next(coming)
    assert enough.wait(10)
    np.testing.assert_array_equal(np.concatenate([first, *coming]).ravel(), np.arange(12))


def test_a_gpu_reads_files_itself(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(
        jpeg, "decode_squares", lambda paths, size, device, threads: seen.append((len(paths), size, device))
    )
    images, gpu = load_images(str(folder), image_size=32), torch.device("cuda", 1)
    assert list(prefetch.prefetched(images, [np.arange(3), np.arange(2)], gpu)) == [None, None]
    assert seen == [(3, 32, gpu), (2, 32, gpu)]
    (array,) = prefetch.prefetched(images, [np.arange(3)], CPU)
    np.testing.assert_array_equal(array, images.batch(np.arange(3)))
