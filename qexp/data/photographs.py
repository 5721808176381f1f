"""Photographs of one's own, in folders of classes, with a split of their own."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from qexp.data.folder import ImageFiles, find_images, unreadable
from qexp.data.imagenet import ImageNet
from qexp.utils.errors import UsageError
from qexp.utils.types import Fraction, NonNegativeInt

LOOK_SECONDS = 10.0  # at most, for each split: about 100,000 images


@dataclass(frozen=True, kw_only=True)
class Photographs(ImageNet):
    """Photographs in `<path>/<train>/<class>/` and `<path>/<test>/<class>/`, or split by chance; else as ImageNet.

    Args:
        path: the folder; relative to the folder of datasets.
        train: the folder in it with the training images, `.` for itself.
        test: the one with the test images; None to take them out of the training images.
        fraction: of the images of each class that is taken out for testing, where `test` is None; one image at least.
        split_seed: of that choice.
    """

    path: str
    train: str
    test: str | None
    fraction: Fraction
    split_seed: NonNegativeInt
    name: str = field(init=False, default="folder")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path:
            raise UsageError("dataset.path: names the folder with the images, such as dataset.path=flowers")
        for key in ("train", "test"):
            value = getattr(self, key)
            if value is not None and (not value or PurePosixPath(value).is_absolute() or ".." in value.split("/")):
                raise UsageError(f"dataset.{key}={value}: must be a folder inside of dataset.path, such as {key}")
        if self.test is None and not 0 < self.fraction < 1:
            raise UsageError(f"dataset.fraction={self.fraction:g}: must lie between 0 and 1 where dataset.test is null")
        if self.test is not None and self.fraction:
            raise UsageError(f"dataset.fraction={self.fraction:g}: goes with dataset.test=null, not with a test folder")

    def root(self, data_dir: Path) -> Path:
        return data_dir / os.path.expanduser(self.path)

    def counts(self, data_dir: Path, *, download: bool = True) -> tuple[int, int]:
        found = super().counts(data_dir)  # there is nothing to download, and no number without the files
        if download:
            self._check_images(self.root(data_dir))
        return found

    def _check_images(self, root: Path) -> None:
        """Raise UsageError where images cannot be read: in the middle of a training it would be too late.

        To replace one then would make other data of these, and another run of the one that began.
        """
        problems = [one for split in ("train", "val") for one in unreadable(self.chosen(root, split), LOOK_SECONDS)]
        if problems:
            path, reason = problems[0]
            more = f", nor can {len(problems) - 1:,} more" if problems[1:] else ""
            raise UsageError(f"{path}: cannot be read as an image ({reason}){more}; replace or remove it")

    def find(self, root: Path, split: str) -> ImageFiles:
        if not root.is_dir():
            raise UsageError(f"dataset.path={self.path}: there is no folder {root}; dataset.path=DIR names another one")
        name = self.train if split == "train" or self.test is None else self.test
        if not (folder := root / name).is_dir():
            key = "train" if split == "train" or self.test is None else "test"
            raise UsageError(f"dataset.{key}={name}: there is no folder {folder}")
        files = self.check_classes(find_images(folder))
        return files if self.test is not None else self._part(files, split)

    def _part(self, files: ImageFiles, split: str) -> ImageFiles:
        """Return the images of one side of a split by chance, which takes the same fraction of every class."""
        is_test = np.zeros(len(files), dtype=bool)
        for label, name in enumerate(files.classes):
            own = np.flatnonzero(files.labels == label)
            if len(own) < 2:
                raise UsageError(f"{files.folder / name}: one image cannot be split into training and testing")
            count = min(max(1, round(self.fraction * len(own))), len(own) - 1)
            is_test[np.random.RandomState([self.split_seed, label]).permutation(own)[:count]] = True
        chosen = is_test if split != "train" else ~is_test
        return replace(files, names=files.names[chosen], labels=files.labels[chosen])
