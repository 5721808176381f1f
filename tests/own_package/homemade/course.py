"""How it is trained: an augmentation that draws from both generators it may draw from, and a schedule."""

import torch
from torch import Tensor

from qexp.utils.types import Count, NonNegativeInt


def shift(images: Tensor, generator: torch.Generator, *, most: NonNegativeInt) -> Tensor:
    """Roll all images of a batch by up to `most` pixels, and add a little noise."""
    rows, columns = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
    noise = torch.randn(images.shape).to(images.device)  # from torch's default generator, as torchvision's transforms
    return images.roll((rows, columns), (2, 3)) + 0.01 * noise


def sawtooth(done: float, *, teeth: Count) -> float:
    """Fall from 1 towards 0, as many times as there are teeth."""
    return 1 - done * teeth % 1
