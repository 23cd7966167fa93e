"""Training methods: classification, or recognition of two views of one image.

Losses and heads are Lightly's, except the loss of MoCo v3. Each method is a module that maps views of a batch to its
loss, so that its heads, queues and momentum copies are saved and restored with it, and DistributedDataParallel wraps it
as a whole.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from clorg_scale.backbones.architectures import Backbone
from clorg_scale.backbones.losses import QueueContrast
from clorg_scale.errors import InputError, require

__all__ = ["METHODS", "Method", "build_method"]


class Method(nn.Module):
    """A backbone with a head and a loss.

    Attributes
    ----------
    backbone
        The network to train.
    projection
        The head on it, whose output the loss is computed from.
    n_views
        Views of each image that `forward` takes.
    """

    n_views = 2

    def __init__(self, backbone: Backbone, projection: nn.Module) -> None:
        super().__init__()
        self.backbone, self.projection = backbone, projection

    def forward(self, views: list[Tensor], labels: Tensor) -> Tensor:
        """Loss of a batch: views (b, c, h, w) of the same images in the same order, labels (b,)."""
        raise NotImplementedError

    def _loss(self, *arguments: Any, **options: Any) -> Tensor:
        """Compute the loss in full precision, also where the network runs in mixed precision."""
        with torch.autocast(next(self.backbone.parameters()).device.type, enabled=False):
            return self.loss(*arguments, **options)

    def after_step(self, done: float) -> None:
        """Update after a step of the optimizer; `done` is the share of the training that is complete."""


class Supervised(Method):
    """Cross entropy with label smoothing 0.1."""

    n_views = 1

    def __init__(self, backbone: Backbone, n_classes: int) -> None:
        super().__init__(backbone, nn.Linear(backbone.n_features, n_classes))
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.1)

    def forward(self, views: list[Tensor], labels: Tensor) -> Tensor:
        """See `Method.forward`."""
        return self._loss(self.projection(self.backbone(views[0])).float(), labels)


class TwoViews(Method):
    """SimCLR (arXiv 2002.05709), Barlow Twins (arXiv 2103.03230), VICReg (arXiv 2105.04906): a loss of two views."""

    def __init__(self, backbone: Backbone, projection: nn.Module, loss: nn.Module) -> None:
        super().__init__(backbone, projection)
        self.loss = loss

    def forward(self, views: list[Tensor], labels: Tensor) -> Tensor:
        """See `Method.forward`."""
        a, b = self.projection(self.backbone(torch.cat(views))).float().chunk(2)
        return self._loss(a, b)


class SimSiam(Method):
    """SimSiam (arXiv 2011.10566): predict one view from the other, without a gradient through the target."""

    def __init__(self, backbone: Backbone, projection: nn.Module, prediction: nn.Module, loss: nn.Module) -> None:
        super().__init__(backbone, projection)
        self.prediction, self.loss = prediction, loss

    def forward(self, views: list[Tensor], labels: Tensor) -> Tensor:
        """See `Method.forward`."""
        z = self.projection(self.backbone(torch.cat(views))).float()
        a, b = z.detach().chunk(2)
        of_a, of_b = self.prediction(z).float().chunk(2)
        return (self._loss(of_a, b) + self._loss(of_b, a)) / 2


class WithTeacher(Method):
    """A method whose targets come from a momentum copy of the network."""

    def __init__(self, backbone: Backbone, new_projection: Callable[[], nn.Module], momentum: float) -> None:
        super().__init__(backbone, new_projection())
        teacher = new_projection()  # weight-normalized heads cannot be copied
        teacher.load_state_dict(self.projection.state_dict())
        self.teacher = nn.Sequential(copy.deepcopy(backbone), teacher).requires_grad_(requires_grad=False)
        self.momentum = momentum

    @torch.no_grad()
    def after_step(self, done: float) -> None:
        """Move the teacher toward the student, by steps that shrink with time (arXiv 2006.07733)."""
        m = 1 - (1 - self.momentum) * (math.cos(math.pi * done) + 1) / 2
        student = [*self.backbone.parameters(), *self.projection.parameters()]
        for own, theirs in zip(self.teacher.parameters(), student, strict=True):
            own.lerp_(theirs, 1 - m)


class MoCo(WithTeacher):
    """MoCo v2 (arXiv 2003.04297): negatives from a queue of the teacher's features."""

    def __init__(self, backbone: Backbone, new_projection: Callable[[], nn.Module], loss: nn.Module) -> None:
        super().__init__(backbone, new_projection, 0.99)
        self.loss = loss

    def forward(self, views: list[Tensor], labels: Tensor) -> Tensor:
        """See `Method.forward`."""
        query = self.projection(self.backbone(views[0])).float()
        with torch.no_grad():
            key = self.teacher(views[1]).float()
        return self._loss(query, key)

    def get_extra_state(self) -> dict[str, Tensor]:
        """Queue, which Lightly leaves out of its state."""
        return {name: buffer.clone() for name, buffer in self.loss.named_buffers()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Restore the queue."""
        for name, buffer in self.loss.named_buffers():
            buffer.copy_(state[name])


class BYOL(WithTeacher):
    """BYOL (arXiv 2006.07733): predict the teacher's features of the other view."""

    def __init__(
        self, backbone: Backbone, new_projection: Callable[[], nn.Module], prediction: nn.Module, loss: nn.Module
    ) -> None:
        super().__init__(backbone, new_projection, 0.99)
        self.prediction, self.loss = prediction, loss

    def forward(self, views: list[Tensor], labels: Tensor) -> Tensor:
        """See `Method.forward`."""
        both = torch.cat(views)
        of_a, of_b = self.prediction(self.projection(self.backbone(both))).float().chunk(2)
        with torch.no_grad():
            a, b = self.teacher(both).float().chunk(2)
        return (self._loss(of_a, b) + self._loss(of_b, a)) / 2


class MoCoV3(BYOL):
    """MoCo v3 (arXiv 2104.02057) with queues (arXiv 2305.10229): contrast with keys of the teacher."""

    def forward(self, views: list[Tensor], labels: Tensor) -> Tensor:
        """See `Method.forward`."""
        both = torch.cat(views)
        queries = self.prediction(self.projection(self.backbone(both))).float().unflatten(0, (2, -1))
        with torch.no_grad():
            keys = self.teacher(both).float().unflatten(0, (2, -1))
        return self._loss(queries, keys.flip(0))


class DINO(WithTeacher):
    """DINO (arXiv 2104.14294) with two global views."""

    def __init__(self, backbone: Backbone, new_projection: Callable[[], nn.Module], loss: nn.Module) -> None:
        super().__init__(backbone, new_projection, 0.99)
        self.loss = loss

    def forward(self, views: list[Tensor], labels: Tensor) -> Tensor:
        """See `Method.forward`."""
        both = torch.cat(views)
        student = self.projection(self.backbone(both)).float().chunk(2)
        with torch.no_grad():
            teacher = self.teacher(both).float().chunk(2)
        return self._loss(list(teacher), list(student), epoch=0)


METHODS = ("supervised", "simclr", "moco", "mocov3", "byol", "simsiam", "barlowtwins", "vicreg", "dino")
"""Names that `train` takes."""

PROTOTYPES = 1_024
"""Number of outputs of DINO's head."""

QUEUE = 65_536
"""Largest size of MoCo's queue; it never exceeds half the data set, so that few keys belong to images of the batch."""


def build_method(name: str, backbone: Backbone, *, n_classes: int, n_images: int) -> Method:
    """Put a head and a loss on a backbone.

    Parameters
    ----------
    name
        One of `METHODS`.
    backbone
        The network to train.
    n_classes
        Number of classes, for supervised training.
    n_images
        Number of images in the data set.

    Raises
    ------
    InputError
        If there is no such method.
    MissingDependencyError
        If Lightly is not installed and the method is not supervised.
    """
    if name not in METHODS:
        raise InputError(f"There is no training method {name!r}; choose from {', '.join(METHODS)}.")
    if name == "supervised":
        return Supervised(backbone, n_classes)
    purpose = f"Training with {name}"
    losses = require("lightly.loss", extra="train", purpose=purpose)
    heads = require("lightly.models.modules.heads", extra="train", purpose=purpose)
    d, several = backbone.n_features, torch.distributed.is_initialized()
    if name == "simclr":
        loss = losses.NTXentLoss(temperature=0.2, gather_distributed=several)
        return TwoViews(backbone, heads.SimCLRProjectionHead(d, max(d, 128), 128), loss)
    if name == "barlowtwins":
        loss = losses.BarlowTwinsLoss(gather_distributed=several)
        return TwoViews(backbone, heads.BarlowTwinsProjectionHead(d, 4 * d, 4 * d), loss)
    if name == "vicreg":
        loss = losses.VICRegLoss(gather_distributed=several)
        return TwoViews(backbone, heads.VICRegProjectionHead(d, 4 * d, 4 * d), loss)
    if name == "moco":
        bank = (_queue_size(n_images), 128)
        loss = losses.NTXentLoss(temperature=0.2, memory_bank_size=bank, gather_distributed=several)
        return MoCo(backbone, partial(heads.MoCoProjectionHead, d, d, 128), loss)
    if name == "dino":
        # Without batch normalization in the head, ResNets collapse.
        head = partial(heads.DINOProjectionHead, d, 2 * d, 256, PROTOTYPES, batch_norm=True)
        return DINO(backbone, head, losses.DINOLoss(PROTOTYPES))
    return _with_prediction(name, backbone, heads, losses, n_images)


def _queue_size(n_images: int) -> int:
    return max(2, min(QUEUE, n_images // 2))


def _with_prediction(name: str, backbone: Backbone, heads: Any, losses: Any, n_images: int) -> Method:
    """Build a method in which one view predicts the other."""
    d = backbone.n_features
    if name == "simsiam":
        predict = heads.SimSiamPredictionHead(d, max(d // 4, 16), d)
        return SimSiam(backbone, heads.SimSiamProjectionHead(d, d, d), predict, losses.NegativeCosineSimilarity())
    project, predict = partial(heads.BYOLProjectionHead, d, 4 * d, 256), heads.BYOLPredictionHead(256, 4 * d, 256)
    if name == "byol":
        return BYOL(backbone, project, predict, losses.NegativeCosineSimilarity())
    return MoCoV3(backbone, project, predict, QueueContrast(_queue_size(n_images), 256))
