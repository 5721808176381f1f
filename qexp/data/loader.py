"""Batches from images that stay on the device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from qexp.data.augment import augment_each, flip_and_crop, rand_augment
from qexp.data.batches import Normalize, count_batches, draw_seed, is_held_out
from qexp.data.images import Images
from qexp.utils.errors import UsageError


class Loader:
    """Normalised batches; order and augmentation are a function of (seed, epoch) alone, on every device.

    The last batch may be short, with two exceptions: `drop_last` drops every short batch, and a shuffling loader (one
    for training) drops a last batch of a single image, because batch normalisation cannot train on it.

    Args:
        images: N images of H x W pixels with C channels, kept on the device as bytes.
        mean: C values, for pixels from 0 to 1.
        std: C values, for pixels from 0 to 1.
        batch_size: images per batch.
        device: where the images are kept and the batches are made.
        seed: of order and augmentation, 0 or more.
        crop: cut windows of H x W out of images padded with so many black pixels; 0 for none.
        flip: mirror half of the images, left to right.
        randaugment: magnitude of RandAugment, which comes last and is done on the CPU, image by image; 0 for none.
        shuffle: a new order in each epoch.
        drop_last: only full batches.

    Raises:
        UsageError: the options leave no batch.
    """

    def __init__(
        self,
        images: Images,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        crop: int = 0,
        flip: bool = False,
        randaugment: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
    ):
        channels = images.images.shape[3]
        if len(mean) != channels or len(std) != channels:
            raise ValueError(f"mean and std need {channels} values each, got {len(mean)} and {len(std)}")
        self.num_images = len(images)
        self._batch_size, self._seed, self._crop, self._flip, self._shuffle = batch_size, seed, crop, flip, shuffle
        self._batches = count_batches(len(images), batch_size, drop_last=drop_last, drop_single=shuffle)
        if self._batches == 0:
            raise UsageError(f"batch_size={batch_size}: {len(images)} images give no full batch")
        self._randaugment = rand_augment(randaugment) if randaugment else None
        pixels = torch.from_numpy(images.images)
        pixels = pixels if randaugment else pixels.to(device)
        self._padded = functional.pad(pixels, (0, 0, crop, crop, crop, crop)).contiguous()
        self._labels = torch.from_numpy(images.labels).to(device)
        self._normalize = Normalize(mean, std, images.images.shape[2], device)

    def __len__(self) -> int:
        return self._batches

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, C, H, W), float32 and channels last, with labels (B,), int64, from batch `start` on."""
        order, flips, offsets = self._draw(epoch)
        for batch in range(start, len(self)):
            part = slice(batch * self._batch_size, (batch + 1) * self._batch_size)
            pixels = flip_and_crop(self._padded, order[part], flips[part], offsets[part], self._crop)
            if self._randaugment:
                seeds = [draw_seed(self._seed, epoch, index + 1) for index in order[part].tolist()]
                pixels = augment_each(pixels, self._randaugment, seeds).to(self._labels.device)
            yield self._normalize(pixels), self._labels[order[part]]

    def _draw(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw order (N,), flips (N,) and offsets (N, 2) of an epoch: on the CPU, so that devices agree."""
        generator = torch.Generator()
        generator.manual_seed(draw_seed(self._seed, epoch))
        count, device = self.num_images, self._padded.device
        order = torch.randperm(count, generator=generator)
        flips = torch.rand(count, generator=generator) < 0.5
        offsets = torch.randint(0, 2 * self._crop + 1, (count, 2), generator=generator)
        if not self._shuffle:
            order = torch.arange(count)
        return order.to(device), (flips & self._flip).to(device), offsets.to(device)


@dataclass(frozen=True, eq=False)
class InMemory:
    """Images in memory to train on, to test on, and held out; `mean` and `std` per channel, pixels 0..1.

    Nothing is left for workers.
    """

    train: Images
    test: Images
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    held_out: Images | None = None

    def train_batches(
        self,
        batch_size: int,
        *,
        device: torch.device,
        seed: int,
        crop: int,
        flip: bool,
        randaugment: int = 0,
        workers: int = 0,
    ) -> Loader:
        """Return shuffled and augmented training images; see `qexp.data.batches.Dataset`."""
        return Loader(
            self.train,
            mean=self.mean,
            std=self.std,
            batch_size=batch_size,
            device=device,
            seed=seed,
            crop=crop,
            flip=flip,
            randaugment=randaugment,
            shuffle=True,
        )

    def test_batches(self, batch_size: int, *, device: torch.device, workers: int = 0) -> Loader:
        """Return the test images, in order."""
        return Loader(self.test, mean=self.mean, std=self.std, batch_size=batch_size, device=device)

    def holding_out(self, count: int, seed: int) -> "InMemory":
        """Return these data with `count` images less to train on; see `qexp.data.batches.Dataset`."""
        chosen = is_held_out(self.train.labels, count, seed)
        return replace(self, train=self.train.where(~chosen), held_out=self.train.where(chosen))

    def held_out_batches(self, batch_size: int, *, device: torch.device, workers: int = 0) -> Loader:
        """Return the images that are held out, in order."""
        assert self.held_out is not None, "nothing is held out"
        return Loader(self.held_out, mean=self.mean, std=self.std, batch_size=batch_size, device=device)
