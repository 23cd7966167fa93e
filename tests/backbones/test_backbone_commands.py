"""`train` and `embed` on the command line: from images to embeddings, mistakes, a training that is killed."""

import importlib.util
import os
import shutil
import subprocess

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from command_line import CONSOLE_SCRIPT, assert_one_sentence, run, tree
from small_backbones import save_images

import clorg_scale as cs
from clorg_scale import backbones
from clorg_scale.datasets import load_images


def test_the_command_line_from_images_to_embeddings(tmp_path):
    pytest.importorskip("lightly")
    for split, n in (("train", 24), ("val", 20)):
        save_images(tmp_path / "images" / split, n, seed=n)
    data = ("--data", tmp_path / "images", "--image-size", 16, "--device", "cpu")
    training = tmp_path / "training"
    network = ("--backbone", "resnet18", "--width", 4, "--stem", "strided")
    command = ("train", "--method", "simclr", *network, *data, "--batch-size", 16, "--out", training)
    logged = ("--tensorboard",) if importlib.util.find_spec("tensorboard") else ()
    done = run(*command, "--epochs", 2, "--measure-every", 1, "--keep-embeddings", *logged)
    assert done.code == 0, done.err
    assert f"clorg-scale track {training}" in done.out
    measured = (training / "measures.csv").read_text().splitlines()
    for row, kept in zip(measured[1:], sorted((training / "embeddings").iterdir()), strict=True):
        stored = cs.load_embeddings(kept)
        values = dict(zip(measured[0].split(","), row.split(","), strict=True))
        assert stored.metadata["epoch"] == float(values["epoch"])
        again = cs.rld(stored.embeddings, stored.labels, temperatures=(0.2,)).values[0]
        assert again == pytest.approx(float(values["rld_0.2"]), abs=0.005)  # in float16
    shutil.rmtree(training / "embeddings")
    assert len(list(training.glob("tensorboard/events*"))) == len(logged)
    shutil.rmtree(training / "tensorboard", ignore_errors=True)
    assert [line.split()[:2] for line in done.out.splitlines()[:2]] == [["epoch", "1"], ["epoch", "2"]]
    assert set(tree(training)) == {"checkpoint.pt", "log.csv", "measures.csv", "measures.html"}
    before = tree(training)
    assert_one_sentence(run(*command, "--epochs", 3), "epochs = 2, not 3")
    assert tree(training) == before

    out = tmp_path / "embeddings"
    done = run("embed", "--checkpoint", training, *data, "--split", "test", "--out", out)
    assert done.code == 0, done.err
    stored = cs.load_embeddings(out)
    assert (stored.embeddings.shape, stored.embeddings.dtype) == ((40, 32), np.float16)
    assert stored.labels.tolist() == [0] * 20 + [1] * 20
    assert stored.metadata["training"]["method"] == "simclr"
    assert stored.metadata["training"]["epochs_done"] == 2
    first = tmp_path / "first"
    done = run(
        "embed",
        "--checkpoint",
        training,
        *data,
        "--layer",
        "projection",
        "--first",
        5,
        "--normalize",
        "--dtype",
        "float32",
        "--out",
        first,
    )
    assert done.code == 0, done.err
    projected = cs.load_embeddings(first)
    assert projected.embeddings.shape == (5, 128)
    np.testing.assert_allclose(np.linalg.norm(projected.embeddings, axis=1), 1, atol=1e-5)


@pytest.fixture(scope="module")
def small_training(tmp_path_factory):
    """Folder of a training that every test may copy."""
    folder = tmp_path_factory.mktemp("trained")
    save_images(folder / "images" / "train", 24)
    images = load_images(str(folder / "images"), image_size=16)
    network = backbones.build("resnet18", image_size=16, width=4)
    settings = {"method": "supervised", "epochs": 1, "batch_size": 8, "device": "cpu"}
    backbones.train(images, network, out=folder / "training", **settings)
    return folder / "training"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("train", "--method", "magic"), "no training method"),
        (("train", "--backbone", "imaginary", "--width", "64"), "imaginary"),
        (("train", "--backbone", "alexnet", "--width", "64"), "alexnet does not take images of 16 pixels"),
        (("train", "--image-size", "0"), "image_size"),
        (("train", "--stem", "deep"), "stem"),
        (("train", "--width", "0"), "width"),
        (("train", "--batch-size", "1"), "batch_size"),
        (("train", "--data", "imaginary"), "no data set"),
        (("train", "--measure-every", "-1"), "every"),
        (("embed", "--checkpoint", "nowhere"), "no checkpoint"),
        (("embed", "--dtype", "int8"), "int8"),
        (("embed", "--layer", "head"), "'head'"),
        (("embed", "--split", "middle"), "middle"),
        (("embed", "--first", "0"), "images to take must be a whole number from 1"),
    ],
)
def test_mistakes_on_the_command_line_get_one_sentence_and_write_nothing(
    arguments, word, tmp_path, monkeypatch, small_training
):
    save_images(tmp_path / "images" / "train", 24)
    save_images(tmp_path / "images" / "test", 24)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    options = {"--data": "images", "--image-size": "16", "--out": "out", "--device": "cpu"}
    if arguments[0] == "train":
        options |= {"--method": "supervised", "--epochs": "1", "--batch-size": "8", "--width": "4"}
    elif "--checkpoint" not in arguments:
        shutil.copytree(small_training, "trained")
        options |= {"--checkpoint": "trained"}
        before = tree(tmp_path)
    options |= dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert_one_sentence(run(arguments[0], *(part for pair in options.items() for part in pair)), word)
    assert tree(tmp_path) == before


def test_layers_that_published_networks_do_not_have(tmp_path):
    outcome = run("embed", "--layer", "projection", "--data", tmp_path, "--out", tmp_path / "out")
    assert_one_sentence(outcome, "--layer projection needs a --checkpoint")


def test_images_are_embedded_in_the_size_they_were_trained_in(tmp_path):
    for split in ("train", "test"):
        save_images(tmp_path / "images" / split, 12)
    sized = ("--data", tmp_path / "images", "--device", "cpu")
    done = run(
        "train",
        "--method",
        "supervised",
        "--width",
        4,
        *sized,
        "--image-size",
        16,
        "--epochs",
        1,
        "--batch-size",
        8,
        "--measure-every",
        0,
        "--out",
        tmp_path / "trained",
    )
    assert done.code == 0, done.err
    done = run("embed", "--checkpoint", tmp_path / "trained", *sized, "--dtype", "float32", "--out", tmp_path / "e")
    assert done.code == 0, done.err
    network, _ = backbones.load_backbone(tmp_path / "trained")
    images = load_images(str(tmp_path / "images"), "test", image_size=16)
    expected = backbones.embed(network, images, out=tmp_path / "expected", dtype="float32", device="cpu")
    np.testing.assert_array_equal(cs.load_embeddings(tmp_path / "e").embeddings, expected.embeddings)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    save_images(tmp_path / "images", 24)
    command = [
        "train",
        "--method",
        "supervised",
        "--width",
        "4",
        "--data",
        str(tmp_path / "images"),
        "--image-size",
        "16",
        "--epochs",
        "6",
        "--batch-size",
        "12",
        "--measure-every",
        "0",
        "--seed",
        "5",
        "--device",
        "cpu",
        "--out",
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*command, whole).code == 0
    killed = [*CONSOLE_SCRIPT, *command, str(parts)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # as in this process: the order of sums is the same
    with subprocess.Popen(killed, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            if line.startswith("epoch    3"):
                process.kill()
                break
    assert 2 <= backbones.load_backbone(parts)[1]["epochs_done"] <= 3
    done = run(*command, parts)
    assert done.code == 0, done.err
    assert "epoch    2" not in done.out
    expected, found = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (whole, parts))
    for name, weights in expected["method"].items():
        assert torch.equal(weights, found["method"][name]), name
    assert [row["loss"] for row in expected["log"]] == [row["loss"] for row in found["log"]]
