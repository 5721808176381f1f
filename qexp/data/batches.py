"""What all training and test data have in common: how they are asked for batches, and parts that make those."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Batches(Protocol):
    """Batches of `num_images` images in all; an epoch is a function of its number and of what they were made with."""

    num_images: int

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, C, H, W), float32 and channels last, with labels (B,), int64.

        Args:
            epoch: its number, from 0.
            start: the batch to begin with; those before it are not made.
        """


class Dataset(Protocol):
    """Training and test images, which know how to make batches of themselves."""

    def train_batches(
        self,
        batch_size: int,
        *,
        device: torch.device,
        seed: int,
        crop: int,
        flip: bool,
        randaugment: int = 0,
        workers: int,
    ) -> Batches:
        """Return shuffled and augmented training images.

        Args:
            batch_size: images per batch.
            device: where the batches are to lie.
            seed: of order and augmentation, 0 or more.
            crop: pixels of padding around the images that windows are cut out of; 0 for none.
            flip: mirror half of the images, left to right.
            randaugment: magnitude of RandAugment, which comes last; 0 for none.
            workers: processes that decode images, where they are read from files while training; 0 for none.

        Raises:
            UsageError: with one line for the user.
        """

    def test_batches(self, batch_size: int, *, device: torch.device, workers: int) -> Batches:
        """Return the test images, in order; arguments and errors as for training."""


def count_batches(images: int, batch_size: int, *, drop_last: bool = False, drop_single: bool = False) -> int:
    """Return the number of batches.

    Args:
        images: how many there are.
        batch_size: images per batch.
        drop_last: drop a short last batch.
        drop_single: drop a last batch of one image; batch normalisation cannot train on it.
    """
    full, rest = divmod(images, batch_size)
    if rest == 0 or drop_last or (drop_single and rest == 1 and full > 0):
        return full
    return full + 1


def draw_seed(*numbers: int) -> int:
    """Return a seed for a random generator that depends on all `numbers`; trailing zeros change nothing."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class Normalize:
    """Bytes (B, H, W, C) to floats (B, C, H, W), channels last: (x/255 - mean)/std.

    Args:
        mean: C values, for pixels from 0 to 1.
        std: C values, for pixels from 0 to 1.
        width: of the images in pixels.
        device: where the images lie.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], width: int, device: torch.device):
        # As x*scale + shift, repeated along a row of pixels: rows are long enough to vectorise.
        scale, shift = 1 / (255 * np.asarray(std)), -np.asarray(mean) / np.asarray(std)
        self._scale = torch.tensor(scale, dtype=torch.float32, device=device).repeat(width)
        self._shift = torch.tensor(shift, dtype=torch.float32, device=device).repeat(width)

    def __call__(self, pixels: Tensor) -> Tensor:
        # In place: one addcmul with these broadcast rows is 20 times slower on a CPU.
        rows = pixels.flatten(2).float().mul_(self._scale).add_(self._shift)
        return rows.view(pixels.shape).permute(0, 3, 1, 2)
