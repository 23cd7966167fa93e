"""Random views of a batch of images, different for each image, computed on the device of the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from clorg_scale.whole import real_number

__all__ = ["Augmentation", "rotate_hue"]

GRAY = (0.299, 0.587, 0.114)
"""Luminance of red, green and blue (ITU-R BT.601)."""


HUE = math.pi / 5
"""Largest rotation of the hue at strength 1: a tenth of the circle."""


class Augmentation:
    """Random crop, flip, color jitter and blur of SimCLR (arXiv 2002.05709), for whole batches at once.

    Parameters
    ----------
    strength
        From 0 to 2. 0 leaves images as they are; 1 is the strength of contrastive training: crops down to a fifth of
        the area, brightness, contrast and saturation within 40 %, hue within 36 degrees, a fifth of the images gray.
        Other strengths scale these in proportion.
    blur
        Blur half of the images.

    Raises
    ------
    InputError
        If the strength is out of range.
    """

    def __init__(self, strength: float = 1.0, *, blur: bool = False) -> None:
        self.strength, self.blur = real_number("strength", strength, most=2), blur

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one view of each image.

        Parameters
        ----------
        images
            (b, c, h, w) in [0, 1].
        generator
            Random generator on the device of the images.

        Returns
        -------
        (b, c, h, w) in [0, 1].
        """
        if self.strength == 0:
            return images
        views = self._colors(self._crop_and_flip(images, generator), generator)
        return self._blurred(views, generator) if self.blur else views

    def _crop_and_flip(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Crop, resize and mirror at random, in one bilinear resampling."""
        b = len(images)
        least = max(0.08, 1 - 0.8 * self.strength)
        area = self._uniform(images, generator, least, 1.0)
        ratio = torch.exp(self._uniform(images, generator, math.log(3 / 4), math.log(4 / 3)))
        wide, high = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        mirror = torch.where(self._uniform(images, generator, 0, 1) < 0.5, -1.0, 1.0)
        theta = images.new_zeros(b, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = wide * mirror, high
        theta[:, 0, 2] = self._uniform(images, generator, -1, 1) * (1 - wide)
        theta[:, 1, 2] = self._uniform(images, generator, -1, 1) * (1 - high)
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def _colors(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change brightness, contrast, saturation and hue of four fifths of the images; some become gray."""
        spread = min(0.4 * self.strength, 0.95)
        factors = [self._uniform(images, generator, 1 - spread, 1 + spread).view(-1, 1, 1, 1) for _ in range(3)]
        jitter = (self._uniform(images, generator, 0, 1) < 0.8).view(-1, 1, 1, 1)
        result = images * factors[0]
        mean = result.mean(dim=(1, 2, 3), keepdim=True)
        result = mean + (result - mean) * factors[1]
        if images.shape[1] == 3:
            gray = (result * result.new_tensor(GRAY).view(1, 3, 1, 1)).sum(1, keepdim=True)
            colorless = (self._uniform(images, generator, 0, 1) < 0.2 * self.strength).view(-1, 1, 1, 1)
            most = HUE * self.strength
            angles = self._uniform(images, generator, -most, most).view(-1, 1, 1, 1)
            result = torch.where(colorless, gray, gray + rotate_hue(result - gray, angles) * factors[2])
        return torch.where(jitter, result, images).clamp_(0, 1)

    def _blurred(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Blur half of the images by a Gaussian of 0.1 to 2 pixels, different for each image."""
        b, c, height, width = images.shape
        sigma = self._uniform(images, generator, 0.1, 2.0)
        reach = torch.arange(-6, 7, device=images.device, dtype=images.dtype)
        kernel = torch.exp(-(reach**2) / (2 * sigma[:, None] ** 2))
        kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)
        flat = functional.pad(images.reshape(1, b * c, height, width), (6, 6, 6, 6), mode="reflect")
        flat = functional.conv2d(flat, kernel[:, None, None, :], groups=b * c)
        flat = functional.conv2d(flat, kernel[:, None, :, None], groups=b * c)
        chosen = (self._uniform(images, generator, 0, 1) < 0.5).view(-1, 1, 1, 1)
        return torch.where(chosen, flat.view_as(images), images)

    @staticmethod
    def _uniform(images: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
        """Draw (b,) uniform numbers."""
        return (
            torch.rand(len(images), generator=generator, device=images.device, dtype=images.dtype) * (high - low) + low
        )


def rotate_hue(colors: Tensor, angles: Tensor) -> Tensor:
    """Rotate colors (b, 3, h, w) about the gray axis by angles (b, 1, 1, 1); 120 degrees turn red into green.

    With u = (1, 1, 1) / sqrt(3):  v cos a + (u x v) sin a + u (u v) (1 - cos a)   (Rodrigues).
    """
    across = (colors.roll(1, 1) - colors.roll(-1, 1)) / math.sqrt(3)
    along = colors.mean(1, keepdim=True)
    return colors * angles.cos() + across * angles.sin() + along * (1 - angles.cos())
