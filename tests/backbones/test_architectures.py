"""Networks: their layers, their seeds, published weights, what they take as images."""

import sys
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from small_backbones import shapes, small

import clorg_scale as cs
from clorg_scale import backbones
from clorg_scale.backbones.architectures import rebuild
from clorg_scale.backbones.memory import memory_format
from clorg_scale.errors import InputError


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
