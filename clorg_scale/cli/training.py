"""`train` and `embed`: from images to embeddings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from clorg_scale.cli.app import app
from clorg_scale.cli.image_options import (
    BatchSize,
    Data,
    DataRoot,
    Download,
    Epochs,
    LearningRate,
    SkipUnreadable,
    Stem,
    TrainedBackbone,
    TrainingMethod,
    Width,
)
from clorg_scale.cli.options import Dask, DeviceName, Out, Seed
from clorg_scale.cli.output import printable
from clorg_scale.counted import counted
from clorg_scale.errors import InputError, require

PUBLISHED_SIZE = 224
"""Image size in pixels that published weights are made for."""


@app.command(short_help="Train a backbone on images, with or without labels.")
def train(
    *,
    out: Out,
    method: TrainingMethod = "simclr",
    backbone: TrainedBackbone = "resnet18",
    width: Width = 64,
    stem: Stem = "auto",
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Start from published weights.")] = False,
    data: Data = "fashion-mnist",
    root: DataRoot = None,
    image_size: Annotated[
        int, typer.Option(help="Size in pixels that images in folders are resized to.", metavar="N")
    ] = PUBLISHED_SIZE,
    download: Download = False,
    skip_unreadable: SkipUnreadable = False,
    epochs: Epochs = 200,
    batch_size: BatchSize = 256,
    learning_rate: LearningRate = 1e-3,
    strength: Annotated[
        float | None,
        typer.Option(
            help="Strength of the augmentation, from 0 to 2; default: 1, or 0.4 for supervised training.",
            metavar="NUMBER",
        ),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Epochs between checkpoints.", metavar="N")] = 1,
    measure_every: Annotated[
        int,
        typer.Option(
            help="Epochs between measurements of the test images (RLD, class homogeneity, Calinski-Harabasz, k-NN "
            "accuracy); 0: none.",
            metavar="N",
        ),
    ] = 10,
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize",
            help="Divide embeddings by their Euclidean length (L2) before they are measured, as the paper does.",
        ),
    ] = False,
    keep_embeddings: Annotated[
        bool,
        typer.Option("--keep-embeddings", help="Store the embeddings of each measurement, for 'clorg-scale track'."),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write losses and measurements for TensorBoard.")
    ] = False,
    device: DeviceName = "auto",
    seed: Seed = 0,
) -> None:
    """Train a backbone, contrastively or supervised.

    Run the same command again to continue an interrupted training.
    """
    _require_torch("Training")
    from clorg_scale import backbones
    from clorg_scale.datasets import load_images

    loaded: dict[str, Any] = {
        "root": root,
        "image_size": image_size,
        "download": download,
        "skip_unreadable": skip_unreadable,
        "progress": backbones.first_process(),
    }
    images = load_images(data, "train", **loaded)
    if backbones.first_process():
        _report_skipped(images)
    watch: Callable[[Any, Any], None] | None = None
    recorder = None
    if measure_every:
        unseen = load_images(data, "test", **loaded)
        if backbones.first_process() and unseen.skipped != images.skipped:
            _report_skipped(unseen)
        watch = recorder = backbones.Recorder(
            unseen,
            out=out,
            every=measure_every,
            epochs=epochs,
            seed=seed,
            normalize=normalize,
            keep_embeddings=keep_embeddings,
        )
    if tensorboard:
        watch = backbones.EventLog(out / "tensorboard", recorder)
    if keep_embeddings and not measure_every:
        raise InputError(
            "--keep-embeddings stores the embeddings of each measurement; set --measure-every to 1 or more."
        )
    network = backbones.build(
        backbone,
        n_channels=images.n_channels,
        image_size=images.image_size,
        width=width,
        stem=stem,  # type: ignore[arg-type]
        pretrained=pretrained,
        seed=seed,
    )

    def on_epoch(trained: Any, epoch: Any) -> None:
        _print_epoch(epoch)
        if watch is not None:
            watch(trained, epoch)

    backbones.train(
        images,
        network,
        method=method,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        strength=strength,
        out=out,
        checkpoint_every=checkpoint_every,
        on_epoch=on_epoch,
        device=device,  # type: ignore[arg-type]
        seed=seed,
        progress=True,
    )
    if backbones.first_process():
        folder = printable(out)
        where = "" if root is None else f" --root {printable(root)}"
        print(
            f"Trained: {folder}. Embeddings: clorg-scale embed --checkpoint {folder} --data {printable(data)}{where} "
            "--out FOLDER"
        )
        if keep_embeddings:
            print(f"The checkpoints side by side: clorg-scale track {folder}")


@app.command(short_help="Embed a data set with a backbone.")
def embed(
    *,
    out: Out,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a training; default: the network of --backbone with its published weights.",
            metavar="FOLDER",
        ),
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="Model of torchvision or timm, used with its published weights.", metavar="NAME")
    ] = "resnet18",
    layer: Annotated[str, typer.Option(help="Output to store: backbone or projection.", metavar="NAME")] = "backbone",
    data: Data = "fashion-mnist",
    split: Annotated[str, typer.Option(help="train or test.", metavar="NAME")] = "test",
    first: Annotated[int | None, typer.Option(help="Embed only the first N images.", metavar="N")] = None,
    root: DataRoot = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Size in pixels that images in folders are resized to; default: that of the training.", metavar="N"
        ),
    ] = None,
    download: Download = False,
    skip_unreadable: SkipUnreadable = False,
    dtype: Annotated[
        str, typer.Option(help="Type of the stored numbers: float16 or float32.", metavar="NAME")
    ] = "float16",
    normalize: Annotated[bool, typer.Option("--normalize", help="Divide each embedding by its length.")] = False,
    batch_size: BatchSize = 256,
    device: DeviceName = "auto",
    dask: Dask = None,
) -> None:
    """Embed a data set with a trained or published network.

    Run the same command again to continue after an interruption.
    """
    _require_torch("Embedding")
    from clorg_scale import backbones
    from clorg_scale.backbones.embedding import check_batch_size
    from clorg_scale.datasets import ImageFiles, load_images
    from clorg_scale.distributed import connect

    check_batch_size(batch_size)

    metadata: dict[str, Any] = {"split": split, "layer": layer}
    trained = None if checkpoint is None else backbones.load_backbone(checkpoint, layer=layer)
    if trained is None and layer != "backbone":
        raise InputError(f"--layer {layer} needs a --checkpoint; published networks only have the layer 'backbone'.")
    if image_size is None:
        image_size = PUBLISHED_SIZE if trained is None else trained[1]["backbone"]["image_size"]
    images = load_images(
        data,
        split,  # type: ignore[arg-type]
        root=root,
        image_size=image_size,
        download=download,
        skip_unreadable=skip_unreadable,
        progress=True,
    )
    _report_skipped(images)
    if isinstance(images, ImageFiles) and images.unsplit:
        metadata["split"] = "all"
    images = images if first is None else images.first(first)
    if trained is None:
        network = backbones.build(backbone, image_size=images.image_size, pretrained=True)
        metadata["backbone"] = backbone
    else:
        network, metadata["training"] = trained
    with connect(dask) as client:
        stored = backbones.embed(
            network,
            images,
            out=out,
            dtype=dtype,  # type: ignore[arg-type]
            normalize=normalize,
            batch_size=batch_size,
            metadata=metadata,
            device=device,  # type: ignore[arg-type]
            progress=True,
            client=client,
        )
    print(
        f"{counted(len(stored.embeddings), 'embedding')} of {counted(stored.embeddings.shape[1], 'feature')}: "
        f"{printable(out)}"
    )


def _require_torch(purpose: str) -> None:
    for package in ("torch", "torchvision"):
        require(package, extra="train", purpose=purpose)


def _print_epoch(epoch: Any) -> None:
    from clorg_scale.backbones.timing import duration

    left = f"  {duration(epoch.remaining_seconds)} left" if epoch.remaining_seconds else ""
    print(
        f"epoch {epoch.epoch:>4}  loss {epoch.loss:.4f}  {epoch.images_per_second:,.0f} images/s "
        f"({epoch.augmentation:.0%} augmentation)  {epoch.seconds:.0f} s{left}",
        flush=True,
    )


def _report_skipped(images: Any) -> None:
    """Print how many images were left out, and their names."""
    if images.skipped:
        print(f"Left out {counted(len(images.skipped), 'image')} that cannot be read:", file=sys.stderr)
        for path in images.skipped:
            print(f"  {path}", file=sys.stderr)
