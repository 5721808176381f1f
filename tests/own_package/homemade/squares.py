"""Squares: images with a bright square in one of four corners, in noise."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qexp.data.datasets import Images, MemorySource
from qexp.utils.types import NonNegativeInt


@dataclass(frozen=True, kw_only=True)
class Squares(MemorySource):
    seed: NonNegativeInt
    name: str = field(init=False, default="squares")
    classes: int = field(init=False, default=4)
    channels: int = field(init=False, default=2)
    image_size: int = field(init=False, default=8)

    def counts(self, data_dir: Path, *, download: bool = True) -> tuple[int, int]:
        return 128, 64

    def read(self, data_dir: Path) -> tuple[Images, Images]:
        return self._draw(128, 1), self._draw(64, 2)

    def _draw(self, count: int, stream: int) -> Images:
        random = np.random.RandomState([self.seed, stream])
        labels = random.permutation(np.arange(count) % 4)
        images = random.randint(0, 120, (count, 8, 8, 2))
        for image, label in zip(images, labels, strict=True):
            top, left = divmod(label, 2)
            image[4 * top : 4 * top + 4, 4 * left : 4 * left + 4] += 100
        return Images(images.astype(np.uint8), labels.astype(np.int64))
