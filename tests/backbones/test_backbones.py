"""Backbones: what they are built of, that they learn, resume to the last bit, and embed in order."""

import contextlib
import csv
import importlib.util
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import numba
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from command_line import CONSOLE_SCRIPT, assert_one_sentence, run, run_process, tree
from fashion_images import SHIPPED, first_images, has_all_images

import clorg_scale as cs
from clorg_scale import backbones
from clorg_scale.backbones.architectures import rebuild
from clorg_scale.backbones.augmentation import Augmentation, rotate_hue
from clorg_scale.backbones.losses import QueueContrast
from clorg_scale.backbones.memory import memory_format
from clorg_scale.backbones.methods import METHODS, build_method
from clorg_scale.datasets import Images, load_images
from clorg_scale.errors import InputError


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


def shapes(n=192, size=16, n_channels=1, seed=0):
    """Bars that lie, bars that stand, and squares: three classes that a few steps tell apart."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    pixels = rng.integers(0, 60, (n, n_channels, size, size)).astype(np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        y, x = rng.integers(1, size - 9, 2)
        height, width = ((3, 9), (9, 3), (6, 6))[label]
        image[:, y : y + height, x : x + width] += 150
    return Images(pixels, labels, ["lying", "standing", "square"], "shapes")


def small(seed=0, **options):
    return backbones.build("resnet18", n_channels=1, image_size=16, width=4, seed=seed, **options)


@pytest.mark.parametrize(
    ("name", "options", "n_features"),
    [
        ("resnet18", {"width": 8}, 64),
        ("resnet34", {"width": 8}, 64),
        ("resnet50", {"width": 8}, 256),
        ("resnet18", {"n_channels": 1, "image_size": 28}, 512),
        ("resnet18", {"image_size": 96, "width": 8}, 64),
        ("resnet18", {"width": 8, "stem": "strided"}, 64),
        ("vit", {}, 512),
        ("vit", {"n_channels": 1, "image_size": 28}, 512),
        ("mobilenet_v3_small", {"image_size": 64}, 1024),
        ("googlenet", {"image_size": 32}, 1024),  # gives two more outputs while it is trained
        ("squeezenet", {}, None),
    ],
)
def test_architectures(name, options, n_features):
    if n_features is None:
        with pytest.raises((InputError, cs.MissingDependencyError), match=name):
            backbones.build(name, **options)
        return
    network = backbones.build(name, **options)
    assert network.training
    size = options.get("image_size", 32)
    features = network(torch.rand(2, options.get("n_channels", 3), size, size))
    assert features.shape == (2, n_features) == (2, network.n_features)
    again = rebuild(network.settings)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}


def test_resnets_of_full_width_are_torchvisions_with_the_stem_of_cifar():
    from torchvision.models import resnet18, resnet101

    def n_parameters(network):
        return sum(p.numel() for p in network.parameters())

    stem = 64 * 3 * (49 - 9)
    assert n_parameters(backbones.build("resnet18")) == n_parameters(resnet18()) - stem - 513 * 1000
    assert n_parameters(backbones.build("resnet101")) == n_parameters(resnet101()) - stem - 2049 * 1000 + 2049 * 512
    vit = backbones.build("vit").network
    assert len(vit.encoder.layers) == 16
    assert vit.encoder.layers[0].num_heads == 8
    assert vit.encoder.layers[0].mlp[0].out_features == 1536
    assert vit.encoder.pos_embedding.shape == (1, 65, 512)
    assert {m.p for m in vit.modules() if isinstance(m, torch.nn.Dropout)} == {0.2}
    assert {m.dropout for m in vit.modules() if isinstance(m, torch.nn.MultiheadAttention)} == {0.2}


def test_a_model_of_timm_is_made_for_the_images_and_told_their_spread(monkeypatch):
    """A stand-in for timm: its architectures, those with tags of weights too, and what their weights expect."""

    def create_model(name, *, pretrained, num_classes, img_size=None):
        assert not pretrained
        assert num_classes == 0
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * (img_size or 16) ** 2, 5))
        network.num_features = 7  # of some models it is the width before their last layer
        return network

    def expected(name):
        return SimpleNamespace(fixed_input_size=name.startswith("vit"), mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))

    known = {"vit_tiny.augreg": 24, "mobilevit": 16}
    stand_in = SimpleNamespace(is_model=known.__contains__, get_pretrained_cfg=expected, create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    for name, size in known.items():
        network = backbones.build(name, image_size=size)
        images = torch.rand(2, 3, size, size)
        normalized = (images - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5
        torch.testing.assert_close(network(images), network.network(normalized))
        assert network.n_features == 5
    with pytest.raises(InputError, match="mobilevit does not take images of 32 pixels"):
        backbones.build("mobilevit", image_size=32)
    with pytest.raises(InputError, match="Neither torchvision nor timm"):
        backbones.build("resnext", image_size=32)


def test_gradients_of_a_narrow_resnet_are_those_without_onednn():
    """oneDNN's gradient of a narrow strided convolution writes past its buffer where channels lie innermost."""
    how = memory_format(torch.device("cpu"))
    images, gradients = torch.rand(8, 1, 16, 16).contiguous(memory_format=how), []
    for enabled in (True, False):
        network = small().to(memory_format=how)
        with torch.backends.mkldnn.flags(enabled=enabled):
            network(images).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))


def test_the_seed_decides_the_weights_and_nothing_else():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    a, b, c = (small(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["network.conv1.weight"], c["network.conv1.weight"])


def test_published_weights_are_taken_from_where_torch_keeps_them(tmp_path, monkeypatch):
    from torchvision.models import MobileNet_V3_Small_Weights, mobilenet_v3_small

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # a port where nobody listens
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(InputError, match="published weights of mobilenet_v3_small cannot be downloaded"):
        backbones.build("mobilenet_v3_small", pretrained=True)
    weights = mobilenet_v3_small().state_dict()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(weights, folder / MobileNet_V3_Small_Weights.DEFAULT.url.rpartition("/")[2])
    network = backbones.build("mobilenet_v3_small", pretrained=True).network
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    trained = backbones.train(
        shapes(n=32),
        backbones.build("mobilenet_v3_small", n_channels=1, image_size=16, pretrained=True),
        method="supervised",
        epochs=1,
        batch_size=16,
        out=tmp_path / "run",
        device="cpu",
    )
    loaded, _ = backbones.load_backbone(tmp_path / "run")
    images = torch.rand(4, 1, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), trained(images), rtol=0, atol=0)
    with pytest.raises(InputError, match="width"):
        backbones.build("resnet18", width=16, pretrained=True)
    with pytest.raises(InputError, match="no pretrained weights"):
        backbones.build("vit", pretrained=True)


def test_a_resnet_with_published_weights_stays_what_it_is(tmp_path, monkeypatch):
    """Not the one with the stem of CIFAR that goes by the same name."""
    from torchvision.models import ResNet50_Weights, resnet50

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(resnet50().state_dict(), folder / ResNet50_Weights.DEFAULT.url.rpartition("/")[2])
    network = backbones.build("resnet50", pretrained=True).eval()
    again = rebuild(network.settings).eval()
    again.load_state_dict(network.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        features = network(images)
        assert features.shape == (2, 2048)
        torch.testing.assert_close(again(images), features, rtol=0, atol=0)


def test_gray_images_go_into_networks_of_three_channels():
    network = backbones.build("mobilenet_v3_small", image_size=32).eval()
    gray = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(gray), network(gray.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("n_channels", [1, 3])
def test_each_image_has_views_of_its_own_and_the_generator_decides_them(n_channels):
    images = torch.rand(1, n_channels, 64, 64).expand(16, -1, -1, -1).contiguous()
    augment = Augmentation(1.0, blur=True)
    views = augment(images, torch.Generator().manual_seed(1))
    assert views.shape == images.shape
    assert views.min() >= 0
    assert views.max() <= 1
    flat = views.flatten(1)
    assert (torch.cdist(flat, flat) + 10 * torch.eye(16)).min() > 0.1
    torch.testing.assert_close(views, augment(images, torch.Generator().manual_seed(1)), rtol=0, atol=0)
    assert not torch.equal(views, augment(images, torch.Generator().manual_seed(2)))
    assert torch.equal(Augmentation(0)(images, torch.Generator()), images)


def test_a_crop_is_a_part_of_the_image_enlarged():
    """A horizontal ramp stays one under crop and flip: views are linear in x, no steeper than the image."""
    ramp = torch.linspace(0, 1, 32).expand(64, 1, 32, 32).contiguous()
    views = Augmentation(1.0)._crop_and_flip(ramp, torch.Generator().manual_seed(0))
    slope = views[:, 0, :, 1:] - views[:, 0, :, :-1]
    inner = slope[:, 4:-4, 4:-4]
    assert torch.allclose(inner, inner[:, :1, :1].expand_as(inner), atol=2e-3)
    steepness = inner[:, 0, 0].abs() * 31
    assert steepness.max() <= 1 + 1e-3
    assert steepness.min() < 0.7
    assert (inner[:, 0, 0] < 0).float().mean().item() == pytest.approx(0.5, abs=0.25)  # 64 coins: four sigma


def test_a_turn_of_the_hue_takes_one_color_to_the_next_and_leaves_grays():
    colors = torch.rand(2, 3, 4, 4)
    third = torch.full((2, 1, 1, 1), 2 * np.pi / 3)
    torch.testing.assert_close(rotate_hue(colors, third), colors.roll(1, dims=1))
    torch.testing.assert_close(rotate_hue(colors, 0 * third), colors)
    torch.testing.assert_close(rotate_hue(rotate_hue(colors, third / 5), -third / 5), colors)
    grays = torch.rand(2, 1, 4, 4).expand(-1, 3, -1, -1)
    torch.testing.assert_close(rotate_hue(grays, third / 7), grays)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_lowers_its_loss(method):
    if method != "supervised":
        pytest.importorskip("lightly")
    log = []
    backbones.train(
        shapes(),
        small(),
        method=method,
        epochs=6,
        batch_size=32,
        learning_rate=3e-3,
        device="cpu",
        on_epoch=lambda _, epoch: log.append(epoch),
    )
    assert [epoch.epoch for epoch in log] == [1, 2, 3, 4, 5, 6]
    first = 1 if method.startswith("moco") else 0  # queues start as noise or empty, which makes it easy
    assert log[-1].loss < log[first].loss
    assert all(epoch.images_per_second > 0 and 0 < epoch.augmentation < 1 for epoch in log)


def test_moco_v3_contrasts_with_the_keys_of_the_batch_and_of_those_before():
    rng = np.random.default_rng(0)
    loss, size, temperature = QueueContrast(6, 5, temperature=0.3), 6, 0.3
    kept = np.zeros((2, 0, 5))
    for _ in range(4):  # batches of 4 in queues of 6: from the second on, the oldest give way
        queries, keys = (rng.normal(size=(2, 4, 5)) for _ in range(2))
        found = float(loss(torch.from_numpy(queries).float(), torch.from_numpy(keys).float()))
        queries, keys = (z / np.linalg.norm(z, axis=2, keepdims=True) for z in (queries, keys))
        expected = []
        for view in range(2):
            for q, k in zip(queries[view], keys[view], strict=True):
                others = np.concatenate([keys[view], kept[view]])
                expected.append(-q @ k / temperature + np.log(np.exp(others @ q / temperature).sum()))
        assert found == pytest.approx(2 * temperature * np.mean(expected), rel=1e-5)
        kept = np.concatenate([kept, keys], axis=1)[:, -size:]


def test_teachers_learn_by_moving_only_and_see_the_other_view():
    pytest.importorskip("lightly")
    for name in ("moco", "mocov3", "byol", "dino"):
        method = build_method(name, small(), n_classes=3, n_images=64)
        views = [torch.rand(8, 1, 16, 16) for _ in range(2)]
        method(views, torch.zeros(8, dtype=torch.int64)).backward()
        assert all(parameter.grad is None for parameter in method.teacher.parameters())
        student = [*method.backbone.parameters(), *method.projection.parameters()]
        assert all(parameter.grad is not None for parameter in student if parameter.requires_grad)
        before = [parameter.clone() for parameter in method.teacher.parameters()]
        with torch.no_grad():
            for parameter in student:
                parameter.add_(1)
        method.after_step(0.0)
        for own, old, theirs in zip(method.teacher.parameters(), before, student, strict=True):
            torch.testing.assert_close(own, 0.99 * old + 0.01 * theirs)


@pytest.mark.parametrize("name", METHODS)
def test_losses_are_in_full_precision_where_the_network_is_not(name):
    if name != "supervised":
        pytest.importorskip("lightly")
    method = build_method(name, small(), n_classes=3, n_images=64)
    seen = []

    def look(_, arguments):
        tensors = [t for argument in arguments for t in (argument if isinstance(argument, list) else [argument])]
        seen.append({t.dtype for t in tensors if t.is_floating_point()} | {torch.is_autocast_enabled("cpu")})

    method.loss.register_forward_pre_hook(look)
    inner = []
    method.backbone.network.layer4.register_forward_hook(lambda _, __, output: inner.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        loss = method([torch.rand(8, 1, 16, 16) for _ in range(method.n_views)], torch.arange(8) % 3)
    assert set(inner) == {torch.bfloat16}
    assert seen
    assert all(found == {torch.float32, False} for found in seen)
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    "method", [m if m in ("supervised", "simclr", "moco") else pytest.param(m, marks=pytest.mark.slow) for m in METHODS]
)
def test_a_training_cut_off_ends_with_the_same_weights(method, tmp_path, monkeypatch):
    if method != "supervised":
        pytest.importorskip("lightly")
    options = {"method": method, "epochs": 3, "batch_size": 48, "device": "cpu", "seed": 3}
    whole = backbones.train(shapes(), small(), **options)

    def killed(_, epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backbones.train(shapes(), small(), out=tmp_path, on_epoch=killed, **options)
    seen = []
    resumed = backbones.train(
        shapes(), small(9), out=tmp_path, on_epoch=lambda _, epoch: seen.append(epoch.epoch), **options
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
    svg = (tmp_path / "whole" / "measures.svg").read_text()
    assert svg.count("<polyline") == 4 + 3 + 1 + 1
    ElementTree.fromstring(svg)

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


def test_a_recorder_refuses_what_it_cannot_measure(tmp_path):
    with pytest.raises(InputError, match="At least 40 images"):
        backbones.Recorder(shapes(n=20), out=tmp_path)
    (tmp_path / "measures.csv").write_text("epoch,loss\n1,much\n")
    with pytest.raises(InputError, match="no table of measures"):
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
    placed = processes.placed(method)
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


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_embeddings_keep_order_and_labels_and_are_those_of_the_network(dtype, tmp_path):
    images, network = shapes(n=100), small().eval()
    stored = backbones.embed(network, images, out=tmp_path / "e", dtype=dtype, batch_size=32, device="cpu")
    np.testing.assert_array_equal(stored.labels, images.labels)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images.pixels).float() / 255).numpy()
    np.testing.assert_allclose(stored.embeddings, expected, rtol=1e-2 if dtype == "float16" else 1e-4, atol=1e-3)
    unit = backbones.embed(network, images, out=tmp_path / "u", dtype=dtype, normalize=True, device="cpu")
    np.testing.assert_allclose(np.linalg.norm(unit.embeddings.astype(np.float64), axis=1), 1, atol=2e-3)


@pytest.mark.parametrize(("dtype", "mixed"), [("float16", True), ("float32", False)])
def test_a_gpu_embeds_in_the_precision_that_is_stored(dtype, mixed, tmp_path, monkeypatch):
    """The settings alone: a CPU that is called a GPU."""
    from clorg_scale.backbones import embedding

    seen = []
    monkeypatch.setattr(torch, "autocast", lambda *_, enabled: seen.append(enabled) or contextlib.nullcontext())
    monkeypatch.setattr(embedding, "to_pixels", lambda read, _: torch.from_numpy(read).float() / 255)
    monkeypatch.setattr(embedding, "resolve_torch_device", lambda _: "cuda")
    network = small().eval()
    monkeypatch.setattr(network, "to", lambda *_, **__: network)
    backbones.embed(network, shapes(n=8), out=tmp_path / "e", dtype=dtype, batch_size=4)
    assert seen[1:] == [mixed, mixed]  # the first image is for the width


def test_embedding_goes_on_where_it_was_cut_off(tmp_path):
    images, network = shapes(n=100), small().eval()

    class CutOff(torch.nn.Module):
        calls = 0

        def forward(self, x):
            CutOff.calls += 1
            if CutOff.calls == 4:
                raise KeyboardInterrupt
            return network(x)

    with pytest.raises(KeyboardInterrupt):
        backbones.embed(CutOff(), images, out=tmp_path / "e", batch_size=25, device="cpu")
    CutOff.calls = 4
    stored = backbones.embed(CutOff(), images, out=tmp_path / "e", batch_size=25, device="cpu")
    assert CutOff.calls == 4 + 1 + 2  # the width, and the two batches that were missing
    whole = backbones.embed(network, images, out=tmp_path / "w", batch_size=25, device="cpu")
    np.testing.assert_array_equal(stored.labels, whole.labels)
    np.testing.assert_allclose(stored.embeddings, whole.embeddings, rtol=2e-3, atol=1e-5)  # a bit of float16


def test_embedding_does_not_go_on_with_other_weights(tmp_path):
    images = shapes(n=100)
    batches = iter([None, None, None, KeyboardInterrupt])

    def stop(*_):
        if (error := next(batches)) is not None:
            raise error

    first = small(0).eval()
    first.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        backbones.embed(first, images, out=tmp_path / "e", batch_size=25, device="cpu")
    other = backbones.embed(small(1).eval(), images, out=tmp_path / "e", batch_size=25, device="cpu")
    whole = backbones.embed(small(1).eval(), images, out=tmp_path / "w", batch_size=25, device="cpu")
    np.testing.assert_array_equal(other.embeddings, whole.embeddings)


def save_images(root, n, seed=0):
    """Pictures of noise: 40 x 60 pixels, dogs brighter than cats."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for name, least in (("cat", 0), ("dog", 150)):
        folder = root / name
        folder.mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(least, least + 100, (40, 60, 3), dtype=np.uint8)).save(folder / f"{i}.png")


def test_folders_of_images(tmp_path):
    save_images(tmp_path / "train", 3)
    images = load_images(str(tmp_path), "train", image_size=32)
    assert (len(images), images.classes, images.n_channels, images.image_size) == (6, ["cat", "dog"], 3, 32)
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.batch(np.array([5, 0])).shape == (2, 3, 32, 32)
    assert len(images.first(2)) == 2
    assert images.spread(4).labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(images.spread(2).batch(np.array([1])), images.batch(np.array([3])))
    with pytest.raises(InputError, match="images to take must be a whole number from 1 to 6, not 7"):
        images.spread(7)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0\.png cannot be read"):
        images.batch(np.array([0]))
    with pytest.raises(InputError, match="no folder test or val"):
        load_images(str(tmp_path), "test")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_data_that_is_not_there_gets_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.delenv("CLORG_SCALE_DATA", raising=False)
    with pytest.raises(InputError, match="data folder"):
        load_images(name)
    with pytest.raises(InputError, match=rf"{name} is not in"):
        load_images(name, root=tmp_path)
    with pytest.raises(InputError, match="no data set"):
        load_images("imaginary")


def test_the_command_line_from_images_to_embeddings(tmp_path):
    pytest.importorskip("lightly")
    for split, n in (("train", 24), ("val", 20)):
        save_images(tmp_path / "images" / split, n, seed=n)
    data = ("--data", tmp_path / "images", "--image-size", 16, "--device", "cpu")
    training = tmp_path / "training"
    network = ("--backbone", "resnet18", "--width", 4, "--stem", "strided")
    command = ("train", "--method", "simclr", *network, *data, "--batch-size", 16, "--out", training)
    logged = ("--tensorboard",) if importlib.util.find_spec("tensorboard") else ()
    done = run(*command, "--epochs", 2, "--measure-every", 1, *logged)
    assert done.code == 0, done.err
    assert len(list(training.glob("tensorboard/events*"))) == len(logged)
    shutil.rmtree(training / "tensorboard", ignore_errors=True)
    assert [line.split()[:2] for line in done.out.splitlines()[:2]] == [["epoch", "1"], ["epoch", "2"]]
    assert set(tree(training)) == {"checkpoint.pt", "log.csv", "measures.csv", "measures.svg"}
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
def test_mistakes_on_the_command_line_get_one_sentence_and_write_nothing(arguments, word, tmp_path, monkeypatch):
    save_images(tmp_path / "images" / "train", 24)
    save_images(tmp_path / "images" / "test", 24)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    options = {"--data": "images", "--image-size": "16", "--out": "out", "--device": "cpu"}
    if arguments[0] == "train":
        options |= {"--method": "supervised", "--epochs": "1", "--batch-size": "8", "--width": "4"}
    elif "--checkpoint" not in arguments:
        backbones.train(
            load_images("images", image_size=16),
            backbones.build("resnet18", image_size=16, width=4),
            method="supervised",
            epochs=1,
            batch_size=8,
            device="cpu",
            out="trained",
        )
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


def test_networks_and_images_that_do_not_fit(tmp_path):
    colors = shapes(n=8, n_channels=3)
    with pytest.raises(InputError, match="takes images of 1 channels, not 3"):
        backbones.embed(small(), colors, out=tmp_path / "e", device="cpu")
    with pytest.raises(InputError, match="does not take images of 16 x 16 pixels and 3 channels"):
        backbones.embed(torch.nn.Conv2d(1, 2, 3), colors, out=tmp_path / "e", device="cpu")
    with pytest.raises(InputError, match=r"features of shape \(1, 2, 14, 14\)"):
        backbones.embed(torch.nn.Conv2d(3, 2, 3), colors, out=tmp_path / "e", device="cpu")
    with pytest.raises(InputError, match="takes images of 1 channels, not 3"):
        backbones.train(colors, small(), method="supervised", epochs=1, batch_size=4, out=tmp_path / "t", device="cpu")
    assert list(tmp_path.rglob("*.pt")) == list(tmp_path.rglob("*.npy")) == []


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
    assert run_process(*command, whole).code == 0
    with subprocess.Popen([*CONSOLE_SCRIPT, *command, str(parts)], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("epoch    3"):
                process.kill()
                break
    assert 2 <= backbones.load_backbone(parts)[1]["epochs_done"] <= 3
    done = run_process(*command, parts)
    assert done.code == 0, done.err
    assert "epoch    2" not in done.out
    expected, found = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (whole, parts))
    for name, weights in expected["method"].items():
        assert torch.equal(weights, found["method"][name]), name
    assert [row["loss"] for row in expected["log"]] == [row["loss"] for row in found["log"]]


@pytest.mark.parametrize("network", ["contrastive", "supervised"])
def test_embeddings_that_ship_are_those_of_the_images(network):
    from clorg_scale.datasets import load_fashion_mnist, load_fashion_mnist_embeddings

    parts = {split: load_fashion_mnist_embeddings(network, split) for split in ("train", "test")}
    for split, stored in parts.items():
        assert (stored.embeddings.shape, stored.embeddings.dtype) == ((10_000, 128), np.float16)
        assert np.isfinite(stored.embeddings).all()
        assert stored.metadata["split"] == split
        training = stored.metadata["training"]
        assert training["method"] == {"contrastive": "simclr"}.get(network, network)
        assert training["epochs_done"] == training["epochs"]
        if has_all_images():
            np.testing.assert_array_equal(stored.labels, load_fashion_mnist(split)[1][:10_000])
    np.testing.assert_array_equal(parts["train"].labels[:SHIPPED], first_images(SHIPPED)[1])
    probe = cs.probes.KNNProbe(20, metric="cosine", device="cpu")
    probe.fit(parts["train"].embeddings[:2000], parts["train"].labels[:2000])
    accuracy = probe.score(parts["test"].embeddings[:1000], parts["test"].labels[:1000])
    assert accuracy > {"contrastive": 0.7, "supervised": 0.88}[network]


def test_embeddings_that_do_not_ship():
    from clorg_scale.datasets import load_fashion_mnist_embeddings

    with pytest.raises(InputError, match="not of 'pixels'"):
        load_fashion_mnist_embeddings("pixels")
    with pytest.raises(InputError, match="'validation'"):
        load_fashion_mnist_embeddings("contrastive", "validation")
