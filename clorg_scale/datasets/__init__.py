"""Data sets: real images that need no download, and synthetic mixtures of any size."""

from clorg_scale.datasets.digits import load_digits
from clorg_scale.datasets.embedded import load_fashion_mnist_embeddings
from clorg_scale.datasets.fashion_mnist import FASHION_MNIST_CLASSES, load_fashion_mnist
from clorg_scale.datasets.images import ImageFiles, Images, ImageSet
from clorg_scale.datasets.loading import IMAGE_SETS, load_images
from clorg_scale.datasets.mixtures import Mixture, compact_mixture, locally_dense_mixture

__all__ = [
    "FASHION_MNIST_CLASSES",
    "IMAGE_SETS",
    "ImageFiles",
    "ImageSet",
    "Images",
    "Mixture",
    "compact_mixture",
    "load_digits",
    "load_fashion_mnist",
    "load_fashion_mnist_embeddings",
    "load_images",
    "locally_dense_mixture",
]
