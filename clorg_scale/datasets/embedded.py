"""Embeddings that ship with the package: Fashion-MNIST by two small networks, one contrastive, one supervised."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from clorg_scale.errors import InputError
from clorg_scale.store import StoredEmbeddings, load_embeddings

__all__ = ["load_fashion_mnist_embeddings"]

Network = Literal["contrastive", "supervised"]

FOLDER = Path(__file__).parent / "fashion_mnist_embeddings"
"""README.md in it is the model card: how the networks were trained, and how well they do."""


def load_fashion_mnist_embeddings(
    network: Network = "contrastive", split: Literal["train", "test"] = "test"
) -> StoredEmbeddings:
    """Load real embeddings that need neither images nor training.

    The first 10,000 training images and the 10,000 test images of Fashion-MNIST, embedded by a narrow ResNet-18 that
    was trained on all 60,000 training images: with SimCLR, which never saw a label, or supervised.

    Parameters
    ----------
    network
        "contrastive" or "supervised".
    split
        "train" or "test"; the network was trained on the former.

    Returns
    -------
    Embeddings (10,000, 128) float16, memory-mapped; labels (10,000,) int64; metadata, the training in it.

    Raises
    ------
    InputError
        If there is no such network or split.
    """
    if network not in get_args(Network) or split not in ("train", "test"):
        raise InputError(
            f"There are embeddings of the networks 'contrastive' and 'supervised' and the splits 'train' and 'test', "
            f"not of {network!r} and {split!r}."
        )
    return load_embeddings(FOLDER / f"{network}-{split}")
