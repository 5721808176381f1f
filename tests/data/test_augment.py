"""Flips and crops against a loop over images."""

import numpy as np
import pytest
import torch

from qexp.data.augment import flip_and_crop
from support.sources import literal, random_images


@pytest.mark.parametrize("crop", [0, 1, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_flip_and_crop_equals_a_loop_over_images(crop: int, channels: int) -> None:
    images = random_images(40, channels=channels).images
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(0, 40, (64,), generator=generator)
    flips = torch.rand(64, generator=generator) < 0.5
    offsets = torch.randint(0, 2 * crop + 1, (64, 2), generator=generator)
    padded = torch.from_numpy(np.pad(images, ((0, 0), (crop, crop), (crop, crop), (0, 0))))
    result = flip_and_crop(padded, picks, flips, offsets, crop)
    assert result.dtype == torch.uint8
    for index in range(64):
        top, left = offsets[index].tolist()
        expected = literal(images[picks[index]], bool(flips[index]), top, left, crop)
        assert np.array_equal(result[index].numpy(), expected)
