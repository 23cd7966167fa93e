"""Small networks and images for the tests of training and embedding; import it after torch was found."""

import numpy as np
import torch
from PIL import Image

from clorg_scale import backbones
from clorg_scale.datasets import Images


def noise(n=24, seed=0, name="noise", size=8):
    rng = np.random.default_rng(seed)
    return Images(rng.integers(0, 255, (n, 1, size, size)).astype(np.uint8), np.arange(n) % 3, ["a", "b", "c"], name)


def small(seed=0, width=2):
    return backbones.build("resnet18", n_channels=1, image_size=8, width=width, seed=seed)


def flat():
    """A network without weights: the mean of each row of pixels."""
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((8, 1)), torch.nn.Flatten())


def save_images(root, n=4, names=("cat", "dog"), seed=0, size=24):
    rng = np.random.default_rng(seed)
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


def cut_off_after(model, n_batches):
    """The model, interrupted after so many batches; the first image alone, for the width, is one."""
    left = [n_batches]

    def count(*_):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    handle = model.register_forward_pre_hook(count)
    return model, handle
