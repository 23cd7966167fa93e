"""Options that the commands on images share: data, network and training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BatchSize",
    "Data",
    "DataRoot",
    "Download",
    "Epochs",
    "LearningRate",
    "SkipUnreadable",
    "Stem",
    "TrainedBackbone",
    "TrainingMethod",
    "Width",
]

Data = Annotated[
    str,
    typer.Option(
        help="fashion-mnist, cifar10, cifar100, stl10, a folder with a subfolder of images for each class, or images "
        "in tar shards (WebDataset), a saved data set of Hugging Face or Parquet files.",
        metavar="DATA",
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the named data sets; default: the environment variable CLORG_SCALE_DATA.", metavar="FOLDER"
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Download the data set if it is missing.")]
SkipUnreadable = Annotated[
    bool,
    typer.Option(
        "--skip-unreadable",
        help="Leave out images that cannot be read, and list them; all images are read once to find them.",
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images in a batch.", metavar="N")]
TrainingMethod = Annotated[
    str,
    typer.Option(help="supervised, simclr, moco, mocov3, byol, simsiam, barlowtwins, vicreg or dino.", metavar="NAME"),
]
TrainedBackbone = Annotated[
    str,
    typer.Option(
        help="resnet18, resnet34, resnet50, resnet101, vit, or the name of a model of torchvision or timm.",
        metavar="NAME",
    ),
]
Width = Annotated[int, typer.Option(help="Channels of a ResNet's first stage; 16 is practical on a CPU.", metavar="N")]
Stem = Annotated[
    str,
    typer.Option(
        help="First layers of a ResNet: auto, cifar, strided (a quarter of the work of cifar) or imagenet.",
        metavar="NAME",
    ),
]
Epochs = Annotated[int, typer.Option(help="Passes over the training images.", metavar="N")]
LearningRate = Annotated[float, typer.Option(help="Peak learning rate, reached after the warm-up.", metavar="NUMBER")]
