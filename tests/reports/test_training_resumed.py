"""`train` and studies of trainings: what they resume, what they leave alone, what they say of files that do not fit."""

import json
import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from command_line import assert_one_sentence, run, tree
from small_networks import noise, save_images, small

from clorg_scale import backbones
from clorg_scale.datasets import Images, load_images
from clorg_scale.errors import InputError
from clorg_scale.studies.trainings import Setting, study_trainings

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TRAINING = {"method": "supervised", "epochs": 2, "batch_size": 8, "device": "cpu"}


# ---- training ------------------------------------------------------------------------------------------------------


def colors(n=24):
    rng = np.random.default_rng(0)
    return Images(rng.integers(0, 255, (n, 3, 8, 8)).astype(np.uint8), np.arange(n) % 3, ["a", "b", "c"], "colors")


@pytest.mark.parametrize(
    ("images", "options"),
    [
        (colors(), {}),
        (noise(), {"learning_rate": 1e30}),
        (noise(), {"batch_size": 25}),
        (noise(), {"batch_size": 2.5}),
        (noise(), {"epochs": 1.5}),
        (noise(), {"strength": 3}),
    ],
)
def test_a_refused_training_leaves_no_folder(tmp_path, images, options):
    with pytest.raises(InputError):
        backbones.train(images, small(), out=tmp_path / "new" / "t", **TRAINING | options)
    assert tree(tmp_path) == {}
    (tmp_path / "own").mkdir()
    with pytest.raises(InputError):
        backbones.train(images, small(), out=tmp_path / "own", **TRAINING | options)
    assert tree(tmp_path) == {"own": None}


@pytest.mark.parametrize("changed", ["pixels", "labels", "size"])
def test_a_training_on_other_images_is_not_continued(tmp_path, changed):
    backbones.train(noise(), small(), out=tmp_path, **TRAINING)
    before = tree(tmp_path)
    images = noise()
    others, sentence = {
        "pixels": (noise(seed=1), "a training on other images, of the same name and number"),
        "labels": (Images(images.pixels, (images.labels + 1) % 3, images.classes, images.name), "training on"),
        "size": (noise(size=16), "image_size = 8, not 16"),
    }[changed]
    with pytest.raises(InputError, match=sentence):
        backbones.train(others, small(), out=tmp_path, **TRAINING)
    assert tree(tmp_path) == before


def test_published_weights_are_a_setting():
    """A training that began with them is not continued by one that did not."""
    assert "pretrained" not in backbones.build("mobilenet_v3_small", image_size=32).settings
    settings = backbones.build("mobilenet_v3_small", image_size=32).settings | {"pretrained": True}
    assert backbones.architectures.rebuild(settings).settings == settings


def test_a_training_that_starts_again_replaces_the_old_one_when_it_is_whole(tmp_path):
    backbones.train(noise(), small(), out=tmp_path, **TRAINING)
    before = tree(tmp_path)

    def stop(_, epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    other = TRAINING | {"seed": 1}
    with pytest.raises(KeyboardInterrupt):
        backbones.train(noise(), small(), out=tmp_path, resume=False, on_epoch=stop, **other)
    left = tree(tmp_path)
    assert left.pop("checkpoint-unfinished.pt")
    assert left == before
    seen = []
    backbones.train(noise(), small(), out=tmp_path, on_epoch=lambda _, epoch: seen.append(epoch.epoch), **other)
    assert seen == [2]
    assert set(tree(tmp_path)) == {"checkpoint.pt", "log.csv"}
    assert backbones.load_backbone(tmp_path)[1]["seed"] == 1


def changed_checkpoint(folder, change):
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    torch.save(change(state), folder / "checkpoint.pt")


def prefixed(state, prefix):
    for part in ("backbone", "method"):
        state[part] = {prefix + name: value for name, value in state[part].items()}
    return state


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_weights_that_were_saved_from_a_wrapper_are_read(tmp_path, prefix):
    network = backbones.train(noise(), small(), out=tmp_path, **TRAINING)
    changed_checkpoint(tmp_path, lambda state: prefixed(state, prefix))
    for layer in ("backbone", "projection"):
        loaded, _ = backbones.load_backbone(tmp_path, layer=layer)
        weights = loaded.state_dict() if layer == "backbone" else loaded[0].state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def without(key):
    return lambda state: state | {"settings": {k: v for k, v in state["settings"].items() if k != key}}


def of_width(width):
    def change(state):
        state["settings"]["backbone"]["width"] = width
        return state

    return change


def of_name(name):
    def change(state):
        state["settings"]["backbone"]["name"] = name
        return state

    return change


MISFITS = {
    "another width": (of_width(4), "do not fit the network of its settings"),
    "no width": (of_width(None), "do not fit"),
    "a width of text": (of_width("wide"), "do not fit"),
    "no backbone": (without("backbone"), "lack 'backbone'"),
    "no name": (lambda state: state | {"settings": {"backbone": {"image_size": 8, "n_channels": 1}}}, "lack 'name'"),
    "another name": (of_name("x"), "does not fit its settings (There is no network 'x')"),
    "settings of text": (lambda state: state | {"settings": "none"}, "has no settings"),
    "a log that is none": (lambda state: state | {"log": 3}, "has no log"),
    "weights alone": (lambda state: state["backbone"], "has no settings"),
    "a part of the weights": (lambda s: s | {"backbone": dict(list(s["backbone"].items())[3:])}, "do not fit"),
    "a list": (lambda _: [1, 2], "has no settings"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_checkpoints_that_do_not_fit_get_a_sentence(trained, tmp_path, kind):
    root, _ = trained
    change, sentence = MISFITS[kind]
    backbones.train(noise(), small(), out=tmp_path / "t", **TRAINING)
    changed_checkpoint(tmp_path / "t", change)
    command = ("embed", "--checkpoint", tmp_path / "t", "--data", root / "images", "--device", "cpu")
    before = tree(tmp_path)
    assert_one_sentence(run(*command, "--out", tmp_path / "e"), str(tmp_path / "t" / "checkpoint.pt"), sentence)
    with pytest.raises(InputError):
        backbones.train(noise(), small(), out=tmp_path / "t", **TRAINING | {"epochs": 3})
    assert tree(tmp_path) == before


@pytest.mark.parametrize("key", ["method", "classes", "n_images"])
def test_settings_that_the_projection_needs(tmp_path, key):
    backbones.train(noise(), small(), out=tmp_path, **TRAINING)
    changed_checkpoint(tmp_path, without(key))
    with pytest.raises(InputError, match=f"lack '{key}'"):
        backbones.load_backbone(tmp_path, layer="projection")


def test_measures_of_other_images_are_not_continued(tmp_path):
    (tmp_path / "measures.csv").write_text("epoch,n_images,loss\n1,40,0.5\n")
    with pytest.raises(InputError, match="measures of 40 images, not of 60"):
        backbones.Recorder(noise(60), out=tmp_path)
    (tmp_path / "measures.csv").unlink()
    recorder = backbones.Recorder(noise(60), out=tmp_path)
    backbones.train(noise(), small(), out=tmp_path, on_epoch=recorder, **TRAINING)
    assert backbones.Recorder(noise(60), out=tmp_path).rows[-1]["epoch"] == 1
    with pytest.raises(InputError, match="measures of as many, but other, images"):
        backbones.Recorder(noise(60, seed=1), out=tmp_path)
    one_class = Images(noise(60).pixels, np.zeros(60, np.int64), ["a"], "one")
    with pytest.raises(InputError, match="all belong to one class"):
        backbones.Recorder(one_class, out=tmp_path / "new")


# ---- images that change meanwhile ----------------------------------------------------------------------------------


def folder_of_images(root):
    return load_images(str(save_images(root / "images" / "train", n=10).parent), image_size=8)


def colored():
    return backbones.build("resnet18", n_channels=3, image_size=8, width=2)


@pytest.mark.parametrize("change", ["contents", "time", "removed"])
@pytest.mark.parametrize("after", [0, 1])
def test_no_epoch_on_images_that_changed_is_kept(tmp_path, monkeypatch, change, after):
    """Changed after `after` whole epochs: their checkpoint stays, and is continued once all is as it was."""
    images = folder_of_images(tmp_path)
    first = tmp_path / "images" / "train" / "cat" / "0.png"
    original, state = first.read_bytes(), first.stat()
    whole = backbones.train(images, colored(), **TRAINING).state_dict()
    read, batches = type(images).batch, []

    def batch(self, rows):
        batches.append(rows)
        if len(batches) == 2 * after + 1:
            if change == "removed":
                first.unlink()
            elif change == "time":
                os.utime(first, ns=(1, 1))
            else:
                save_images(first.parents[1], n=1, names=["cat"], seed=1)
        return read(self, rows)

    out, measured = tmp_path / "t", []
    with monkeypatch.context() as patched:
        patched.setattr(type(images), "batch", batch)
        sentence = r"^1 image was written to or removed while the images were trained on \(.*0\.png\); the epoch is not"
        with pytest.raises(InputError, match=sentence):
            backbones.train(images, colored(), out=out, on_epoch=lambda _, e: measured.append(e.epoch), **TRAINING)
    assert len(measured) == after
    assert out.exists() == bool(after)
    first.write_bytes(original)
    os.utime(first, ns=(state.st_atime_ns, state.st_mtime_ns))
    resumed = backbones.train(images, colored(), out=out, **TRAINING).state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_pixels_in_a_mapped_file_are_watched_too(tmp_path):
    plain = noise()
    np.save(tmp_path / "x.npy", plain.pixels)
    images = Images(np.load(tmp_path / "x.npy", mmap_mode="r"), plain.labels, plain.classes, "mapped")

    def overwrite(*_):
        np.lib.format.open_memmap(tmp_path / "x.npy", "r+")[:] = 3

    with pytest.raises(InputError, match=r"images of mapped in .*x\.npy were written to"):
        backbones.train(images, small(), out=tmp_path / "t", on_epoch=overwrite, **TRAINING)


def test_measures_of_images_that_changed_are_not_kept(tmp_path):
    plain = noise(60)
    np.save(tmp_path / "x.npy", plain.pixels)
    images = Images(np.load(tmp_path / "x.npy", mmap_mode="r"), plain.labels, plain.classes, "mapped")
    recorder = backbones.Recorder(images, out=tmp_path / "t", every=1)

    def measure(backbone, epoch):
        if epoch.epoch == 2:
            np.lib.format.open_memmap(tmp_path / "x.npy", "r+")[:] = 3
        recorder(backbone, epoch)

    with pytest.raises(InputError, match=r"images of mapped in .*x\.npy were written to"):
        backbones.train(noise(), small(), out=tmp_path / "t", on_epoch=measure, **TRAINING)
    assert [row["epoch"] for row in recorder.rows] == [1]
    assert len((tmp_path / "t" / "measures.csv").read_text().splitlines()) == 2


# ---- studies -------------------------------------------------------------------------------------------------------


def test_a_study_trains_again_on_other_images_and_keeps_its_rows_until_it_is_whole(tmp_path, monkeypatch):
    trained, data = [], {}
    monkeypatch.setattr("clorg_scale.studies.trainings.load_images", lambda name, split: data[name])
    monkeypatch.setattr(
        "clorg_scale.studies.trainings._trained_and_measured",
        lambda setting, name, *_: trained.append(name) or {"training": name, "seed": setting.seed},
    )
    monkeypatch.setattr("clorg_scale.studies.trainings._plot", lambda *_: "")
    data |= {"a/b": noise(), "a_b": noise()}

    def study(*settings, report=lambda _: None):
        study_trainings(settings, vary="seed", out=tmp_path, device="cpu", report=report)
        return rows()

    def rows():
        return [row["training"] for row in json.loads((tmp_path / "table.json").read_text())]

    rates = [Setting(data="a/b", width=2, learning_rate=rate) for rate in (0.1, 0.1 + 1e-9)]
    assert len(set(study(*rates))) == 2
    trained.clear()
    settings = Setting(data="a/b", width=2), Setting(data="a_b", width=2)
    first = study(*settings)
    assert len(set(first)) == len(trained) == 2  # though their names look alike in a file name
    assert study(*settings) == first
    assert len(trained) == 2
    trained.clear()
    data["a/b"] = noise(seed=1)
    during = []
    again = study(*settings, report=lambda _: during.append(rows()))
    assert trained == again[:1]
    assert again[0] != first[0]
    assert again[1] == first[1]
    assert during == [first, [again[0], *first]]  # nothing that was there is lost while it goes on
