"""Training: it resumes to the last bit, measures on the way, and refuses what does not fit."""

import csv
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from small_backbones import shapes, small

import clorg_scale as cs
from clorg_scale import backbones
from clorg_scale.backbones.methods import METHODS
from clorg_scale.errors import InputError


@pytest.mark.parametrize(
    "method", [m if m in ("supervised", "simclr", "moco") else pytest.param(m, marks=pytest.mark.slow) for m in METHODS]
)
def test_a_training_cut_off_ends_with_the_same_weights(method, tmp_path, monkeypatch):
    if method != "supervised":
        pytest.importorskip("lightly")
    options = {"method": method, "epochs": 3, "batch_size": 48, "device": "cpu", "seed": 3}
    whole = backbones.train(shapes(96), small(), **options)

    def killed(_, epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backbones.train(shapes(96), small(), out=tmp_path, on_epoch=killed, **options)
    seen = []
    resumed = backbones.train(
        shapes(96), small(9), out=tmp_path, on_epoch=lambda _, epoch: seen.append(epoch.epoch), **options
    )
    assert seen == [2, 3]
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name
    with (tmp_path / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    loaded, settings = backbones.load_backbone(tmp_path)
    assert settings["method"] == method
    assert settings["epochs_done"] == 3
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, loaded.state_dict()[name]), name


def test_a_recorder_measures_what_the_embeddings_are_and_leaves_the_training_alone(tmp_path):
    options = {"method": "supervised", "epochs": 5, "batch_size": 48, "learning_rate": 3e-3, "device": "cpu"}
    unseen = shapes(n=150, seed=5)
    plain = backbones.train(shapes(), small(), **options)

    def recorder(folder):
        return backbones.Recorder(unseen, out=tmp_path / folder, every=2, epochs=5)

    whole = recorder("whole")
    measured = backbones.train(shapes(), small(), on_epoch=whole, **options)
    assert torch.get_num_threads() == 1
    for name, weights in plain.state_dict().items():
        assert torch.equal(weights, measured.state_dict()[name]), name
    assert [row["epoch"] for row in whole.rows] == [1, 2, 4, 5]
    with torch.inference_mode():
        embeddings = measured(torch.from_numpy(unseen.pixels).float() / 255).numpy()
    last = whole.rows[-1]
    expected = cs.rld(embeddings, unseen.labels, temperatures=(0.1,), method="exact").values[0]
    assert last["rld_0.1"] == pytest.approx(expected, abs=1e-5)
    assert last["chi_10"] == pytest.approx(
        cs.class_homogeneity(cs.knn(embeddings, 10, metric="cosine"), unseen.labels, ks=[10])[10], abs=1e-3
    )
    assert last["calinski_harabasz"] == pytest.approx(cs.calinski_harabasz(embeddings, unseen.labels), rel=1e-3)
    assert last["knn_accuracy"] > 0.5
    page = (tmp_path / "whole" / "measures.html").read_text()
    (panels,) = re.findall(r'id="data">(.*?)</script>', page)
    assert [len(panel["curves"]) for panel in json.loads(panels)["panels"]] == [4, 3, 1, 1]
    assert json.loads(panels)["panels"][3]["curves"][""] == [row["calinski_harabasz"] for row in whole.rows]

    def cut_off(backbone, epoch):
        first(backbone, epoch)
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    first = recorder("parts")
    with pytest.raises(KeyboardInterrupt):
        backbones.train(shapes(), small(), out=tmp_path / "parts", on_epoch=cut_off, **options)
    backbones.train(shapes(), small(), out=tmp_path / "parts", on_epoch=recorder("parts"), **options)
    assert (tmp_path / "parts" / "measures.csv").read_text() == (tmp_path / "whole" / "measures.csv").read_text()


def test_events_for_tensorboard_are_those_of_the_log_and_the_measures(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = {"method": "supervised", "epochs": 3, "batch_size": 48, "device": "cpu", "checkpoint_every": 2}

    def stopped(backbone, epoch):
        events(backbone, epoch)
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    events = backbones.EventLog(tmp_path / "tensorboard")
    with pytest.raises(KeyboardInterrupt):
        backbones.train(shapes(), small(), out=tmp_path, on_epoch=stopped, **options)
    recorder = backbones.Recorder(shapes(n=150, seed=5), out=tmp_path, every=3, epochs=3)
    again = backbones.EventLog(tmp_path / "tensorboard", recorder)
    backbones.train(shapes(), small(), out=tmp_path, on_epoch=again, **options)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    with (tmp_path / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    scalars = found.Scalars("training/loss")
    assert [event.step for event in scalars] == [1, 2, 3]  # the third once, though it ran twice
    assert [event.value for event in scalars] == pytest.approx(losses, rel=1e-4)
    assert [event.step for event in found.Scalars("measures/rld_0.1")] == [3]
    assert found.Scalars("measures/rld_0.1")[0].value == pytest.approx(recorder.rows[-1]["rld_0.1"], rel=1e-5)


def test_measures_of_normalized_embeddings_are_those_of_unit_vectors(tmp_path):
    options = {"method": "supervised", "epochs": 1, "batch_size": 48, "learning_rate": 3e-3, "device": "cpu"}
    unseen = shapes(n=150, seed=5)
    recorder = backbones.Recorder(unseen, out=tmp_path, epochs=1, normalize=True)
    measured = backbones.train(shapes(), small(), on_epoch=recorder, **options)
    with torch.inference_mode():
        embeddings = measured(torch.from_numpy(unseen.pixels).float() / 255).numpy().astype(np.float64)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    (row,) = recorder.rows
    assert row["normalized"] == 1
    raw, expected = (cs.rld(X, unseen.labels, temperatures=(0.1, 1), method="exact").values for X in (embeddings, unit))
    assert [row["rld_0.1"], row["rld_1"]] == pytest.approx(expected, abs=1e-5)
    assert abs(raw - expected).max() > 1e-3  # lengths matter here
    assert row["calinski_harabasz"] == pytest.approx(cs.calinski_harabasz(unit, unseen.labels), rel=1e-3)
    assert "normalized embeddings" in (tmp_path / "measures.html").read_text()
    with pytest.raises(InputError, match="has measures of normalized embeddings, not of raw ones"):
        backbones.Recorder(unseen, out=tmp_path, epochs=1)


def test_a_recorder_refuses_what_it_cannot_measure(tmp_path):
    with pytest.raises(InputError, match="At least 40 images"):
        backbones.Recorder(shapes(n=20), out=tmp_path)
    (tmp_path / "measures.csv").write_text("epoch,loss\n1,much\n")
    with pytest.raises(InputError, match="not a table of measures"):
        backbones.Recorder(shapes(), out=tmp_path)


TWO_PROCESSES = """
import sys
import numpy as np, torch
from torch import nn
from clorg_scale import backbones
from clorg_scale.backbones.memory import memory_format
from clorg_scale.backbones.methods import build_method
from clorg_scale.backbones.processes import Processes
from clorg_scale.datasets import Images

rng = np.random.default_rng(0)
images = Images(rng.integers(0, 255, (64, 1, 8, 8)).astype(np.uint8), rng.integers(0, 3, 64), ["a", "b", "c"], "noise")
settings = {"name": "linear", "n_channels": 1, "image_size": 8}
torch.manual_seed(0)
backbone = backbones.Backbone(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), 4, settings, imagenet=False)
losses = []
backbones.train(images, backbone, method="supervised", epochs=2, batch_size=16, strength=0, device="cpu",
                on_epoch=lambda _, epoch: losses.append(epoch.loss), out=sys.argv[1])
contrastive = backbones.build("resnet18", n_channels=1, image_size=8, width=2)
backbones.train(images, contrastive, method="simclr", epochs=1, batch_size=16, device="cpu",
                out=sys.argv[1] + "/simclr")
gradients = {}
for name in ("simclr", "vicreg", "moco", "mocov3", "supervised"):
    torch.manual_seed(0)
    method = build_method(name, backbones.Backbone(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), 4, settings,
                          imagenet=False), n_classes=3, n_images=64)
    # Without batch norm, whose statistics are those of a process on a CPU.
    for head, width in (("projection", 4), ("prediction", 256)):
        if hasattr(method, head):
            last = [part for part in getattr(method, head).modules() if isinstance(part, nn.Linear)][-1]
            setattr(method, head, nn.Linear(width, last.out_features))
    if hasattr(method, "teacher"):
        method.teacher[1] = nn.Linear(4, method.projection.out_features).requires_grad_(False)
    processes = Processes("cpu")
    placed = processes.on_device(method)
    own = slice(processes.rank, None, processes.count)
    pixels = torch.from_numpy(images.pixels[:32]).float() / 255
    views = [pixels[own], pixels.flip(2)[own]][: method.n_views]
    for _ in range(2):  # the second time with what is in the queues
        loss = placed(views, torch.from_numpy(images.labels[:32])[own])
    loss.backward()
    gradients[name] = {key: value.grad for key, value in method.named_parameters() if value.grad is not None}
rank = 0 if losses else 1
torch.save({"gradients": gradients, "linear": backbone.state_dict(), "simclr": contrastive.network.fc.state_dict() |
            dict(contrastive.named_parameters()), "losses": losses}, f"{sys.argv[1]}/rank{rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path):
    """Without batch statistics and random views the mean gradient of two halves is the gradient of the batch."""
    pytest.importorskip("lightly")
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    one, two = tmp_path / "one", tmp_path / "two"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for command in ([str(script), str(one)], [*torchrun, str(script), str(two)]):
        done = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
    alone, first, second = (
        torch.load(path, weights_only=True) for path in (one / "rank0.pt", two / "rank0.pt", two / "rank1.pt")
    )
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    for name, weights in alone["linear"].items():
        torch.testing.assert_close(first["linear"][name], weights, rtol=1e-4, atol=1e-6)
    for method, gradients in alone["gradients"].items():
        assert len(gradients) >= 4, method
        for name, gradient in gradients.items():
            torch.testing.assert_close(
                first["gradients"][method][name], gradient, rtol=1e-3, atol=1e-6, msg=f"{method}: {name}"
            )
    for part in ("linear", "simclr"):
        for name, weights in first[part].items():
            assert torch.equal(weights, second[part][name]), name


def test_another_training_in_the_same_folder_is_refused(tmp_path):
    backbones.train(shapes(), small(), method="supervised", epochs=1, batch_size=64, out=tmp_path, device="cpu")
    with pytest.raises(InputError, match=r"batch_size = 64, not 32"):
        backbones.train(shapes(), small(), method="supervised", epochs=1, batch_size=32, out=tmp_path, device="cpu")
    (tmp_path / "checkpoint.pt").write_bytes(b"PK no")
    with pytest.raises(InputError, match="cannot be read"):
        backbones.load_backbone(tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "magic"}, "no training method"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1000}, "from 2 to 192 for 192 images"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"strength": -1}, "strength"),
        ({"learning_rate": 1e30}, "no longer finite"),
    ],
)
def test_settings_that_make_no_sense(options, sentence):
    settings = {"method": "supervised", "epochs": 2, "batch_size": 32, "device": "cpu"} | options
    with pytest.raises(InputError, match=sentence):
        backbones.train(shapes(), small(), **settings)
