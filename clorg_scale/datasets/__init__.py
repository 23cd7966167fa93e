"""Data to measure on: real images that need no download, and synthetic mixtures of any size."""

from clorg_scale.datasets.digits import load_digits
from clorg_scale.datasets.fashion_mnist import FASHION_MNIST_CLASSES, load_fashion_mnist

__all__ = [
    "FASHION_MNIST_CLASSES",
    "load_digits",
    "load_fashion_mnist",
]
