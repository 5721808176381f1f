"""The plain container that sources fill and loaders read."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images: `images` (N, H, W, C) uint8 and `labels` (N,) int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int | None) -> "Images":
        """Return the first `count` images, or all of them for None."""
        return Images(self.images[:count], self.labels[:count])

    def where(self, chosen: NDArray[np.bool_]) -> "Images":
        """Return the images for which `chosen` (N,) is true."""
        return Images(self.images[chosen], self.labels[chosen])
