"""`train` and `embed`: from images to embeddings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from clorg_scale.cli.app import app
from clorg_scale.cli.options import DeviceName, Out, Seed
from clorg_scale.cli.output import printable
from clorg_scale.errors import InputError, require

PUBLISHED_SIZE = 224
"""Pixels that published weights are made for."""

Data = Annotated[str, typer.Option(help="fashion-mnist, cifar10, cifar100, stl10, or a folder of images by class.")]
Root = Annotated[Path | None, typer.Option(help="Data folder; default: CLORG_SCALE_DATA.", metavar="FOLDER")]
Download = Annotated[bool, typer.Option("--download", help="Download the data set where it is not there.")]
SkipUnreadable = Annotated[
    bool,
    typer.Option("--skip-unreadable", help="Leave out images that cannot be read, and name them; reads all of them."),
]
BatchSize = Annotated[int, typer.Option(help="Images at once.")]


@app.command(short_help="A backbone trained on images, with or without labels.")
def train(
    *,
    out: Out,
    method: Annotated[
        str, typer.Option(help="supervised, simclr, moco, mocov3, byol, simsiam, barlowtwins, vicreg or dino.")
    ] = "simclr",
    backbone: Annotated[str, typer.Option(help="resnet18/34/50/101, vit, or a model of torchvision or timm.")] = (
        "resnet18"
    ),
    width: Annotated[int, typer.Option(help="Channels of a ResNet's first stage; 16 trains on a CPU.")] = 64,
    stem: Annotated[
        str, typer.Option(help="Of a ResNet: auto, cifar, strided (a quarter of the work of cifar) or imagenet.")
    ] = "auto",
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Start from published weights.")] = False,
    data: Data = "fashion-mnist",
    root: Root = None,
    image_size: Annotated[int, typer.Option(help="Size that images in folders are brought to, in pixels.")] = (
        PUBLISHED_SIZE
    ),
    download: Download = False,
    skip_unreadable: SkipUnreadable = False,
    epochs: Annotated[int, typer.Option(help="Passes over the images.")] = 200,
    batch_size: BatchSize = 256,
    learning_rate: Annotated[float, typer.Option(help="Peak, after the warm-up.")] = 1e-3,
    strength: Annotated[
        float | None, typer.Option(help="Of the augmentation, 0 to 2; default: 1, supervised 0.4.")
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Epochs between checkpoints.")] = 1,
    measure_every: Annotated[
        int, typer.Option(help="Epochs between measurements of test images (RLD, CHI, CH, k-NN accuracy); 0: none.")
    ] = 10,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write what is logged and measured for TensorBoard, too.")
    ] = False,
    device: DeviceName = "auto",
    seed: Seed = 0,
) -> None:
    """Train a backbone, contrastively or supervised; run it again to go on where it stopped."""
    _require_torch("Training")
    from clorg_scale import backbones
    from clorg_scale.datasets import load_images

    loaded: dict[str, Any] = {
        "root": root, "image_size": image_size, "download": download, "skip_unreadable": skip_unreadable,
        "progress": backbones.first_process(),
    }  # fmt: skip
    images = load_images(data, "train", **loaded)
    if backbones.first_process():
        _tell_skipped(images)
    watch: Callable[[Any, Any], None] | None = None
    recorder = None
    if measure_every:
        unseen = load_images(data, "test", **loaded)
        if backbones.first_process() and unseen.skipped != images.skipped:
            _tell_skipped(unseen)
        watch = recorder = backbones.Recorder(unseen, out=out, every=measure_every, epochs=epochs, seed=seed)
    if tensorboard:
        watch = backbones.EventLog(out / "tensorboard", recorder)
    network = backbones.build(
        backbone, n_channels=images.n_channels, image_size=images.image_size, width=width,
        stem=stem,  # type: ignore[arg-type]
        pretrained=pretrained, seed=seed,
    )  # fmt: skip

    def on_epoch(trained: Any, epoch: Any) -> None:
        _say(epoch)
        if watch is not None:
            watch(trained, epoch)

    backbones.train(
        images, network, method=method, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
        strength=strength, out=out, checkpoint_every=checkpoint_every, on_epoch=on_epoch, device=device,  # type: ignore[arg-type]
        seed=seed, progress=True,
    )  # fmt: skip
    if backbones.first_process():
        folder = printable(out)
        print(
            f"Trained: {folder}. Embeddings: clorg-scale embed --checkpoint {folder} --data {printable(data)} "
            "--out FOLDER"
        )


@app.command(short_help="Embeddings of a data set by a backbone.")
def embed(
    *,
    out: Out,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder of a training; without one, --backbone as published.", metavar="FOLDER")
    ] = None,
    backbone: Annotated[str, typer.Option(help="Model of torchvision or timm with its published weights.")] = (
        "resnet18"
    ),
    layer: Annotated[str, typer.Option(help="backbone or projection.")] = "backbone",
    data: Data = "fashion-mnist",
    split: Annotated[str, typer.Option(help="train or test.")] = "test",
    first: Annotated[int | None, typer.Option(help="Embed so many images only, the first ones.")] = None,
    root: Root = None,
    image_size: Annotated[
        int | None,
        typer.Option(help="Size that images in folders are brought to, in pixels; default: that of the training."),
    ] = None,
    download: Download = False,
    skip_unreadable: SkipUnreadable = False,
    dtype: Annotated[str, typer.Option(help="float16 or float32.")] = "float16",
    normalize: Annotated[bool, typer.Option("--normalize", help="Divide each embedding by its length.")] = False,
    batch_size: BatchSize = 256,
    device: DeviceName = "auto",
) -> None:
    """Embed a data set; run it again to go on where it stopped."""
    _require_torch("Embedding")
    from clorg_scale import backbones
    from clorg_scale.backbones.embedding import check_batch_size
    from clorg_scale.datasets import ImageFiles, load_images

    check_batch_size(batch_size)

    metadata: dict[str, Any] = {"split": split, "layer": layer}
    trained = None if checkpoint is None else backbones.load_backbone(checkpoint, layer=layer)
    if trained is None and layer != "backbone":
        raise InputError(f"--layer {layer} needs a --checkpoint: published networks have the layer 'backbone' only.")
    if image_size is None:
        image_size = PUBLISHED_SIZE if trained is None else trained[1]["backbone"]["image_size"]
    images = load_images(
        data, split, root=root, image_size=image_size, download=download,  # type: ignore[arg-type]
        skip_unreadable=skip_unreadable, progress=True,
    )  # fmt: skip
    _tell_skipped(images)
    if isinstance(images, ImageFiles) and images.unsplit:
        metadata["split"] = "all"
    images = images if first is None else images.first(first)
    if trained is None:
        network = backbones.build(backbone, image_size=images.image_size, pretrained=True)
        metadata["backbone"] = backbone
    else:
        network, metadata["training"] = trained
    stored = backbones.embed(
        network, images, out=out, dtype=dtype,  # type: ignore[arg-type]
        normalize=normalize, batch_size=batch_size, metadata=metadata,
        device=device,  # type: ignore[arg-type]
        progress=True,
    )  # fmt: skip
    print(f"{len(stored.embeddings):,} embeddings of {stored.embeddings.shape[1]} features: {printable(out)}")


def _require_torch(purpose: str) -> None:
    for package in ("torch", "torchvision"):
        require(package, extra="train", purpose=purpose)


def _say(epoch: Any) -> None:
    from clorg_scale.backbones.timing import duration

    left = f"  {duration(epoch.remaining_seconds)} left" if epoch.remaining_seconds else ""
    print(
        f"epoch {epoch.epoch:>4}  loss {epoch.loss:.4f}  {epoch.images_per_second:,.0f} images/s "
        f"({epoch.augmentation:.0%} augmentation)  {epoch.seconds:.0f} s{left}",
        flush=True,
    )


def _tell_skipped(images: Any) -> None:
    """Count and name the images that were left out."""
    if images.skipped:
        many = len(images.skipped) > 1
        print(f"Left out {len(images.skipped):,} image{'s' * many} that cannot be read:", file=sys.stderr)
        for path in images.skipped:
            print(f"  {path}", file=sys.stderr)
