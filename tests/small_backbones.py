"""Small images and networks for the tests of backbones; import it after torch was found."""

import numpy as np

from clorg_scale import backbones
from clorg_scale.datasets import Images


def shapes(n=192, size=16, n_channels=1, seed=0):
    """Bars that lie, bars that stand, and squares: three classes that a few steps tell apart."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    pixels = rng.integers(0, 60, (n, n_channels, size, size)).astype(np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        y, x = rng.integers(1, size - 9, 2)
        height, width = ((3, 9), (9, 3), (6, 6))[label]
        image[:, y : y + height, x : x + width] += 150
    return Images(pixels, labels, ["lying", "standing", "square"], "shapes")


def small(seed=0, **options):
    return backbones.build("resnet18", n_channels=1, image_size=16, width=4, seed=seed, **options)


def save_images(root, n, seed=0):
    """Pictures of noise: 40 x 60 pixels, dogs brighter than cats."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for name, least in (("cat", 0), ("dog", 150)):
        folder = root / name
        folder.mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(least, least + 100, (40, 60, 3), dtype=np.uint8)).save(folder / f"{i}.png")
