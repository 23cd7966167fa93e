"""`embed` and the commands of training: what they resume, what they leave alone, what they refuse."""

import csv
import json
import os
import re
import signal
import subprocess

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from command_line import CONSOLE_SCRIPT, assert_one_sentence, run, tree
from fashion_images import FOLDER as FASHION
from PIL import Image
from small_networks import cut_off_after, flat, noise, save_images, small

import clorg_scale as cs
from clorg_scale import backbones
from clorg_scale.backbones.timing import duration
from clorg_scale.datasets import Images, load_images
from clorg_scale.errors import InputError

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TRAINING = {"method": "supervised", "epochs": 2, "batch_size": 8, "device": "cpu"}


# ---- embed: what is finished stays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [-1, 0, 2.5, True, "8", None])
def test_a_batch_size_that_is_none_leaves_a_finished_store_alone(tmp_path, batch_size):
    backbones.embed(flat(), noise(), out=tmp_path / "e", device="cpu")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="batch_size must be a whole number of 1 or more"):
        backbones.embed(flat(), noise(), out=tmp_path / "e", device="cpu", batch_size=batch_size)
    assert tree(tmp_path) == before
    assert backbones.embed(flat(), noise(), out=tmp_path / "n", device="cpu", batch_size=np.int64(5)).embeddings.shape


@pytest.mark.parametrize("finished", [True, False])
def test_an_image_that_cannot_be_read_leaves_a_finished_store_alone(tmp_path, finished):
    images = load_images(str(save_images(tmp_path / "train").parent), "train", image_size=8)
    if finished:
        backbones.embed(flat(), images, out=tmp_path / "e", device="cpu")
    (tmp_path / "train" / "dog" / "2.png").write_bytes(b"no image")
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r"dog/2\.png cannot be read"):
        backbones.embed(flat(), images, out=tmp_path / "e", device="cpu", batch_size=2)
    assert tree(tmp_path) == before


def test_embeddings_that_are_not_finite_leave_a_finished_store_alone(tmp_path):
    class Huge(torch.nn.Module):
        def forward(self, images):
            return images.flatten(1) * 1e6

    backbones.embed(flat(), noise(), out=tmp_path / "e", device="cpu")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="not finite in float16"):
        backbones.embed(Huge(), noise(), out=tmp_path / "e", device="cpu", batch_size=4)
    assert tree(tmp_path) == before


def test_a_store_without_rows_replaces_nothing(tmp_path):
    cs.save_embeddings(tmp_path / "e", np.eye(3), [0, 1, 2])
    before = tree(tmp_path)
    with cs.store.EmbeddingsWriter(tmp_path / "e", 3, np.float64) as writer:
        with pytest.raises(InputError, match="No embeddings were written"):
            writer.finish()
        writer.discard()
    assert tree(tmp_path) == before


# ---- embed: what is resumed ----------------------------------------------------------------------------------------


def interrupted(out, images, model=None, **options):
    """Embed 16 images, then stop."""
    model, handle = cut_off_after(model or flat(), 3)
    with pytest.raises(KeyboardInterrupt):
        backbones.embed(model, images, out=out, device="cpu", batch_size=8, **options)
    handle.remove()
    assert json.loads((out / "progress.json").read_text())["rows"] == 16


def assert_as_from_scratch(tmp_path, images, model=None, **options):
    again = backbones.embed(model or flat(), images, out=tmp_path / "e", device="cpu", batch_size=8, **options)
    whole = backbones.embed(model or flat(), images, out=tmp_path / "w", device="cpu", batch_size=8, **options)
    np.testing.assert_array_equal(again.embeddings, whole.embeddings)
    np.testing.assert_array_equal(again.labels, whole.labels)
    assert again.metadata == whole.metadata


@pytest.mark.parametrize("changed", ["pixels", "labels", "classes", "size"])
def test_other_images_of_the_same_name_are_not_continued(tmp_path, changed):
    images = noise()
    interrupted(tmp_path / "e", images)
    others = {
        "pixels": noise(seed=1),
        "labels": Images(images.pixels, images.labels[::-1].copy(), images.classes, images.name),
        "classes": Images(images.pixels, images.labels, ["c", "b", "a"], images.name),
        "size": noise(size=16),
    }
    assert_as_from_scratch(tmp_path, others[changed])


@pytest.mark.parametrize("changed", ["size", "folder", "contents"])
def test_other_files_of_the_same_folder_name_are_not_continued(tmp_path, changed):
    for place, seed in (("a", 0), ("b", 1)):
        save_images(tmp_path / place / "images" / "train", n=10, seed=seed)
    load = {"size": ("a", 12), "folder": ("b", 8), "contents": ("a", 8)}[changed]
    interrupted(tmp_path / "e", load_images(str(tmp_path / "a" / "images"), image_size=8))
    if changed == "contents":
        Image.new("RGB", (9, 9), "red").save(tmp_path / "a" / "images" / "train" / "cat" / "3.png")
    images = load_images(str(tmp_path / load[0] / "images"), image_size=load[1])
    assert_as_from_scratch(tmp_path, images)


@pytest.mark.parametrize("changed", ["model", "normalize", "dtype"])
def test_another_network_or_setting_is_not_continued(tmp_path, changed):
    interrupted(tmp_path / "e", noise())
    other = torch.nn.Sequential(torch.nn.AdaptiveMaxPool2d((8, 1)), torch.nn.Flatten())  # no weights either
    model, options = {
        "model": (other, {}),
        "normalize": (None, {"normalize": True}),
        "dtype": (None, {"dtype": "float32"}),
    }[changed]
    assert_as_from_scratch(tmp_path, noise(), model, **options)


def test_the_same_is_continued(tmp_path):
    interrupted(tmp_path / "e", noise())
    model, handle = cut_off_after(flat(), 2)  # the width and the batch that was missing
    stored = backbones.embed(model, noise(), out=tmp_path / "e", device="cpu", batch_size=8)
    handle.remove()
    whole = backbones.embed(flat(), noise(), out=tmp_path / "w", device="cpu")
    np.testing.assert_array_equal(stored.embeddings, whole.embeddings)
    assert stored.class_names == ["a", "b", "c"]


@pytest.mark.parametrize("change", ["contents", "time", "removed", "two"])
def test_images_that_change_while_they_are_embedded_leave_no_embeddings(tmp_path, change):
    images = load_images(str(save_images(tmp_path / "images" / "train", n=10).parent), image_size=8)
    out = tmp_path / "out"
    backbones.embed(flat(), images, out=out, device="cpu")
    before = tree(out)
    cat = tmp_path / "images" / "train" / "cat"
    model, n_batches = flat(), 0

    def overwrite(*_):
        nonlocal n_batches
        n_batches += 1
        if n_batches == 3:  # the first one is for the width
            if change == "removed":
                (cat / "0.png").unlink()
            elif change == "time":
                os.utime(cat / "0.png", ns=(1, 1))
            else:
                save_images(cat.parent, n=2 if change == "two" else 1, names=["cat"], seed=1)

    handle = model.register_forward_pre_hook(overwrite)
    sentence = {
        "two": r"^2 images were written to or removed .*cat/0\.png and 1 more\)",
    }.get(change, r"^1 image was written to or removed .*cat/0\.png\)")
    with pytest.raises(InputError, match=sentence):
        backbones.embed(model, images, out=out, device="cpu", batch_size=4, dtype="float32")
    handle.remove()
    assert tree(out) == before


def test_no_rows_of_images_that_changed_are_kept_for_a_later_run(tmp_path):
    """An interrupted run, and an image that is put back as it was afterward."""
    images = load_images(str(save_images(tmp_path / "images" / "train", n=10).parent), image_size=8)
    first = tmp_path / "images" / "train" / "cat" / "0.png"
    original = first.read_bytes()
    model, handle = cut_off_after(flat(), 3)

    def overwrite(*_):
        save_images(first.parents[1], n=1, names=["cat"], seed=1)

    watched = model.register_forward_pre_hook(overwrite)
    with pytest.raises(KeyboardInterrupt):
        backbones.embed(model, images, out=tmp_path / "out", device="cpu", batch_size=4)
    handle.remove()
    watched.remove()
    assert not (tmp_path / "out").exists()
    first.write_bytes(original)
    stored = backbones.embed(flat(), images, out=tmp_path / "out", device="cpu", batch_size=4)
    whole = backbones.embed(flat(), images, out=tmp_path / "w", device="cpu")
    np.testing.assert_array_equal(stored.embeddings, whole.embeddings)


def test_pixels_in_a_mapped_file_are_watched_too(tmp_path):
    plain = noise()
    np.save(tmp_path / "x.npy", plain.pixels)
    pixels = np.load(tmp_path / "x.npy", mmap_mode="r")
    images = Images(pixels, plain.labels, plain.classes, "mapped")
    assert backbones.embed(flat(), images, out=tmp_path / "before", device="cpu").embeddings.shape == (24, 8)
    model = flat()
    model.register_forward_pre_hook(lambda *_: np.lib.format.open_memmap(tmp_path / "x.npy", "r+").fill(3))
    with pytest.raises(InputError, match=r"images of mapped in .*x\.npy were written to"):
        backbones.embed(model, images, out=tmp_path / "e", device="cpu")
    assert not (tmp_path / "e").exists()


# ---- the command line ----------------------------------------------------------------------------------------------


def test_a_training_says_early_how_long_it_takes(trained):
    root, done = trained
    lines = [line for line in done.err.splitlines() if line.startswith("Estimated time: about")]
    assert len(lines) == 1
    assert "for 2 epochs of 2 steps" in lines[0]
    with (root / "t" / "log.csv").open() as file:
        left = [float(row["remaining_seconds"]) for row in csv.DictReader(file)]
    assert left[0] > left[1] == 0
    assert " left" in done.out.splitlines()[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--width", 16), id="contrastive"),
        pytest.param(("--method", "supervised", "--width", 4, "--stem", "strided"), id="narrow"),
    ],
)
def test_a_training_on_a_cpu_can_be_given_up_after_its_estimate(tmp_path, options):
    """The default batch size and number of epochs: long before the first epoch ends, it is said how long all take."""
    command = ["train", "--device", "cpu", "--root", FASHION, "--measure-every", 0, "--out", tmp_path / "t", *options]
    process = subprocess.Popen(
        [*CONSOLE_SCRIPT, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        told = next(line for line in process.stderr if line.startswith("Estimated time"))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    found = re.fullmatch(
        r"Estimated time: about ([\d.]+) (second|minute|hour|day)s? for 200 epochs of 11 steps, (\S+) s each, "
        r"without measurements(; a narrower network \(width 16\), .* or a GPU take less)?\.\n",
        told,
    )
    assert found, told
    seconds = float(found[1]) * {"second": 1, "minute": 60, "hour": 3600, "day": 86400}[found[2]]
    assert seconds == pytest.approx(200 * 11 * float(found[3]), rel=0.1)
    assert bool(found[4]) == (seconds > 3600)
    assert process.returncode == 130
    assert err.endswith("Interrupted; completed work is kept, run the same command again to continue.\n")
    assert "Traceback" not in err
    assert out.count("epoch") <= 1
    left = tree(tmp_path)
    assert left == {} or set(left) == {"t", "t/checkpoint.pt"}


def test_the_estimate_does_not_wait_for_the_end_of_an_epoch(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("clorg_scale.backbones.timing.FORECAST_STEPS", 1)
    seen = []

    class Watched(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = small()
            self.n_features, self.settings = self.network.n_features, self.network.settings

        def forward(self, images):
            seen.append(capsys.readouterr().err)
            return self.network(images)

    backbones.train(noise(64), Watched(), progress=True, **TRAINING)
    assert ["Estimated time" in text for text in seen[:4]] == [False, False, True, False]
    assert seen[2].count("8 steps") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (40, "40 seconds"),
        (210, "3.5 minutes"),
        (1.2, "1 second"),
        (6300, "1.8 hours"),
        (40_000, "11 hours"),
        (1e6, "12 days"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_embedding_on_the_command_line_is_checked_before_anything_is_touched(trained, tmp_path):
    root, _ = trained
    command = (
        "embed",
        "--checkpoint",
        root / "t",
        "--data",
        root / "images",
        "--device",
        "cpu",
        "--out",
        tmp_path / "e",
    )
    assert run(*command).code == 0
    stored = cs.load_embeddings(tmp_path / "e")
    assert stored.metadata["class_names"] == stored.class_names == ["cat", "dog"]
    before = tree(tmp_path)
    for wrong in (("--batch-size", -1), ("--batch-size", 0), ("--dtype", "int8"), ("--first", 0), ("--device", "tpu")):
        assert_one_sentence(run(*command, *wrong))
        assert tree(tmp_path) == before


def test_the_command_says_that_images_changed(trained, tmp_path, monkeypatch):
    root, _ = trained
    for split in ("train", "test"):
        save_images(tmp_path / "images" / split, n=10)
    load = load_images

    def load_and_watch(*arguments, **options):
        images = load(*arguments, **options)
        read = type(images).batch

        def batch(self, rows):
            save_images(tmp_path / "images" / "test", n=1, names=["dog"], seed=5)
            return read(self, rows)

        monkeypatch.setattr(type(images), "batch", batch)
        return images

    monkeypatch.setattr("clorg_scale.datasets.load_images", load_and_watch)
    done = run(
        "embed", "--checkpoint", root / "t", "--data", tmp_path / "images", "--device", "cpu", "--out", tmp_path / "e"
    )
    assert_one_sentence(done, "1 image was written to or removed", "dog/0.png", "run this again")
    assert not (tmp_path / "e").exists()


def test_unreadable_images_are_left_out_on_request(trained, tmp_path):
    root, _ = trained
    images = tmp_path / "images"
    for split in ("train", "test"):
        save_images(images / split, n=10, seed=len(split))
    bad = images / "test" / "cat" / "3.png"
    bad.write_bytes(bad.read_bytes()[:100])
    worse = images / "train" / "dog" / "0.png"
    worse.write_bytes(b"")
    embed = ("embed", "--checkpoint", root / "t", "--data", images, "--device", "cpu", "--out", tmp_path / "e")
    settings = ("--method=supervised", "--width=2", "--image-size=16", "--epochs=1", "--batch-size=19")
    train = ("train", *settings, "--measure-every=0", "--device=cpu", "--data", images, "--out", tmp_path / "t")
    before = tree(tmp_path)
    for command, image in ((embed, bad), (train, worse)):
        refused = run(*command)
        assert refused.code == 2
        last = refused.err.splitlines()[-1]
        assert last.startswith(f"error: The image {image} cannot be read (")
        assert "--skip-unreadable" in last
    assert tree(tmp_path) == before
    done = run(*embed, "--skip-unreadable")
    assert done.code == 0, done.err
    assert "Left out 1 image that cannot be read:" in done.err
    assert str(bad) in done.err
    stored = cs.load_embeddings(tmp_path / "e")
    assert stored.labels.tolist() == [0] * 9 + [1] * 10
    assert stored.metadata["skipped"] == [str(bad)]
    done = run(*train, "--skip-unreadable")
    assert done.code == 0, done.err
    assert str(worse) in done.err
    _, settings = backbones.load_backbone(tmp_path / "t")
    assert (settings["n_images"], settings["skipped"]) == (19, [str(worse)])


def test_a_folder_without_splits_is_told_by_every_command(trained, tmp_path):
    root, _ = trained
    images = save_images(tmp_path / "images", n=24)
    done = run("embed", "--checkpoint", root / "t", "--data", images, "--device", "cpu", "--out", tmp_path / "e")
    assert done.code == 0
    assert "its test images are its training images" in done.err
    assert cs.load_embeddings(tmp_path / "e").metadata["split"] == "all"
