"""Backbones trained in several settings and measured alike: stability, augmentation, architecture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale import backbones
from clorg_scale.arrays import Device
from clorg_scale.counted import counted
from clorg_scale.datasets import load_images
from clorg_scale.datasets.images import ImageSet
from clorg_scale.errors import InputError
from clorg_scale.report.curves import Panel, render_curves
from clorg_scale.store.atomic import make_folder
from clorg_scale.store.locks import lock_folder, releasing_locks
from clorg_scale.studies.measures import TEMPERATURES, measure
from clorg_scale.studies.table import Row, read_rows, write_study
from clorg_scale.whole import MOST_SEED, whole_number

__all__ = ["Setting", "study_trainings", "summarize"]


@dataclass(frozen=True)
class Setting:
    """One training, as `clorg-scale train` takes it.

    Attributes
    ----------
    data, method, backbone, width, stem, epochs, batch_size, learning_rate, strength, seed
        See `clorg_scale.backbones.build` and `train`.
    n_images
        Largest number of images to train on, and of unseen ones to measure, spread over the sets.

    Raises
    ------
    InputError
        If a size or the seed is not a whole number, or out of range.
    """

    data: str = "fashion-mnist"
    method: str = "simclr"
    backbone: str = "resnet18"
    width: int = 64
    stem: str = "auto"
    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 1e-3
    strength: float = 1.0
    seed: int = 0
    n_images: int = 60_000

    def __post_init__(self) -> None:
        for name in ("width", "epochs", "batch_size", "n_images"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), 1))
        object.__setattr__(self, "seed", whole_number("seed", self.seed, 0, MOST_SEED))

    def training(self, contents: str) -> str:
        """Name of the training's folder: its settings, with a digest of their exact values and of the images."""
        digest = hashlib.blake2b(json.dumps([asdict(self), contents], sort_keys=True).encode(), digest_size=6)
        return f"{self._summary}-{digest.hexdigest()}"

    @property
    def _summary(self) -> str:
        """Settings as text for a file name."""
        named = (
            self.data[-40:],
            self.method,
            self.backbone,
            f"width{self.width}",
            self.stem,
            f"epochs{self.epochs}",
            f"batch{self.batch_size}",
            f"rate{self.learning_rate:g}",
            f"strength{self.strength:g}",
            f"images{self.n_images}",
            f"seed{self.seed}",
        )
        return "-".join(text.replace("/", "_") for text in named).lstrip(".")


@releasing_locks
def study_trainings(
    settings: Sequence[Setting],
    *,
    vary: str,
    out: Path | str,
    device: Device = "auto",
    report: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Train, embed unseen images and measure them, one setting after the other.

    A setting whose row is in the table of an earlier run on the same images is not trained again, and a training that
    was interrupted resumes. Rows of an earlier run stay in the table until this one is complete.

    Parameters
    ----------
    settings
        The trainings.
    vary
        Attribute of `Setting` on the axis of the plot.
    out
        Folder for table.csv, table.json, plot.html, and the trainings.
    device
        "auto", "cpu" or "cuda".
    report
        Called with each row once it is measured.

    Returns
    -------
    A row for each setting.

    Raises
    ------
    InputError
        As `backbones.build`, `backbones.train` and `load_images`; if another run is writing to the folder.
    """
    contents: dict[str, str] = {}
    for setting in settings:
        images, unseen = _checked(setting)
        if setting.data not in contents:
            contents[setting.data] = images.digest() + unseen.digest()
    names = [setting.training(contents[setting.data]) for setting in settings]
    make_folder(Path(out))
    lock_folder(out)
    before = read_rows(out)
    done = {row.get("training"): row for row in before}
    rows: list[Row] = []
    for setting, name in zip(settings, names, strict=True):
        row = done.get(name)
        if row is None:
            row = _trained_and_measured(setting, name, Path(out), device)
            done[name] = row
        rows.append(row)
        report(row)
        kept = [row for row in before if row not in rows] if len(rows) < len(settings) else []
        write_study(out, rows + kept, _plot(rows, vary))
    return rows


def summarize(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of every measure over the rows.

    Raises
    ------
    InputError
        If there are fewer than two rows.
    """
    if len(rows) < 2:
        raise InputError(f"A standard deviation needs at least two trainings, not {len(rows)}.")
    names = [name for name, value in rows[0].items() if isinstance(value, float) and name not in _settings()]
    columns = {name: [float(row[name]) for row in rows] for name in names}
    return {name: (float(np.mean(values)), float(np.std(values, ddof=1))) for name, values in columns.items()}


def _checked(setting: Setting) -> tuple[ImageSet, ImageSet]:
    """Load the images; refuse a setting that cannot be trained before any of them is."""
    images, unseen = load_images(setting.data, "train"), load_images(setting.data, "test")
    backbones.Augmentation(setting.strength)
    if setting.method not in backbones.METHODS:
        raise InputError(f"There is no training method {setting.method!r}; choose from {', '.join(backbones.METHODS)}.")
    _network(setting, images)
    return images, unseen


def _network(setting: Setting, images: ImageSet) -> backbones.Backbone:
    return backbones.build(
        setting.backbone,
        n_channels=images.n_channels,
        image_size=images.image_size,
        width=setting.width,
        stem=setting.stem,  # type: ignore[arg-type]
        seed=setting.seed,
    )


def _trained_and_measured(setting: Setting, name: str, out: Path, device: Device) -> Row:
    """Train, unless that was done earlier, and measure."""
    images = load_images(setting.data, "train")
    unseen = load_images(setting.data, "test")
    network = _network(setting, images)
    folder = out / "trainings" / name
    backbones.train(
        images.spread(min(len(images), setting.n_images)),
        network,
        method=setting.method,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        learning_rate=setting.learning_rate,
        strength=setting.strength,
        out=folder,
        device=device,
        seed=setting.seed,
    )
    measured = unseen.spread(min(len(unseen), setting.n_images))
    stored = backbones.embed(network, measured, out=folder / "embeddings", dtype="float32", device=device)
    found = measure(stored.embeddings, np.asarray(stored.labels), device=device)
    return {"training": name} | asdict(setting) | found


def _plot(rows: Sequence[Row], vary: str) -> str:
    """Plot the measures over what was varied; names are numbered from left to right."""
    values: list[Any] = [row[vary] for row in rows]
    named = any(isinstance(value, str) for value in values) or len(set(values)) < len(values)
    xs = [float(i + 1) for i in range(len(values))] if named else [float(value) for value in values]
    order = np.argsort(xs)

    def curve(name: str) -> list[float]:
        return [float(rows[i][name]) for i in order]

    panels = [
        Panel("RLD by temperature", {f"T = {t:g}": curve(f"RLD {t:g}") for t in TEMPERATURES}),
        Panel("Class homogeneity by k", {name: curve(name) for name in rows[0] if name.startswith("CHI")}),
        Panel("Accuracy", {"k-NN": curve("k-NN accuracy"), "linear": curve("linear accuracy")}),
    ]
    title = ", ".join(dict.fromkeys(map(str, values))) if named else vary
    return render_curves(
        [xs[i] for i in order],
        panels,
        title=f"Trainings by {vary.replace('_', ' ')}",
        x_title=title,
        kind="study",
        facts=f"{counted(len(rows), 'training')}, numbered from left to right: {title}"
        if named
        else counted(len(rows), "training"),
    )


def _settings() -> set[str]:
    return set(Setting.__dataclass_fields__)
