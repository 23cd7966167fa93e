"""Backbones: networks that map images to embeddings; their training, contrastive or supervised, and their use."""

from clorg_scale.backbones.architectures import Backbone, build
from clorg_scale.backbones.augmentation import Augmentation
from clorg_scale.backbones.checkpoints import load_backbone
from clorg_scale.backbones.embedding import embed
from clorg_scale.backbones.events import EventLog
from clorg_scale.backbones.methods import METHODS
from clorg_scale.backbones.processes import first_process
from clorg_scale.backbones.recording import Recorder
from clorg_scale.backbones.training import Epoch, train

__all__ = [
    "METHODS",
    "Augmentation",
    "Backbone",
    "Epoch",
    "EventLog",
    "Recorder",
    "build",
    "embed",
    "first_process",
    "load_backbone",
    "train",
]
