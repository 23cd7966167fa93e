"""Training of a backbone: any method, on one or several devices, resumed where the last run stopped."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from clorg_scale.arrays import Device, resolve_torch_device
from clorg_scale.backbones.architectures import Backbone
from clorg_scale.backbones.augmentation import Augmentation
from clorg_scale.backbones.checkpoints import CHECKPOINT, UNFINISHED, read_training, write_training
from clorg_scale.backbones.features import to_pixels
from clorg_scale.backbones.methods import Method, build_method
from clorg_scale.backbones.processes import Processes
from clorg_scale.backbones.timing import EpochTimer, Forecast
from clorg_scale.backbones.watch import ImageWatch
from clorg_scale.datasets.images import ImageSet
from clorg_scale.datasets.prefetch import prefetched
from clorg_scale.errors import InputError
from clorg_scale.progress import progress_bar
from clorg_scale.store.atomic import result_folder, write_together, write_whole
from clorg_scale.store.locks import lock_folder, releasing_locks
from clorg_scale.whole import real_number, whole_number

__all__ = ["Epoch", "train"]

WEIGHT_DECAY = 0.05
SUPERVISED_STRENGTH = 0.4
"""Strength of the augmentation in supervised training: crops down to two thirds of the area."""

BLURRED_SIZE = 64
"""Size of images, in pixels, from which on the augmentation blurs."""

MOST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Epoch:
    """Record of one epoch.

    Attributes
    ----------
    epoch
        Number of the epoch, 1 for the first.
    loss
        Mean loss over the images.
    learning_rate
        Learning rate of the last step.
    images_per_second
        Throughput of all processes together.
    augmentation
        Share of the time spent on augmentation.
    seconds
        Duration of the epoch.
    remaining_seconds
        Estimated duration of the epochs that are left, each taken to last as long as this one.
    """

    epoch: int
    loss: float
    learning_rate: float
    images_per_second: float
    augmentation: float
    seconds: float
    remaining_seconds: float = 0.0


@releasing_locks
def train(
    images: ImageSet,
    backbone: Backbone,
    *,
    method: str = "simclr",
    epochs: int = 200,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    strength: float | None = None,
    out: Path | str | None = None,
    checkpoint_every: int = 1,
    on_epoch: Callable[[Backbone, Epoch], None] | None = None,
    device: Device = "auto",
    seed: int = 0,
    resume: bool = True,
    progress: bool = False,
) -> Backbone:
    """Train a backbone with AdamW; the learning rate rises over a tenth of the steps, then falls to zero as a cosine.

    All random numbers follow from the seed and the position in the training, so a run that is killed and started again
    ends with the same weights: bit for bit on a CPU, up to the order of summation on a GPU. Under `torchrun`, each
    process takes its share of every batch.

    Parameters
    ----------
    images
        Training images.
    backbone
        Network to train, in place.
    method
        One of `clorg_scale.backbones.METHODS`.
    epochs
        Passes over the images.
    batch_size
        Images in a step of all processes together.
    learning_rate
        Peak of the learning rate.
    strength
        Strength of the augmentation (see `Augmentation`); default: 1, for supervised training 0.4.
    out
        Folder for checkpoint.pt and log.csv; None keeps nothing.
    checkpoint_every
        Epochs between checkpoints; the last one is always kept.
    on_epoch
        Called after each epoch, before its checkpoint is written, in the first process; a `Recorder` measures how the
        embeddings are organized.
    device
        "auto", "cpu" or "cuda".
    seed
        Seed of the weights of the head, the order of the images and the augmentation.
    resume
        Continue from the checkpoint of an earlier run with the same settings. If False, start again; a training that is
        in `out` already is replaced once this one is complete.
    progress
        Show a progress bar on stderr, and after the first steps an estimate of the total time.

    Returns
    -------
    The backbone, in evaluation mode.

    Raises
    ------
    InputError
        If a setting is out of range, the checkpoint belongs to another training, another run is writing to the folder,
        an image is written to meanwhile (the checkpoint before that epoch is kept), or the loss is no longer finite.
    """
    strength = strength if strength is not None else SUPERVISED_STRENGTH if method == "supervised" else 1.0
    epochs = whole_number("epochs", epochs, 1)
    checkpoint_every = whole_number("checkpoint_every", checkpoint_every, 1)
    batch_size = whole_number("batch_size", batch_size, 2, len(images), where=f" for {len(images)} images")
    learning_rate = real_number("learning_rate", learning_rate, positive=True)
    seed = whole_number("seed", seed, 0, MOST_SEED)
    watch = ImageWatch(images, "trained on", "the epoch is not kept")  # before the digest and the first image
    processes = Processes(resolve_torch_device(device))
    if batch_size % processes.count or batch_size < 2 * processes.count:
        raise InputError(
            f"batch_size must be a multiple of the {processes.count} processes, with at least 2 images for each, not "
            f"{batch_size}."
        )
    views = Augmentation(strength, blur=images.image_size >= BLURRED_SIZE)
    torch.manual_seed(seed)
    built = build_method(method, backbone, n_classes=len(images.classes), n_images=len(images))
    model = processes.on_device(built)
    optimizer = torch.optim.AdamW(_groups(built), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    settings = {
        "method": method,
        "backbone": backbone.settings,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "strength": views.strength,
        "seed": seed,
        "data": images.name,
        "n_images": len(images),
        "classes": list(images.classes),
        "processes": processes.count,
        "image_size": images.image_size,
        "images": images.digest(),
        "labels": hashlib.blake2b(images.labels.tobytes(), digest_size=8).hexdigest(),
    }
    if images.skipped:
        settings["skipped"] = images.skipped
    folder = None if out is None else Path(out)
    steps = len(images) // batch_size
    existing = folder is not None and processes.first and folder.is_dir()
    if folder is not None and existing:
        lock_folder(folder)  # before the checkpoint in it is read
    target = None if folder is None else _target(folder, processes, resume=resume)
    log = _resumed_log(target, settings, built, optimizer, processes)
    trainer = _Trainer(
        model=model,
        method=built,
        optimizer=optimizer,
        images=images,
        views=views,
        schedule=_Schedule(learning_rate, steps * epochs),
        processes=processes,
        forecast=Forecast(processes, steps, epochs - len(log), shown=progress and processes.first),
        batch_size=batch_size,
        seed=seed,
    )
    with result_folder(folder) if folder is not None and processes.first else nullcontext():
        if folder is not None and processes.first and not existing:
            lock_folder(folder)
        processes.wait()
        for epoch in range(len(log), epochs):
            shown = progress and processes.first
            with (
                watch,
                progress_bar(f"Epoch {epoch + 1} of {epochs}", len(images), unit="images", enabled=shown) as advance,
            ):
                done = trainer.epoch(epoch, advance)
            log.append(done)
            if processes.first:
                if on_epoch is not None:
                    built.eval()
                    with _own_threads():
                        on_epoch(backbone, done)
                if target is not None and ((epoch + 1) % checkpoint_every == 0 or epoch + 1 == epochs):
                    complete = epoch + 1 == epochs
                    file = target.with_name(CHECKPOINT) if complete else target
                    with write_together():
                        write_training(file, settings, built, optimizer, [vars(entry) for entry in log])
                        if file.name == CHECKPOINT:
                            _write_log(file.parent, log)
                    if complete:
                        target.with_name(UNFINISHED).unlink(missing_ok=True)
    return backbone.eval()


@contextmanager
def _own_threads() -> Iterator[None]:
    """Restore torch's number of threads afterward: Numba's OpenMP layer sets it for the whole process."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _groups(method: Method) -> list[dict[str, Any]]:
    """Parameters with weight decay, and without it: biases and scales."""
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1]},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _target(folder: Path, processes: Processes, *, resume: bool) -> Path:
    """File of the checkpoints: a separate one while a finished training in the folder is to be replaced."""
    file, unfinished = folder / CHECKPOINT, folder / UNFINISHED
    if resume:
        return unfinished if unfinished.exists() else file
    target = unfinished if file.exists() else file
    processes.wait()
    if processes.first:
        unfinished.unlink(missing_ok=True)
    processes.wait()
    return target


def _resumed_log(
    file: Path | None,
    settings: dict[str, Any],
    method: Method,
    optimizer: torch.optim.Optimizer,
    processes: Processes,
) -> list[Epoch]:
    """Restore the state of a checkpoint; returns the epochs that are done."""
    if file is None or not file.exists():
        return []
    entries = read_training(file, settings, method, optimizer, processes.device)
    try:
        return [Epoch(**entry) for entry in entries]
    except TypeError as error:
        raise InputError(
            f"The log in the checkpoint {file} was written by another version; choose another folder."
        ) from error


class _Schedule:
    """Learning rate of each step: a linear warm-up over a tenth of the steps, then half a cosine."""

    def __init__(self, peak: float, n_steps: int) -> None:
        self.peak, self.n_steps = peak, n_steps

    def __call__(self, step: int) -> float:
        warm = max(1, self.n_steps // 10)
        if step < warm:
            return self.peak * (step + 1) / warm
        return self.peak * (1 + math.cos(math.pi * (step - warm) / max(1, self.n_steps - warm))) / 2


@dataclass
class _Trainer:
    """State that an epoch needs.

    Attributes
    ----------
    model
        The method as it is called: itself, or wrapped for several processes.
    batch_size
        Images in a step of all processes together.
    """

    model: nn.Module
    method: Method
    optimizer: torch.optim.Optimizer
    images: ImageSet
    views: Augmentation
    schedule: _Schedule
    processes: Processes
    forecast: Forecast
    batch_size: int
    seed: int

    def epoch(self, epoch: int, advance: Callable[[float], None]) -> Epoch:
        """Make one pass over the images; `epoch` is 0 for the first."""
        self.model.train()
        processes, n_steps, rate = self.processes, len(self.images) // self.batch_size, 0.0
        batches = self._batches(epoch)
        total = torch.zeros((), dtype=torch.float64, device=processes.device)
        timer = EpochTimer(processes)
        for step, (rows, read) in enumerate(
            zip(batches, prefetched(self.images, batches, processes.device), strict=True)
        ):
            position = epoch * n_steps + step
            generator = torch.Generator(processes.device).manual_seed(_number(self.seed, position, processes.rank))
            torch.manual_seed(_number(self.seed, position, processes.rank, 1))
            timer.start(step)
            pixels = to_pixels(read, processes.device)
            batch = [self.views(pixels, generator) for _ in range(self.method.n_views)]
            timer.stop(step)
            rate = self.schedule(position)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            with processes.mixed_precision():
                loss = self.model(batch, torch.from_numpy(self.images.labels[rows]).to(processes.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.method.after_step(position / self.schedule.n_steps)
            total += loss.detach()
            advance(self.batch_size)
            self.forecast.step()
        mean = processes.mean(total / n_steps)
        if not math.isfinite(mean):
            raise InputError(f"The loss is no longer finite in epoch {epoch + 1}; lower the learning rate ({rate:g}).")
        seconds = timer.seconds()
        self.forecast.epoch(seconds)
        return Epoch(
            epoch + 1,
            mean,
            rate,
            images_per_second=n_steps * self.batch_size / seconds,
            augmentation=timer.share(n_steps),
            seconds=seconds,
            remaining_seconds=seconds * (self.schedule.n_steps // n_steps - epoch - 1),
        )

    def _batches(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """Rows of the images in each step of this process, in random order."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.images))
        n_steps = len(self.images) // self.batch_size
        steps = order[: n_steps * self.batch_size].reshape(n_steps, -1)
        return [rows[self.processes.rank :: self.processes.count] for rows in steps]


def _number(*parts: int) -> int:
    """Seed of 63 bits from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def _write_log(folder: Path, log: list[Epoch]) -> None:
    """Write log.csv with one row for each epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(vars(log[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" for key, value in vars(entry).items()} for entry in log)
    with write_whole(folder / "log.csv", "w") as file:
        file.write(text.getvalue())
