"""Random flips and crops for a whole batch, RandAugment image by image, augmentations of the user's own, mixing."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from qexp.data.batches import Batches, draw_seed
from qexp.utils.errors import QexpError, UsageError
from qexp.utils.text import kind_of_value

OwnAugment = Callable[[Tensor, torch.Generator], Tensor]  # images and a generator on the CPU to images

# Last of the numbers that the seed of a batch is drawn from: no other draw has such four. 2 is of held-out images.
_OF_MIXING, _OF_OWN = 1, 3


def flip_and_crop(padded: Tensor, picks: Tensor, flips: Tensor, offsets: Tensor, crop: int) -> Tensor:
    """Take images out of `padded`, flip some horizontally, then cut a window out of each.

    The padding is symmetric, so flipping the padded image is the same as padding the flipped one.

    Args:
        padded: (M, H + 2 crop, W + 2 crop, C), images with `crop` pixels of padding on each side.
        picks: (N,) int64, which images to take.
        flips: (N,) bool, which of these to flip.
        offsets: (N, 2) int64 in 0..2 crop, upper left corner (row, column) of the windows.
        crop: pixels of padding.

    Returns:
        (N, H, W, C), of the type of `padded`.
    """
    _, padded_height, padded_width, channels = padded.shape
    height, width = padded_height - 2 * crop, padded_width - 2 * crop
    rows = offsets[:, :1] + torch.arange(height, device=padded.device)
    columns = offsets[:, 1:] + torch.arange(width, device=padded.device)
    columns = torch.where(flips[:, None], padded_width - 1 - columns, columns)
    # One flat gather of whole pixels: on a CPU twice as fast as padded[picks, rows, columns].
    rows = picks[:, None] * padded_height + rows
    pixels = rows[:, :, None] * padded_width + columns[:, None, :]
    gathered = padded.view(-1, channels).index_select(0, pixels.flatten())
    return gathered.view(len(picks), height, width, channels)


def rand_augment(magnitude: int) -> v2.RandAugment:
    """Return RandAugment (Cubuk et al., arXiv 1909.13719) with two operations, as in torchvision's own recipes."""
    return v2.RandAugment(num_ops=2, magnitude=magnitude)


def augment_each(pixels: Tensor, transform: v2.Transform, seeds: Sequence[int]) -> Tensor:
    """Return images that a transform changed one by one; torch's own random numbers stay as they are.

    Not for a batch at once: torchvision draws one operation a call, and all images of a batch would get the same.

    Args:
        pixels: (N, H, W, C) bytes on the CPU, of 1 or 3 channels.
        transform: of PIL images, as for those that are read from files; draws from torch's default generator.
        seeds: of that generator, one for each image.
    """
    with torch.random.fork_rng(devices=[]):
        found = []
        for image, seed in zip(pixels, seeds, strict=True):
            torch.default_generator.manual_seed(seed)
            found.append(pil_to_tensor(transform(to_pil_image(image.permute(2, 0, 1)))))
    return torch.stack(found).permute(0, 2, 3, 1)


class Augmented:
    """Batches whose images an augmentation of the user's own has changed.

    What it draws is a function of (seed, epoch, batch) alone: it is given a generator, and torch's own on the CPU is
    seeded while it runs, for transforms that draw from that, and put back.

    Args:
        batches: of images and labels, which stay.
        function: from images (B, C, H, W), normalized, float32, on their device, and a generator on the CPU to images
            of the same shape and type there; it may change those it is given.
        seed: of the draws, 0 or more.
    """

    def __init__(self, batches: Batches, function: OwnAugment, seed: int):
        self.num_images = batches.num_images
        self._batches, self._function, self._seed = batches, function, seed

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels from batch `start` on; raise QexpError where the function gives no images."""
        for batch, (images, labels) in enumerate(self._batches.epoch(epoch, start), start):
            seed = draw_seed(self._seed, epoch, batch, _OF_OWN)
            shape = torch.empty_like(images, device="meta")
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                found = self._function(images, torch.Generator().manual_seed(seed))
            try:
                check_augmented(found, shape, images.device)
            except UsageError as error:
                raise QexpError(f"recipe.augment: {error}, in epoch {epoch + 1}, batch {batch + 1}") from error
            yield found.contiguous(memory_format=torch.channels_last), labels


def check_augmented(found: object, images: Tensor, device: torch.device | None = None) -> None:
    """Raise UsageError where an augmentation gave something else than such images, on their device or another."""
    device = device or images.device
    if not isinstance(found, Tensor):
        raise UsageError(f"gives {kind_of_value(found)}, and must give a tensor")
    if found.shape != images.shape:
        raise UsageError(
            f"gives a tensor {tuple(found.shape)} for images {tuple(images.shape)}, and must keep the shape"
        )
    if found.dtype != images.dtype:
        raise UsageError(f"gives {found.dtype} for {images.dtype}, and must keep the type")
    if found.device != device:
        raise UsageError(f"gives a tensor on {found.device} for images on {device}, and must leave them there")
    if found.is_inference():
        raise UsageError("gives an inference tensor (of torch.inference_mode), with which nothing can be trained")
    if found.requires_grad:
        raise UsageError("gives a tensor that wants a gradient; images have none")


class Mixed:
    """Batches in which each image is mixed with the one before it, by mixup or CutMix, and its label likewise.

    mixup blends (Zhang et al., ICLR 2018, arXiv 1710.09412), CutMix pastes a box (Yun et al., ICCV 2019, arXiv
    1905.04899); one share and one box for a batch, as in torchvision's `v2.MixUp` and `v2.CutMix`. What is drawn is a
    function of (seed, epoch, batch) alone.

    Args:
        batches: of images and labels (B,).
        classes: how many there are.
        mixup: alpha of the Beta distribution of the share, 0 for no mixup.
        cutmix: the same for CutMix; with both, a coin chooses for each batch.
        seed: of the draws, 0 or more.
    """

    def __init__(self, batches: Batches, *, classes: int, mixup: float, cutmix: float, seed: int):
        self.num_images = batches.num_images
        self._batches, self._classes, self._mixup, self._cutmix, self._seed = batches, classes, mixup, cutmix, seed

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, C, H, W) with probabilities of their classes (B, classes), from batch `start` on."""
        for batch, (images, labels) in enumerate(self._batches.epoch(epoch, start), start):
            # Not numpy's newer generators, whose streams may change from version to version.
            draw = np.random.RandomState(draw_seed(self._seed, epoch, batch, _OF_MIXING) % 2**32)
            cuts = draw.rand() < 0.5 if self._mixup and self._cutmix else bool(self._cutmix)
            alpha = self._cutmix if cuts else self._mixup
            share = draw.beta(alpha, alpha)
            if cuts:
                images, share = paste(
                    images, share, row=draw.randint(images.shape[2]), column=draw.randint(images.shape[3])
                )
            else:
                images = images.roll(1, 0).mul_(1 - share).add_(images.mul(share))
            one_hot = functional.one_hot(labels, self._classes).float()
            yield images, one_hot.roll(1, 0).mul_(1 - share).add_(one_hot.mul(share))


def paste(images: Tensor, share: float, *, row: int, column: int) -> tuple[Tensor, float]:
    """Return images (B, C, H, W) with a box of the image before each, and the share of pixels that are its own.

    Args:
        images: (B, C, H, W), which stay as they are.
        share: of an image that is to stay; the box is as high and wide, relatively, and is cut off at the borders.
        row: of the middle of the box.
        column: of the middle of the box.
    """
    height, width = images.shape[2:]
    half = 0.5 * math.sqrt(1 - share)
    top, bottom = max(row - int(half * height), 0), min(row + int(half * height), height)
    left, right = max(column - int(half * width), 0), min(column + int(half * width), width)
    pasted = images.clone()
    pasted[:, :, top:bottom, left:right] = images.roll(1, 0)[:, :, top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)
