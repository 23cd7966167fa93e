"""Training of a backbone: any method, one or several devices, from where the last run stopped."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clorg_scale.arrays import Device, resolve_torch_device
from clorg_scale.backbones.architectures import Backbone
from clorg_scale.backbones.augmentation import Augmentation
from clorg_scale.backbones.checkpoints import CHECKPOINT, UNFINISHED, read_training, write_training
from clorg_scale.backbones.embedding import to_pixels
from clorg_scale.backbones.methods import Method, build_method
from clorg_scale.backbones.processes import Processes
from clorg_scale.datasets.images import ImageSet
from clorg_scale.datasets.prefetch import prefetched
from clorg_scale.errors import InputError
from clorg_scale.progress import progress_bar
from clorg_scale.store.atomic import result_folder, write_together, write_whole
from clorg_scale.store.locks import lock_folder, releasing_locks

__all__ = ["Epoch", "duration", "train"]

FORECAST_STEPS = 50
FORECAST_SECONDS = (1.0, 5.0)
"""A training's time is estimated after so many steps, or after the former time and two steps, or after the latter."""

SLOW_SECONDS = 3_600.0
"""A training on a CPU that takes longer is told what takes less."""

WEIGHT_DECAY = 0.05
SUPERVISED_STRENGTH = 0.4
"""Augmentation of supervised training: crops down to two thirds of the area."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch was like.

    Attributes
    ----------
    epoch
        1 for the first.
    loss
        Mean over the images.
    learning_rate
        Of its last step.
    images_per_second
        Over all processes.
    augmentation
        Share of the time spent making views.
    seconds
        That it took.
    remaining_seconds
        That the epochs after it will take, each as long as this one.
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
    """Train a backbone: AdamW, a tenth of the epochs warm-up, then a cosine to zero.

    Every random number comes from the seed and the place in the training, so a run that is killed and started again
    ends with the same weights: on a CPU to the last bit, on a GPU up to the order of its sums. Under `torchrun` each
    process takes its share of every batch.

    Parameters
    ----------
    images
        What it is trained on.
    backbone
        What is trained, in place.
    method
        One of `clorg_scale.backbones.METHODS`.
    epochs, batch_size, learning_rate
        Of the training; the batch is that of all processes together.
    strength
        Of the augmentation (see `Augmentation`); default: 1, supervised 0.4.
    out
        Folder for checkpoint.pt and log.csv; None keeps nothing.
    checkpoint_every
        Epochs between checkpoints; the last one is always kept.
    on_epoch
        Called after each epoch, before its checkpoint, in the first process; a `Recorder` measures how the embeddings
        organize.
    device
        "auto", "cpu" or "cuda".
    seed
        Of the head's weights, the order of the images and the augmentation.
    resume
        Go on from the checkpoint of an earlier run with the same settings; if False, start again, and replace the
        training that lies in `out`, if there is one, when this one is whole.
    progress
        Show a progress bar on stderr, and after the first steps an estimate of the time that all of them will take.

    Returns
    -------
    The backbone, in evaluation mode.

    Raises
    ------
    InputError
        If a setting makes no sense, the checkpoint belongs to another training, another run is writing to the folder,
        or the loss is no longer finite.
    """
    strength = strength if strength is not None else SUPERVISED_STRENGTH if method == "supervised" else 1.0
    _check(images, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, every=checkpoint_every)
    processes = Processes(resolve_torch_device(device))
    if batch_size % processes.count or batch_size < 2 * processes.count:
        raise InputError(f"batch_size must give each of {processes.count} processes as many images, not {batch_size}.")
    torch.manual_seed(seed)
    built = build_method(method, backbone, n_classes=len(images.classes), n_images=len(images))
    model = processes.placed(built)
    epochs, batch_size, seed, checkpoint_every = int(epochs), int(batch_size), int(seed), int(checkpoint_every)
    optimizer = torch.optim.AdamW(_groups(built), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    settings = {
        "method": method, "backbone": backbone.settings, "epochs": epochs, "batch_size": batch_size,
        "learning_rate": learning_rate, "strength": strength, "seed": seed, "data": images.name,
        "n_images": len(images), "classes": list(images.classes), "processes": processes.count,
        "image_size": images.image_size, "images": images.digest(),
        "labels": hashlib.blake2b(images.labels.tobytes(), digest_size=8).hexdigest(),
    }  # fmt: skip
    if images.skipped:
        settings["skipped"] = images.skipped
    folder = None if out is None else Path(out)
    views = Augmentation(strength, blur=images.image_size >= 64)
    steps = len(images) // batch_size
    schedule = _Schedule(learning_rate, steps * epochs)
    existing = folder is not None and processes.first and folder.is_dir()
    if folder is not None and existing:
        lock_folder(folder)  # before the checkpoint in it is read
    target = None if folder is None else _target(folder, processes, resume=resume)
    log = _taken_up(target, settings, built, optimizer, processes)
    forecast = _Forecast(processes, steps, epochs - len(log), shown=progress and processes.first)
    with result_folder(folder) if folder is not None and processes.first else nullcontext():
        if folder is not None and processes.first and not existing:
            lock_folder(folder)
        processes.wait()
        for epoch in range(len(log), epochs):
            with progress_bar(
                f"Epoch {epoch + 1} of {epochs}", len(images), unit="images", enabled=progress and processes.first
            ) as advance:
                done = _epoch(model, built, optimizer, images, views, schedule, processes, epoch, batch_size, seed,
                              advance, forecast)  # fmt: skip
            log.append(done)
            if processes.first:
                if on_epoch is not None:
                    built.eval()
                    with _own_threads():
                        on_epoch(backbone, done)
                if target is not None and ((epoch + 1) % checkpoint_every == 0 or epoch + 1 == epochs):
                    whole = epoch + 1 == epochs
                    file = target.with_name(CHECKPOINT) if whole else target
                    with write_together():
                        write_training(file, settings, built, optimizer, [vars(entry) for entry in log])
                        if file.name == CHECKPOINT:
                            _write_log(file.parent, log)
                    if whole:
                        target.with_name(UNFINISHED).unlink(missing_ok=True)
    return backbone.eval()


@contextmanager
def _own_threads() -> Iterator[None]:
    """Keep torch's number of threads: Numba's OpenMP layer sets it for the whole process."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check(images: ImageSet, *, epochs: int, batch_size: int, learning_rate: float, every: int) -> None:
    """Refuse settings that make no sense."""
    for name, value in (("epochs", epochs), ("checkpoint_every", every), ("batch_size", batch_size)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            raise InputError(f"{name} must be a whole number, not {value!r}.")
        if value < 1:
            raise InputError(f"{name} must be at least 1, not {value}.")
    if not 2 <= batch_size <= len(images):
        raise InputError(f"batch_size must be from 2 to the {len(images)} images there are, not {batch_size}.")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise InputError(f"learning_rate must be a positive number, not {learning_rate}.")


def _groups(method: Method) -> list[dict[str, Any]]:
    """Parameters with weight decay, and those without: biases and scales."""
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1]},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _target(folder: Path, processes: Processes, *, resume: bool) -> Path:
    """The file of the checkpoints: one of its own while a finished training lies there that is to be replaced."""
    file, unfinished = folder / CHECKPOINT, folder / UNFINISHED
    if resume:
        return unfinished if unfinished.exists() else file
    target = unfinished if file.exists() else file
    processes.wait()
    if processes.first:
        unfinished.unlink(missing_ok=True)
    processes.wait()
    return target


def _taken_up(
    file: Path | None,
    settings: dict[str, Any],
    method: Method,
    optimizer: torch.optim.Optimizer,
    processes: Processes,
) -> list[Epoch]:
    """Take up the training of a checkpoint; gives the epochs that are done."""
    if file is None or not file.exists():
        return []
    entries = read_training(file, settings, method, optimizer, processes.device)
    try:
        return [Epoch(**entry) for entry in entries]
    except TypeError as error:
        raise InputError(
            f"The log in the checkpoint {file} is not one of this version; choose another folder."
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


def _epoch(
    model: nn.Module,
    method: Method,
    optimizer: torch.optim.Optimizer,
    images: ImageSet,
    views: Augmentation,
    schedule: _Schedule,
    processes: Processes,
    epoch: int,
    batch_size: int,
    seed: int,
    advance: Callable[[float], None],
    forecast: _Forecast,
) -> Epoch:
    """One pass over the images."""
    model.train()
    order = np.random.default_rng([seed, epoch]).permutation(len(images))
    n_steps, rate = len(images) // batch_size, 0.0
    batches = [rows[processes.rank :: processes.count] for rows in order[: n_steps * batch_size].reshape(n_steps, -1)]
    total = torch.zeros((), dtype=torch.float64, device=processes.device)
    clock = _Clock(processes)
    for step, (rows, read) in enumerate(zip(batches, prefetched(images, batches), strict=True)):
        at = epoch * n_steps + step
        generator = torch.Generator(processes.device).manual_seed(_number(seed, at, processes.rank))
        torch.manual_seed(_number(seed, at, processes.rank, 1))
        clock.start(step)
        pixels = to_pixels(read, processes.device)
        batch = [views(pixels, generator) for _ in range(method.n_views)]
        clock.stop(step)
        rate = schedule(at)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with processes.mixed_precision():
            loss = model(batch, torch.from_numpy(images.labels[rows]).to(processes.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(at / (schedule.n_steps))
        total += loss.detach()
        advance(batch_size)
        forecast.step()
    mean = processes.mean(total / n_steps)
    if not math.isfinite(mean):
        raise InputError(f"The loss is no longer finite in epoch {epoch + 1}; lower the learning rate ({rate:g}).")
    seconds = clock.seconds()
    forecast.epoch(seconds)
    left = seconds * (schedule.n_steps // n_steps - epoch - 1)
    return Epoch(epoch + 1, mean, rate, n_steps * batch_size / seconds, clock.share(n_steps), seconds, left)


class _Clock:
    """Times an epoch, and a part of some of its steps: waiting for a GPU at every step would slow it down."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.every = 1 if processes.device.type == "cpu" else 20
        self.part, self.n_timed = 0.0, 0
        self.started = self.before = time.perf_counter()

    def start(self, step: int) -> None:
        """The part of a step begins."""
        if step % self.every == 0:
            self.processes.synchronize()
            self.before = time.perf_counter()

    def stop(self, step: int) -> None:
        """The part of a step ends."""
        if step % self.every == 0:
            self.processes.synchronize()
            self.part += time.perf_counter() - self.before
            self.n_timed += 1

    def seconds(self) -> float:
        """Since the beginning of the epoch."""
        self.processes.synchronize()
        return time.perf_counter() - self.started

    def share(self, n_steps: int) -> float:
        """The part's share of the time."""
        return self.part / self.n_timed * n_steps / self.seconds()


class _Forecast:
    """Say on stderr, once and after few steps, how long a training will take.

    The first step is not counted where others can be: it is slower than those that follow.
    """

    def __init__(self, processes: Processes, steps: int, epochs: int, *, shown: bool) -> None:
        self.processes, self.steps, self.epochs = processes, steps, epochs
        self.waiting = shown
        self.n_done = 0
        self.started = self.first_done = time.perf_counter()

    def step(self) -> None:
        """A step is done."""
        if not self.waiting:
            return
        self.processes.synchronize()
        now = time.perf_counter()
        self.n_done += 1
        if self.n_done == 1:
            self.first_done = now
            if now - self.started > FORECAST_SECONDS[1]:
                self._say(now - self.started)
            return
        spent, n_timed = now - self.first_done, self.n_done - 1
        if n_timed >= FORECAST_STEPS or spent > FORECAST_SECONDS[1] or (n_timed > 1 and spent > FORECAST_SECONDS[0]):
            self._say(spent / n_timed)

    def epoch(self, seconds: float) -> None:
        """An epoch is done."""
        if self.waiting:
            self._say(seconds / self.steps)

    def _say(self, seconds: float) -> None:
        self.waiting = False
        total = seconds * self.steps * self.epochs
        slow = self.processes.device.type == "cpu" and total > SLOW_SECONDS
        advice = "; a narrower network (width 16), the strided stem, fewer epochs or a GPU take less" if slow else ""
        print(
            f"Estimated time: about {duration(total)} for {self.epochs:,} epoch{'s' * (self.epochs > 1)} of "
            f"{self.steps:,} steps, {seconds:.2g} s each, without measurements{advice}.",
            file=sys.stderr, flush=True,
        )  # fmt: skip


def duration(seconds: float) -> str:
    """A time in the unit that suits it: 40 seconds, 3.5 minutes, 12 hours, 3.2 days."""
    units = (("seconds", 1, 100), ("minutes", 60, 100), ("hours", 3_600, 48), ("days", 86_400, math.inf))
    unit, length = next((unit, length) for unit, length, most in units if seconds / length < most)
    count = seconds / length
    number = f"{count:.1f}" if count < 10 and unit != "seconds" else f"{count:.0f}"
    return f"{number} {unit.removesuffix('s') if number == '1' else unit}"


def _number(*parts: int) -> int:
    """A seed of 63 bits out of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def _write_log(folder: Path, log: list[Epoch]) -> None:
    """log.csv: one row an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(vars(log[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" for key, value in vars(entry).items()} for entry in log)
    with write_whole(folder / "log.csv", "w") as file:
        file.write(text.getvalue())
