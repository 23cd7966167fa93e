"""Speed of training and embedding: images per second, and the share of the time spent on augmentation.

python -m bench training --method supervised simclr byol --backbone resnet18 --width 16 --threads 1
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.memory import machine
from clorg_scale import backbones
from clorg_scale.datasets import load_images
from clorg_scale.datasets.images import ImageSet


def main(argv: list[str]) -> int:
    """Run the benchmark and print one line per method."""
    arguments = _parser().parse_args(argv)
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    images = load_images(arguments.data, "train").first(arguments.images)
    rows = [_trained(method, images, arguments) for method in arguments.method]
    rows.append(_embedded(images, arguments))
    for row in rows:
        share = "" if row["augmentation"] is None else f"  {row['augmentation']:6.1%} augmentation"
        print(f"{row['task']:<12} {row['images_per_second']:10,.0f} images/s{share}", flush=True)
    if arguments.json:
        report = {
            "data": arguments.data,
            "images": len(images),
            "threads": torch.get_num_threads(),
            "backbone": arguments.backbone,
            "width": arguments.width,
            "stem": arguments.stem,
            "batch_size": arguments.batch_size,
            "rows": rows,
        }
        record = {"machine": machine("torch", "torchvision", "lightly")} | report
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench training", description=__doc__)
    parser.add_argument("--method", nargs="+", default=["supervised", "simclr"], choices=backbones.METHODS)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--stem", default="auto")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--images", type=int, default=2_560)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--json", type=Path)
    return parser


def _backbone(images: ImageSet, arguments: argparse.Namespace) -> backbones.Backbone:
    return backbones.build(
        arguments.backbone,
        n_channels=images.n_channels,
        image_size=images.image_size,
        width=arguments.width,
        stem=arguments.stem,
    )


def _trained(method: str, images: ImageSet, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time the second of two epochs; the first warms up."""
    epochs: list[backbones.Epoch] = []
    backbones.train(
        images,
        _backbone(images, arguments),
        method=method,
        epochs=2,
        batch_size=arguments.batch_size,
        device=arguments.device,
        on_epoch=lambda _, epoch: epochs.append(epoch),
    )
    last = epochs[-1]
    return {"task": method, "images_per_second": last.images_per_second, "augmentation": last.augmentation}


def _embedded(images: ImageSet, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time embedding to a store, including the writing of files."""
    network = _backbone(images, arguments)
    with tempfile.TemporaryDirectory() as folder:
        options: Any = {"batch_size": arguments.batch_size, "device": arguments.device}
        backbones.embed(network, images.first(arguments.batch_size), out=f"{folder}/warm", **options)
        started = time.perf_counter()
        backbones.embed(network, images, out=f"{folder}/embeddings", **options)
        seconds = time.perf_counter() - started
    return {"task": "embed", "images_per_second": len(images) / seconds, "augmentation": None}
