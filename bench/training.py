"""Images a second: training and embedding by ours, by a plain torch loop, by Lightly's own loop, by the network alone.

All train the same backbone and batch size on the same images, on the GPU where there is one. The plain loop does what a
user writes first: torchvision's augmentations image by image in a DataLoader. Lightly's loop has its collate function
and its loss. The network alone gets one batch again and again, in the precision of ours, which reads, decodes and
augments beside that. Files are the same images as JPEG of 256 x 256 pixels, read at 224.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from .harness.peers import import_peer
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session
from .images import alone, as_files, backbone, default_device, embed, train

__all__ = ["BENCHMARK"]

BATCH_SIZE = 256


def _run(session: Session) -> None:
    import_peer("torch")
    from clorg_scale.datasets import load_images
    from clorg_scale.errors import InputError

    asked = session.settings
    n = asked.points if asked.points is not None else 128 if asked.quick else 2_560
    try:
        images = load_images("fashion-mnist", "train").first(n)
    except InputError as error:
        session.missing(Case("training", {}), "all", str(error))
        return
    width, batch = (4, 64) if asked.quick else (16, BATCH_SIZE)
    case = Case(f"{len(images):,} images 28 x 28, resnet18 of width {width}", {"n": len(images), "width": width})

    def contender(name: str, run: Callable[[], Any], role: str = "peer") -> Contender:
        return Contender(name, run, role=role, settings={"batch_size": batch})

    embeddings = [
        contender("ours, embed", lambda: embed(images, width, batch), "ours"),
        contender("plain torch loop, embed", lambda: _plain_embed(images, width, batch)),
        contender("network alone, embed", lambda: alone(images, width, batch, train=False)),
    ]
    session.compare(_named(case, "embedding"), embeddings, repeats=2)
    with tempfile.TemporaryDirectory() as folder:
        files = as_files(images, folder)
        from_files = [
            contender("ours, embed files", lambda: embed(files, width, batch), "ours"),
            contender("network alone, embed files", lambda: alone(files, width, batch, train=False)),
        ]
        jpeg = Case(f"{len(images):,} JPEG files 256 x 256 at 224, resnet18 of width {width}", case.size)
        session.compare(_named(jpeg, "embedding"), from_files, repeats=2)
    trainings = [
        contender("ours, supervised", lambda: train("supervised", images, width, batch), "ours"),
        contender("plain torch loop, supervised", lambda: _plain_supervised(images, width, batch)),
        contender("network alone, supervised", lambda: alone(images, width, batch, train=True)),
    ]
    session.compare(_named(case, "supervised training, one epoch"), trainings, repeats=2)
    contrastive = [
        contender("ours, SimCLR", lambda: train("simclr", images, width, batch), "ours"),
        contender("Lightly, SimCLR", lambda: _lightly_simclr(images, width, batch)),
    ]
    session.compare(_named(case, "SimCLR training, one epoch"), contrastive, repeats=2)
    for record in session.records:
        if record.benchmark == session.benchmark and record.seconds:
            session.say(f"{record.contender}: {len(images) / record.seconds:,.0f} images/s")


def _named(case: Case, what: str) -> Case:
    return Case(f"{what}, {case.name}", case.size)


def _loader(images: Any, batch: int, transform: Any, *, shuffle: bool, collate: Any = None) -> Any:
    """A DataLoader of PIL images and labels, as torchvision's own data sets give them."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    pixels, labels = images.batch(range(len(images))), images.labels

    class PilImages(Dataset[Any]):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, i: int) -> Any:
            return transform(Image.fromarray(pixels[i].reshape(28, 28))), int(labels[i])

    return DataLoader(PilImages(), batch_size=batch, shuffle=shuffle, collate_fn=collate, drop_last=shuffle)


def _plain_embed(images: Any, width: int, batch: int) -> None:
    import numpy as np
    import torch
    from torchvision import transforms

    device = default_device()
    network = backbone(images, width).eval().to(device)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        parts = [
            network(x.to(device)).cpu().numpy() for x, _ in _loader(images, batch, transforms.ToTensor(), shuffle=False)
        ]
        np.save(f"{folder}/embeddings.npy", np.concatenate(parts))


def _plain_supervised(images: Any, width: int, batch: int) -> None:
    import torch
    from torch import nn
    from torchvision import transforms

    steps = [transforms.RandomCrop(28, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    device = default_device()
    network = backbone(images, width).to(device)
    head = nn.LazyLinear(10, device=device)
    loader = _loader(images, batch, transforms.Compose(steps), shuffle=True)
    optimizer = None
    for x, y in loader:
        logits = head(network(x.to(device)))
        optimizer = optimizer or torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=1e-3)
        loss = nn.functional.cross_entropy(logits, y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _lightly_simclr(images: Any, width: int, batch: int) -> None:
    """Train as Lightly's example of SimCLR does: with its transform, projection head and loss."""
    import torch

    loss_module, heads = import_peer("lightly.loss", "lightly"), import_peer("lightly.models.modules", "lightly")
    transforms = import_peer("lightly.transforms", "lightly")
    device = default_device()
    network = backbone(images, width).to(device)
    transform = transforms.SimCLRTransform(input_size=28, gaussian_blur=0.0)
    rgb = _Rgb(transform, images.n_channels)
    loader = _loader(images, batch, rgb, shuffle=True)
    criterion, head, optimizer = loss_module.NTXentLoss(), None, None
    for views, _ in loader:
        features = [network(view.to(device)).flatten(1) for view in views]
        head = head or heads.SimCLRProjectionHead(features[0].shape[1], 512, 128).to(device)
        optimizer = optimizer or torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=1e-3)
        loss = criterion(*(head(part) for part in features))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class _Rgb:
    """Lightly's transform expects three channels; the views are given the backbone's again."""

    def __init__(self, transform: Any, n_channels: int) -> None:
        self.transform, self.n_channels = transform, n_channels

    def __call__(self, image: Any) -> Any:
        return [view[: self.n_channels] for view in self.transform(image.convert("RGB"))]


BENCHMARK = Benchmark(
    "training",
    "images a second of embedding and training: ours, a plain torch loop, Lightly, the network alone",
    "2,560 images of Fashion-MNIST, also as JPEG files, resnet18 of width 16",
    7,
    _run,
    frozenset({"points"}),
    ("lightly", "torchvision"),
)
