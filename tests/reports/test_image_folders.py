"""Folders of images as they are found: hidden files, more than 8 bits, damaged and very large ones, one set for all."""

import os
import struct
import warnings
import zlib

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

from clorg_scale.datasets import Images, load_images
from clorg_scale.errors import InputError

RAMP = np.linspace(0, 1, 32 * 32).reshape(32, 32)
"""From black to white; its mean is a half."""


def save(path, values=RAMP * 255, dtype=np.uint8, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(values).astype(dtype)).save(path, **options)


def classes(folder, *names, n=2):
    for name in names:
        for i in range(n):
            save(folder / name / f"{i}.png")
    return folder


def read(path, size=32):
    """The first image of the class that a file lies in."""
    return load_images(str(path.parent.parent), "train", image_size=size).batch(np.array([0]))[0]


@pytest.mark.parametrize(
    ("file", "values", "dtype"),
    [
        ("a.png", RAMP * 255, np.uint8),
        ("a.png", RAMP * 65535, np.uint16),
        ("a.tif", RAMP * 65535, np.uint16),
        ("a.tiff", RAMP * 65535, np.dtype(">u2")),
        ("a.pgm", RAMP * 65535, np.uint16),
        ("A.PNG", RAMP * 65535, np.uint16),
    ],
)
def test_every_depth_goes_from_black_to_white(tmp_path, file, values, dtype):
    save(tmp_path / "ramp" / file, values, dtype)
    pixels = read(tmp_path / "ramp" / file)
    assert pixels.shape == (3, 32, 32)
    np.testing.assert_allclose(pixels, np.broadcast_to(np.round(RAMP * 255), (3, 32, 32)), atol=1)


def tiff(path, bits, *, inverted=False, signed=False, order="<", n_channels=1):
    """Write the ramp as an uncompressed TIFF, of kinds that Pillow reads but does not write."""
    values = np.round(RAMP * (2 ** (bits - signed) - 1)).astype(np.int64)
    if bits == 12:
        a, b = values[:, 0::2], values[:, 1::2]
        data = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], -1).astype(np.uint8).tobytes()
    else:
        data = np.repeat(values, n_channels, axis=1).astype(f"{order}{'i' if signed else 'u'}{bits // 8}").tobytes()
    photometric = 2 if n_channels == 3 else 0 if inverted else 1
    tags = {
        256: 32,
        257: 32,
        258: bits,
        259: 1,
        262: photometric,
        273: 0,
        277: n_channels,
        278: 32,
        279: len(data),
        339: 1 + signed,
    }
    end = 8 + 2 + 12 * len(tags) + 4
    every = struct.pack(f"{order}3H", bits, bits, bits) if n_channels == 3 else b""
    entries = b""
    for tag, value in (tags | {273: end + len(every)}).items():
        if tag == 258 and every:
            entries += struct.pack(f"{order}HHII", tag, 3, 3, end)
        else:
            entries += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    path.write_bytes(start + entries + bytes(4) + every + data)


@pytest.mark.parametrize(
    ("bits", "options"),
    [
        (12, {}),
        (16, {}),
        (16, {"order": ">"}),
        (16, {"inverted": True}),
        (16, {"n_channels": 3}),
        (16, {"n_channels": 3, "order": ">"}),
    ],
)
def test_depth_and_scale_of_a_tiff_are_those_of_its_tags(tmp_path, bits, options):
    tiff(tmp_path / "ramp" / "a.tif", bits, **options)
    expected = 255 - RAMP * 255 if options.get("inverted") else RAMP * 255
    np.testing.assert_allclose(read(tmp_path / "ramp" / "a.tif"), np.broadcast_to(expected, (3, 32, 32)), atol=1)


@pytest.mark.parametrize(
    ("bits", "options", "word"),
    [
        (16, {"signed": True}, "signed integers of 16 bits"),
        (16, {"signed": True, "order": ">"}, "signed integers of 16 bits"),
        (32, {}, "it holds integers of 32 bits"),
        (12, {"order": ">"}, "cannot identify"),  # Pillow knows none of these
        (12, {"inverted": True}, "cannot identify"),
        (16, {"inverted": True, "order": ">"}, "cannot identify"),
    ],
)
def test_other_depths_of_tiffs_are_refused(tmp_path, bits, options, word):
    tiff(tmp_path / "ramp" / "a.tif", bits, **options)
    with pytest.raises(InputError, match=rf"ramp/a\.tif cannot be read.*{word}"):
        read(tmp_path / "ramp" / "a.tif")


@pytest.mark.parametrize("most", [1000, 4095])
def test_a_gray_map_is_scaled_by_its_largest_value(tmp_path, most):
    (tmp_path / "ramp").mkdir()
    data = np.round(RAMP * most).astype(">u2").tobytes()
    (tmp_path / "ramp" / "a.pgm").write_bytes(f"P5 32 32 {most}\n".encode() + data)
    np.testing.assert_allclose(read(tmp_path / "ramp" / "a.pgm")[0], RAMP * 255, atol=1)


@pytest.mark.parametrize(
    ("file", "values", "dtype", "word"),
    [
        ("a.tif", RAMP * 2e9, np.int32, "integers of 32 bits"),
        ("a.tif", RAMP * 255, np.int32, "integers of 32 bits"),
        ("a.tif", RAMP, np.float32, "floats"),
    ],
)
def test_numbers_without_a_range_are_refused_by_the_name_of_the_file(tmp_path, file, values, dtype, word):
    path = tmp_path / "ramp" / file
    path.parent.mkdir()
    Image.fromarray(values.astype(dtype)).save(path)
    with pytest.raises(InputError, match=rf"ramp/a\.tif cannot be read.*{word}"):
        read(path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_other_modes_keep_their_brightness(tmp_path, mode):
    path = tmp_path / "gray" / ("a.tif" if mode == "CMYK" else "a.png")
    path.parent.mkdir()
    Image.new("L", (40, 40), 255).convert("RGB").convert(mode).save(path)
    assert read(path).min() >= 254


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int64])
def test_pixels_in_memory_are_bytes(dtype):
    with pytest.raises(InputError, match=f"dtype {np.dtype(dtype)}.*uint8"):
        Images(np.zeros((2, 1, 8, 8), dtype), np.zeros(2, np.int64), ["a"], "mine")


def test_labels_in_memory_have_names():
    pixels = np.zeros((2, 1, 8, 8), np.uint8)
    with pytest.raises(InputError, match="from 0 to 2, but it names 2 classes"):
        Images(pixels, np.array([0, 2]), ["a", "b"], "mine")
    with pytest.raises(InputError, match="one image for each of the 3 labels"):
        Images(pixels, np.zeros(3, np.int64), ["a"], "mine")


def test_hidden_files_and_folders_are_no_classes_and_no_images(tmp_path):
    classes(tmp_path / "train", "cat", "dog")
    for hidden in (".ipynb_checkpoints", "__MACOSX", "cat/.ipynb_checkpoints", ".cache"):
        save(tmp_path / "train" / hidden / "0.png")
    (tmp_path / "train" / "cat" / "._0.png").write_bytes(b"a resource fork")
    (tmp_path / "train" / "dog" / "Thumbs.db").write_bytes(b"thumbnails")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = load_images(str(tmp_path), "train", image_size=16)
    assert (images.classes, images.labels.tolist()) == (["cat", "dog"], [0, 0, 1, 1])
    assert images.batch(np.arange(4)).shape == (4, 3, 16, 16)


def test_files_that_are_no_images_are_told(tmp_path):
    classes(tmp_path / "train", "cat", "dog")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("seven of them")
    with pytest.warns(UserWarning, match=r"1 file without an image's file extension was left out \(.*notes\.txt"):
        load_images(str(tmp_path), "train")


def test_a_class_without_images_is_named(tmp_path):
    classes(tmp_path / "train", "cat", "dog")
    (tmp_path / "train" / "eel" / ".ipynb_checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="eel holds no image"):
        load_images(str(tmp_path), "train")
    with pytest.raises(InputError, match="no folder that is not hidden"):
        load_images(str(tmp_path / "train" / "eel"), "train")


def test_a_link_back_to_where_it_lies_is_followed_once(tmp_path):
    classes(tmp_path / "train", "cat", "dog")
    (tmp_path / "train" / "cat" / "again").symlink_to(tmp_path / "train" / "cat", target_is_directory=True)
    assert len(load_images(str(tmp_path), "train")) == 4


def test_labels_of_both_splits_follow_the_names(tmp_path):
    classes(tmp_path / "train", "apple", "bear", "cat", "dog")
    classes(tmp_path / "val", "apple", "cat", "dog", "aardvark")
    train, test = (load_images(str(tmp_path), split) for split in ("train", "test"))
    assert train.classes == ["apple", "bear", "cat", "dog"]
    assert test.classes == ["apple", "bear", "cat", "dog", "aardvark"]  # a class that only val/ has comes last
    names = [test.classes[label] for label in test.labels]
    assert names == [path.split("/")[-2] for path in test.paths]


@pytest.mark.parametrize(("train", "test"), [("train", "validation"), ("Train", "Test"), ("training", "valid")])
def test_splits_by_other_names(tmp_path, train, test):
    classes(tmp_path / train, "cat", "dog", n=3)
    classes(tmp_path / test, "cat", "dog")
    assert [len(load_images(str(tmp_path), split)) for split in ("train", "test")] == [6, 4]


def test_a_class_called_train_is_a_class(tmp_path):
    classes(tmp_path, "car", "plane", "train")
    assert load_images(str(tmp_path), "train").classes == ["car", "plane", "train"]


def test_a_folder_without_splits_says_that_its_test_images_are_those_of_training(tmp_path):
    classes(tmp_path, "cat", "dog")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train = load_images(str(tmp_path), "train")
    with pytest.warns(UserWarning, match="its test images are its training images"):
        test = load_images(str(tmp_path), "test")
    assert train.paths == test.paths
    assert train.unsplit
    assert test.unsplit


def png(width, height, data):
    """A PNG of 8-bit grays with any size in its header."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def truncated(path):
    save(path.with_suffix(".jpg"), np.random.default_rng(0).integers(0, 255, (64, 64)))
    path.write_bytes(path.with_suffix(".jpg").read_bytes()[:-300])
    path.with_suffix(".jpg").unlink()


UNREADABLE = {
    "text": lambda path: path.write_text("no image"),
    "empty": lambda path: path.touch(),
    "truncated": truncated,
    "header alone": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"),
    "damaged chunk": lambda path: path.write_bytes(png(8, 8, b"")[:20] + b"\xff" * 40),
    "damaged data": lambda path: path.write_bytes(png(8, 8, b"no zlib")),
    "announced size": lambda path: path.write_bytes(png(2**20, 2**20, zlib.compress(bytes(9)))),
    "gone": lambda path: path.symlink_to("nowhere.png"),
    "pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_image_is_named_or_left_out(tmp_path, kind):
    classes(tmp_path / "train", "cat", "dog")
    bad = tmp_path / "train" / "cat" / "1.png"
    bad.unlink()
    UNREADABLE[kind](bad)
    images = load_images(str(tmp_path), "train", image_size=16)
    assert images.paths[1] == str(bad)
    with pytest.raises(InputError, match=r"train/cat/1\.png cannot be read \(.*--skip-unreadable") as error:
        images.batch(np.arange(4))
    assert "\n" not in str(error.value)
    rest = load_images(str(tmp_path), "train", image_size=16, skip_unreadable=True)
    assert rest.skipped == [str(bad)]
    assert (rest.classes, rest.labels.tolist()) == (["cat", "dog"], [0, 1, 1])
    assert rest.batch(np.arange(3)).shape == (3, 3, 16, 16)


def test_where_no_image_can_be_read_there_is_nothing_to_skip_to(tmp_path):
    classes(tmp_path / "train", "cat", "dog", n=1)
    for name in ("cat", "dog"):
        (tmp_path / "train" / name / "0.png").write_bytes(b"")
    with pytest.raises(InputError, match="None of the 2 images"):
        load_images(str(tmp_path), "train", skip_unreadable=True)


@pytest.mark.parametrize("limit", [100, 700])
def test_pillows_limit_does_not_refuse_valid_images_and_stays_what_it_is(tmp_path, monkeypatch, limit):
    """More than twice the limit is an error there, more than the limit a warning."""
    classes(tmp_path / "train", "cat", "dog")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = load_images(str(tmp_path), "train", image_size=16, skip_unreadable=True)
        assert images.skipped == []
        assert images.batch(np.arange(4)).shape == (4, 3, 16, 16)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_very_long_image_is_cut_before_it_is_resized(tmp_path):
    save(tmp_path / "long" / "a.png", np.full((1, 100_000), 77))
    pixels = read(tmp_path / "long" / "a.png", size=224)
    assert pixels.shape == (3, 224, 224)
    assert (pixels == 77).all()


def test_the_digest_is_that_of_the_contents(tmp_path, monkeypatch):
    first, second = classes(tmp_path / "a" / "images", "cat"), classes(tmp_path / "b" / "images", "cat")

    def digest(folder, size=16):
        return load_images(str(folder), "train", image_size=size).digest()

    assert digest(first) == digest(second)
    assert digest(first) != digest(first, size=32)
    save(second / "cat" / "1.png", 255 - RAMP * 255)
    assert digest(first) != digest(second)
    monkeypatch.setattr("clorg_scale.datasets.images.HASHED_BYTES", 0)  # as if there were too many to read
    before = digest(first)
    assert before == digest(first)
    os.utime(first / "cat" / "1.png", ns=(1, 1))
    assert digest(first) != before
