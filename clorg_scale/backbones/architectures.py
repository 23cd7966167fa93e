"""Networks that map images to embeddings: those of the paper, any of torchvision, any of timm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from clorg_scale.errors import InputError, MissingDependencyError
from clorg_scale.installation import pip_line
from clorg_scale.whole import whole_number

__all__ = ["Backbone", "build", "rebuild"]

SMALL_IMAGE = 64
"""Largest size, in pixels, for which a ResNet gets the CIFAR stem by default."""

Stem = Literal["auto", "cifar", "strided", "imagenet"]

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")

RESNET_FEATURES = 512
"""Width of the features of a ResNet of full width, the paper's; wider ones end in a linear layer of this width."""

Channels = tuple[float, ...]
"""One number for each channel, or one for all channels."""

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """A network without its classifier; maps images (b, c, h, w) in [0, 1] to features (b, n_features).

    Attributes
    ----------
    n_features
        Length of an embedding.
    n_channels, image_size
        Images that it takes; grayscale images are repeated where it takes three channels.
    settings
        What `rebuild` builds it from again, without weights.
    """

    def __init__(self, network: nn.Module, n_features: int, settings: dict[str, Any], *, imagenet: bool) -> None:
        super().__init__()
        self.network = network
        self.n_features = n_features
        self.settings = settings
        self.n_channels: int = settings["n_channels"]
        self.image_size: int = settings["image_size"]
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if imagenet else ((0.5,), (0.25,))
        self.register_buffer("mean", _by_channel(mean), persistent=False)
        self.register_buffer("std", _by_channel(std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, n_features) of images (b, c, h, w).

        Raises
        ------
        InputError
            If the images have another number of channels.
        """
        if images.shape[1] == 1 and self.n_channels == 3:
            images = images.expand(-1, 3, -1, -1)
        if images.shape[1] != self.n_channels:
            raise InputError(f"The network takes images of {self.n_channels} channels, not {images.shape[1]}.")
        return cast("Tensor", self.network((images - self.mean) / self.std))


def build(
    name: str = "resnet18",
    *,
    n_channels: int = 3,
    image_size: int = 32,
    width: int = 64,
    stem: Stem = "auto",
    pretrained: bool = False,
    seed: int = 0,
) -> Backbone:
    """Build a backbone.

    Parameters
    ----------
    name
        "resnet18", "resnet34", "resnet50", "resnet101" or "vit" (arXiv 2305.10229: patches of 4 pixels, 16 layers, 8
        heads, width 512, MLP width 1536, dropout 0.2); otherwise a model of torchvision or, failing that, of timm.
    n_channels
        Channels of the images: 1 or 3. Other models of torchvision and timm always take 3.
    image_size
        Height and width of the images in pixels.
    width
        Channels of a ResNet's first stage; 64 is standard, 16 can be trained on a CPU.
    stem
        First layers of a ResNet: "cifar" (3 x 3, stride 1, no pooling), "strided" (3 x 3, stride 2, no pooling; a
        quarter of the work), "imagenet" (7 x 7, stride 2, pooling). "auto": "cifar" up to 64 pixels, "imagenet" above.
    pretrained
        Start from the weights that torchvision or timm offer, trained on ImageNet.
    seed
        Seed of the initial weights; torch's global random state is not changed.

    Raises
    ------
    InputError
        If there is no such model, it has no such variant, or a number is out of range.
    """
    n_channels = whole_number("n_channels", n_channels, 1, 3)
    if n_channels == 2:
        raise InputError("Images must have 1 or 3 channels, not 2.")
    image_size = whole_number("image_size", image_size, 8)
    width = whole_number("width", width, 1)
    seed = whole_number("seed", seed, 0, 2**63 - 1)
    own = name in RESNETS and not pretrained
    if width != 64 and not own:
        raise InputError(
            f"A width can be chosen only for {', '.join(RESNETS)} without published weights, not for {name!r}."
        )
    if stem not in get_args(Stem):
        raise InputError(f"The stem must be one of {', '.join(get_args(Stem))}, not {stem!r}.")
    if stem != "auto" and not own:
        raise InputError(f"A stem can be chosen only for {', '.join(RESNETS)} without published weights.")
    if name == "vit" and pretrained:
        raise InputError("The ViT of the paper has no pretrained weights; use 'vit_b_16' of torchvision.")
    settings = {"name": name, "n_channels": n_channels, "image_size": image_size, "width": width, "stem": stem}
    if pretrained or (not own and name != "vit"):
        settings |= {"n_channels": 3, "published": True}
    if pretrained:
        settings["pretrained"] = True  # the weights that a training starts from are one of its settings
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        return rebuild(settings, pretrained=pretrained)


def rebuild(settings: dict[str, Any], *, pretrained: bool = False) -> Backbone:
    """Build the network that the settings of a `Backbone` describe, without its weights unless `pretrained`."""
    name, image_size, n_channels = settings["name"], settings["image_size"], settings["n_channels"]
    if settings.get("published", False):
        return _published(settings, pretrained=pretrained)
    if name == "vit":
        network, n_features = _vit(n_channels, image_size)
    elif name not in RESNETS:
        raise InputError(f"There is no network {name!r}.")
    else:
        stem = settings["stem"]
        chosen = stem if stem != "auto" else "cifar" if image_size <= SMALL_IMAGE else "imagenet"
        network, n_features = _resnet(name, n_channels, chosen, settings["width"])
    return Backbone(network, n_features, settings, imagenet=False)


def _by_channel(values: Channels) -> Tensor:
    """Values as a tensor (1, c, 1, 1)."""
    return torch.tensor(values).view(1, -1, 1, 1)


def _resnet(name: str, n_channels: int, stem: str, width: int) -> tuple[nn.Module, int]:
    """Build a ResNet of torchvision with the given stem and width."""
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

    block, depths = {
        "resnet18": (BasicBlock, (2, 2, 2, 2)),
        "resnet34": (BasicBlock, (3, 4, 6, 3)),
        "resnet50": (Bottleneck, (3, 4, 6, 3)),
        "resnet101": (Bottleneck, (3, 4, 23, 3)),
    }[name]
    network = ResNet(block, list(depths))
    if width != 64:
        network.inplanes = width
        network.bn1 = nn.BatchNorm2d(width)
        for stage, (depth, stride) in enumerate(zip(depths, (1, 2, 2, 2), strict=True)):
            made = network._make_layer(block, width << stage, depth, stride=stride)
            setattr(network, f"layer{stage + 1}", made)
    if stem != "imagenet":
        network.conv1 = nn.Conv2d(n_channels, width, 3, 2 if stem == "strided" else 1, 1, bias=False)
        network.maxpool = nn.Identity()
    elif n_channels != 3 or width != 64:
        network.conv1 = nn.Conv2d(n_channels, width, 7, 2, 3, bias=False)
    n_pooled = 8 * width * block.expansion
    n_features = min(n_pooled, RESNET_FEATURES)
    network.fc = nn.Identity() if n_pooled == n_features else nn.Linear(n_pooled, n_features)
    return network, n_features


def _vit(n_channels: int, image_size: int) -> tuple[nn.Module, int]:
    """Build the vision transformer of the paper."""
    from torchvision.models import VisionTransformer

    if image_size % 4:
        raise InputError(f"The ViT cuts images into patches of 4 pixels; {image_size} pixels is not a multiple of 4.")
    network = VisionTransformer(
        image_size=image_size,
        patch_size=4,
        num_layers=16,
        num_heads=8,
        hidden_dim=512,
        mlp_dim=1536,
        dropout=0.2,
        attention_dropout=0.2,
    )
    if n_channels != 3:
        network.conv_proj = nn.Conv2d(n_channels, 512, 4, 4)
    network.heads = nn.Identity()
    return network, 512


def _published(settings: dict[str, Any], *, pretrained: bool) -> Backbone:
    """Build a model of torchvision, or of timm, without its classifier."""
    from torchvision import models

    name = settings["name"]
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if name in models.list_models(module=models):
        with _explained_download(name):
            network = models.get_model(name, weights="DEFAULT" if pretrained else None)
        _remove_heads(network)
    else:
        network, mean, std = _from_timm(name, settings["image_size"], pretrained=pretrained)
    backbone = Backbone(network, _features_of_an_image(name, network, settings["image_size"]), settings, imagenet=True)
    backbone.mean, backbone.std = _by_channel(mean), _by_channel(std)
    return backbone


def _from_timm(name: str, image_size: int, *, pretrained: bool) -> tuple[nn.Module, Channels, Channels]:
    """Build a model of timm, for this image size if it is fixed; returns also the mean and deviation it expects."""
    try:
        timm = import_module("timm")
    except ImportError:
        raise MissingDependencyError(
            f"torchvision has no model {name!r}; timm, which may have it, is not installed "
            f"({pip_line('timm', 'timm')})."
        ) from None
    if not timm.is_model(name):
        raise InputError(f"Neither torchvision nor timm has a model {name!r}.")
    made_for = timm.get_pretrained_cfg(name)
    sized = {"img_size": image_size} if made_for is not None and made_for.fixed_input_size else {}
    with _explained_download(name):
        network = timm.create_model(name, pretrained=pretrained, num_classes=0, **sized)
    return (network, IMAGENET_MEAN, IMAGENET_STD) if made_for is None else (network, made_for.mean, made_for.std)


def _features_of_an_image(name: str, network: nn.Module, image_size: int) -> int:
    """Number of features, found by a trial run; the mode of the network is kept."""
    training = network.training
    try:
        with torch.inference_mode():
            features = network.eval()(torch.zeros(1, 3, image_size, image_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"{name} does not take images of {image_size} pixels ({reason}).") from error
    network.train(training)
    return int(features.shape[1])


@contextmanager
def _explained_download(name: str) -> Iterator[None]:
    """Explain in one sentence why published weights cannot be downloaded."""
    try:
        yield
    except OSError as error:
        reason = str(error).strip(" <>.").splitlines()[0]
        raise InputError(
            f"The published weights of {name} cannot be downloaded ({reason}); "
            f"download them on a machine with network access and copy them to {torch.hub.get_dir()}/checkpoints."
        ) from error


def _remove_heads(network: nn.Module) -> None:
    """Replace the last linear layer of a torchvision model by an identity, and remove its auxiliary heads.

    Inception and GoogLeNet have such heads, and return several outputs with them during training.
    """
    for name in ("AuxLogits", "aux1", "aux2"):
        if hasattr(network, name):
            setattr(network, name, None)
            network.aux_logits = False
    last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not last:
        raise InputError(f"{type(network).__name__} does not end in a linear layer, so it gives no embeddings.")
    parent_name, _, child = last[-1].rpartition(".")
    setattr(network.get_submodule(parent_name) if parent_name else network, child, nn.Identity())
