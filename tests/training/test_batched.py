"""Augmentations of whole batches: each image by its own draws. Oracle: torchvision's, image by image."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.training import noise_set
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as theirs

from training import batched
from training.augment import Views
from training.batched import BATCHED
from training.recipes import Recipe

SIDE = 16, 16


def photos(count: int, height: int = 24, width: int = 32) -> torch.Tensor:
    """uint8 (count, 3, height, width) of noise, smooth enough that a pixel's neighbours are like it."""
    torch.manual_seed(1)
    coarse = torch.rand(count, 3, 6, 8)
    return (255 * torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")).to(torch.uint8)


@pytest.mark.parametrize("name", BATCHED)
def test_what_is_shown_follows_seed_epoch_and_image_not_the_batch(name):
    count = 600
    images = noise_set(count, side=16).images
    recipe = Recipe(epochs=2, augment=(name,))

    def shown(seed: int, epoch: int, index: list[int]) -> torch.Tensor:
        positions = torch.tensor(index)
        return Views(count, recipe, SIDE, seed, epoch)(images[positions], positions)

    together = shown(0, 0, list(range(count)))
    assert together.dtype == torch.uint8 and together.shape == images.shape
    alone = torch.cat([shown(0, 0, [i]) for i in reversed(range(32))]).flip(0)
    assert torch.equal(alone, together[:32])
    changed = (together != images).flatten(1).any(1).float().mean().item()
    # An angle below 3.8 degrees moves no pixel of 16x16 to the next, nor does a small shift.
    chance = {"blur": 0.3, "erase": 0.25, "rotate": 0.75, "affine": 0.99}.get(name, 1.0)
    assert abs(changed - chance) < 4 * math.sqrt(chance * (1 - chance) / count) + 1e-6
    assert not torch.equal(shown(0, 1, list(range(count))), together)
    assert not torch.equal(shown(1, 0, list(range(count))), together)


def test_cutout_hides_a_quarter_of_each_side_in_grey():
    white = torch.full((4, 3, 32, 32), 255, dtype=torch.uint8)
    hidden = Views(4, Recipe(epochs=1, augment=("cutout",)), (32, 32), 0, 0)(white, torch.arange(4))
    assert set(hidden.unique().tolist()) == {128, 255}
    assert all(0 < (each[0] == 128).sum() <= 8 * 8 for each in hidden)


def test_zoom_shows_a_part_of_the_image_enlarged():
    """On a ramp, a window has a smaller range of values and keeps their order."""
    ramp = torch.arange(0, 256, 8, dtype=torch.uint8).expand(4, 3, 32, 32)
    shown = Views(4, Recipe(epochs=1, augment=("zoom",)), (32, 32), 0, 0)(ramp, torch.arange(4)).int()
    assert (shown.diff(dim=3) >= 0).all()
    assert all(each.max() - each.min() < 31 * 8 for each in shown)


def test_rotations_are_torchvisions():
    images, draws = photos(6), torch.tensor([[0.0, 0.2, 0.5, 0.7, 0.9, 1.0]])
    for image, shown, draw in zip(images, batched.turned(images, draws), draws[0], strict=True):
        expected = theirs.rotate(image, -(-15 + 30 * draw.item()))
        assert (shown != expected).float().mean() < 0.01  # a pixel half-way between two
    assert torch.equal(batched.turned(images, draws)[2], images[2])


def test_affine_transformations_are_torchvisions():
    images, draws = photos(6), torch.rand(5, 6, generator=torch.Generator().manual_seed(2))
    for image, shown, draw in zip(images, batched.moved(images, draws), draws.T.tolist(), strict=True):
        turn, shear, scale, across, down = draw
        shift = [round((0.2 * across - 0.1) * 32), round((0.2 * down - 0.1) * 24)]
        expected = theirs.affine(image, 20 * turn - 10, shift, 0.9 + 0.2 * scale, [10 * shear - 5, 0.0])
        assert (shown != expected).float().mean() < 0.01
        assert (shown != image).float().mean() > 0.3


def test_blur_is_torchvisions():
    images, draws = photos(6), torch.tensor([[0.0, 0.1, 0.2, 0.29, 0.3, 0.9], [0.0, 0.3, 0.6, 1.0, 0.5, 0.5]])
    shown = batched.blurred(images, draws)
    for i in range(4):
        expected = theirs.gaussian_blur(images[i], [3, 3], [0.1 + 1.9 * draws[1, i].item()] * 2)
        assert (shown[i].int() - expected.int()).abs().max() <= 1
    assert torch.equal(shown[4:], images[4:])
    assert not torch.equal(shown[3], images[3])


def test_what_is_erased_is_a_rectangle_of_torchvisions_areas():
    count = 4000
    white = torch.full((count, 1, 32, 32), 255, dtype=torch.uint8)
    draws = torch.rand(5, count, generator=torch.Generator().manual_seed(3))
    draws[0] = 0.0  # the chance is tested above
    shown = batched.erased(white, draws)
    torch.manual_seed(4)
    erase = v2.RandomErasing(p=1.0)
    expected = torch.stack([erase(image) for image in white])
    sizes = []
    for some in (shown, expected):
        gone = some[:, 0] == 0
        rows, columns = gone.any(2).sum(1), gone.any(1).sum(1)
        assert torch.equal(rows * columns, gone.sum((1, 2)))  # a whole rectangle
        sizes.append(torch.stack([rows, columns]).float().mean(1))
    torch.testing.assert_close(sizes[0], sizes[1], rtol=0.06, atol=0)
