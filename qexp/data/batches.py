"""What all training and test data have in common: how they are asked for batches, and parts that make those."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
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

    def holding_out(self, count: int, seed: int) -> "Dataset":
        """Return the same data with `count` images less to train on, which `is_held_out` chooses by their labels."""

    def held_out_batches(self, batch_size: int, *, device: torch.device, workers: int) -> Batches:
        """Return the images that are held out, in order and as test images are; other arguments as for those."""


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


def is_held_out(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.bool_]:
    """Choose `count` images at random, equally many of each class as far as it has them.

    Of every class one image at least is left to train on. Where `count` is no multiple of the number of classes, the
    first classes have one more.

    Args:
        labels: (N,) of all images.
        count: at most N less one image for each class.
        seed: of the choice, 0 or more.

    Returns:
        (N,), true for the images that are chosen.
    """
    # Not numpy's newer generators, whose streams may change. Only the seeds of `Mixed` have four numbers as well.
    order = np.random.RandomState(draw_seed(seed, 0, 0, 2) % 2**32).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # class by class
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels[order]]
    is_last = rank == counts[labels[order]] - 1
    chosen = np.zeros(len(labels), dtype=np.bool_)
    chosen[order[np.lexsort((labels[order], rank, is_last))[:count]]] = True
    return chosen


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
