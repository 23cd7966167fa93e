"""Random views of images."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from clorg_scale.backbones.augmentation import Augmentation, rotate_hue


@pytest.mark.parametrize("n_channels", [1, 3])
def test_each_image_has_views_of_its_own_and_the_generator_decides_them(n_channels):
    images = torch.rand(1, n_channels, 64, 64).expand(16, -1, -1, -1).contiguous()
    augment = Augmentation(1.0, blur=True)
    views = augment(images, torch.Generator().manual_seed(1))
    assert views.shape == images.shape
    assert views.min() >= 0
    assert views.max() <= 1
    flat = views.flatten(1)
    assert (torch.cdist(flat, flat) + 10 * torch.eye(16)).min() > 0.1
    torch.testing.assert_close(views, augment(images, torch.Generator().manual_seed(1)), rtol=0, atol=0)
    assert not torch.equal(views, augment(images, torch.Generator().manual_seed(2)))
    assert torch.equal(Augmentation(0)(images, torch.Generator()), images)


def test_a_crop_is_a_part_of_the_image_enlarged():
    """A horizontal ramp stays one under crop and flip: views are linear in x, no steeper than the image."""
    ramp = torch.linspace(0, 1, 32).expand(64, 1, 32, 32).contiguous()
    views = Augmentation(1.0)._crop_and_flip(ramp, torch.Generator().manual_seed(0))
    slope = views[:, 0, :, 1:] - views[:, 0, :, :-1]
    inner = slope[:, 4:-4, 4:-4]
    assert torch.allclose(inner, inner[:, :1, :1].expand_as(inner), atol=2e-3)
    steepness = inner[:, 0, 0].abs() * 31
    assert steepness.max() <= 1 + 1e-3
    assert steepness.min() < 0.7
    assert (inner[:, 0, 0] < 0).float().mean().item() == pytest.approx(0.5, abs=0.25)  # 64 coins: four sigma


def test_a_turn_of_the_hue_takes_one_color_to_the_next_and_leaves_grays():
    colors = torch.rand(2, 3, 4, 4)
    third = torch.full((2, 1, 1, 1), 2 * np.pi / 3)
    torch.testing.assert_close(rotate_hue(colors, third), colors.roll(1, dims=1))
    torch.testing.assert_close(rotate_hue(colors, 0 * third), colors)
    torch.testing.assert_close(rotate_hue(rotate_hue(colors, third / 5), -third / 5), colors)
    grays = torch.rand(2, 1, 4, 4).expand(-1, 3, -1, -1)
    torch.testing.assert_close(rotate_hue(grays, third / 7), grays)
