"""The data sets: each is a class whose fields are the options of its YAML file."""

import errno
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from torchvision import datasets

from qexp.data import npz
from qexp.data.batches import Dataset
from qexp.data.download import Download, cifar, mnist
from qexp.data.images import Images
from qexp.data.loader import InMemory
from qexp.utils.errors import UsageError
from qexp.utils.types import Count, Fraction, Positive, Range

__all__ = ["MNIST", "Cifar10", "Cifar100", "Dataset", "Digits", "Images", "MemorySource", "Source", "Synthetic"]


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Where images come from.

    `name`, `classes`, `channels` and `image_size` (pixels) are known without loading anything; a subclass sets them as
    class attributes, or makes them options.

    Args:
        train_size: use only so many training images, the first unless the subclass says otherwise; None for all.
        test_size: use only so many test images, likewise; None for all.
        mean: per channel, for pixels from 0 to 1.
        std: per channel, for pixels from 0 to 1.
    """

    train_size: Count | None
    test_size: Count | None
    mean: tuple[Fraction, ...]
    std: tuple[Positive, ...]

    name: str = field(init=False)
    classes: int = field(init=False)
    channels: int = field(init=False)
    image_size: int = field(init=False)
    cuts_windows: ClassVar[bool] = False  # random windows of its own, so that a recipe's crop has no meaning

    def prepare(self, data_dir: Path, *, download: bool = True) -> tuple[int, int]:
        """Make sure that the data are there and fit the options, without loading them.

        Args:
            data_dir: the folder of datasets.
            download: fetch what is missing; if false, missing files are no error yet.

        Returns:
            The numbers of training and test images that the options choose.

        Raises:
            UsageError: with one line for the user.
        """
        self._check_statistics()
        try:
            if data_dir.exists() and not data_dir.is_dir():
                raise UsageError(f"data_dir={data_dir}: is a file; it must be the folder of datasets")
            train, test = self.counts(data_dir, download=download)
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO)
            raise UsageError(f"{error.filename or data_dir}: cannot be read ({reason})") from error
        self._check_size("train_size", train, "training images")
        self._check_size("test_size", test, "test images")
        return self.train_size or train, self.test_size or test

    def memory_bytes(self, train: int, test: int) -> int:
        """Return about how many bytes so many training and test images take."""
        return 0

    def _check_statistics(self) -> None:
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                shown = ",".join(f"{value:g}" for value in values)
                raise UsageError(f"dataset.{key}=[{shown}]: {self.name} needs {self.channels}, one per channel")

    def _check_size(self, option: str, found: int, images: str) -> None:
        wanted = getattr(self, option)
        if wanted is not None and wanted > found:
            raise UsageError(f"dataset.{option}={wanted}: {self.name} has {found} {images}")

    def check_crop(self, crop: int) -> None:
        """Raise UsageError if these images cannot be augmented by windows out of `crop` pixels of padding."""
        if crop and self.cuts_windows:
            raise UsageError(f"recipe.crop={crop}: {self.name} cuts random windows of its own; it needs recipe.crop=0")
        if crop > self.image_size:  # some windows would show nothing of the image
            size = f"{self.image_size}x{self.image_size}"
            raise UsageError(f"recipe.crop={crop}: is more than the size of the images, {size} pixels")

    def check_randaugment(self, magnitude: int) -> None:
        """Raise UsageError if RandAugment cannot change these images."""
        if magnitude and self.channels not in (1, 3):
            raise UsageError(
                f"recipe.randaugment={magnitude}: is for images of 1 or 3 channels; those of {self.name} have "
                f"{self.channels}"
            )

    @abstractmethod
    def load(self, data_dir: Path) -> Dataset:
        """Return the data, ready to make batches.

        Raises:
            UsageError: with one line for the user.
        """

    @abstractmethod
    def counts(self, data_dir: Path, *, download: bool = True) -> tuple[int, int]:
        """Return the numbers of training and test images there are, downloading if need be and allowed."""

    def absent(self, data_dir: Path) -> str | None:
        """Return in one line that the data are not there and have to be downloaded; None where they are."""
        return None


@dataclass(frozen=True, kw_only=True)
class MemorySource(Source):
    """Images that fit into memory: a subclass says how many there are and reads them."""

    def memory_bytes(self, train: int, test: int) -> int:
        return (train + test) * self.image_size**2 * self.channels

    def load(self, data_dir: Path) -> InMemory:
        self.prepare(data_dir)
        train, test = self.read(data_dir)
        for split, images in (("train", train), ("test", test)):
            self._check_images(split, images)
        return InMemory(train.first(self.train_size), test.first(self.test_size), self.classes, self.mean, self.std)

    @abstractmethod
    def read(self, data_dir: Path) -> tuple[Images, Images]:
        """Read all training and test images: bytes (N, image_size, image_size, channels), labels from 0 to classes - 1.

        The sizes that the options ask for are cut out of what is read, from the beginning.
        """

    def _check_images(self, split: str, found: Images) -> None:
        """Raise UsageError for images or labels of another kind than the data set says."""
        images, labels = found.images, found.labels
        shape = (len(labels), self.image_size, self.image_size, self.channels)
        if images.dtype != np.uint8 or images.shape != shape or not len(labels):
            expected = f"uint8 (N, {', '.join(map(str, shape[1:]))})"
            raise UsageError(f"{self.name}: {split} images are {images.dtype} {images.shape}, expected {expected}")
        if labels.dtype != np.int64 or labels.ndim != 1 or labels.min() < 0 or labels.max() >= self.classes:
            raise UsageError(f"{self.name}: {split} labels must be int64 (N,), from 0 to {self.classes - 1}")


@dataclass(frozen=True, kw_only=True)
class Digits(MemorySource):
    """1,797 grey 8x8 images of handwritten digits that come with scikit-learn.

    Values 0..16 become bytes by rounding x * 255 / 16. The set has no official split: the images are shuffled once, by
    numpy.random.RandomState(0).permutation; the first 1,437 are for training and the other 360 for testing.
    """

    name: str = field(init=False, default="digits")
    classes: int = field(init=False, default=10)
    channels: int = field(init=False, default=1)
    image_size: int = field(init=False, default=8)

    def counts(self, data_dir: Path, *, download: bool = True) -> tuple[int, int]:
        return 1437, 360

    def read(self, data_dir: Path) -> tuple[Images, Images]:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise UsageError("digits: needs scikit-learn (pip install scikit-learn)") from error
        values, labels = load_digits(return_X_y=True)
        order = np.random.RandomState(0).permutation(len(labels))
        pixels = np.rint(values * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)[order]
        everything = Images(pixels, labels.astype(np.int64)[order])
        train, _ = self.counts(data_dir)
        return everything.first(train), Images(everything.images[train:], everything.labels[train:])


@dataclass(frozen=True, kw_only=True)
class _FileSource(MemorySource):
    """Images in `<data_dir>/<name>/{train,test}.npz` where these exist, else in torchvision's files."""

    download: ClassVar[Download]
    official_counts: ClassVar[tuple[int, int]]

    @property
    def _shape(self) -> npz.Shape:
        return self.image_size, self.image_size, self.channels

    def counts(self, data_dir: Path, *, download: bool = True) -> tuple[int, int]:
        if pair := npz.find_pair(data_dir / self.name):
            train, test = (npz.count_images(path, self._shape, self.classes) for path in pair)
            return train, test
        self.download.check_sizes(data_dir)
        if download and (lack := self.absent(data_dir)) and (reason := self.download.fetch(data_dir)):
            raise UsageError(
                f"{lack}, and the download failed ({reason}); "
                "name a folder with the data by data_dir=PATH or the environment variable QEXP_DATA"
            )
        return self.official_counts

    def absent(self, data_dir: Path) -> str | None:
        if npz.find_pair(data_dir / self.name) or self.download.complete(data_dir):
            return None
        places = data_dir / self.name / "{train,test}.npz", data_dir / self.download.folder
        return f"{self.name}: neither {places[0]} nor {places[1]} is there"

    def read(self, data_dir: Path) -> tuple[Images, Images]:
        if pair := npz.find_pair(data_dir / self.name):
            train, test = (npz.read(path, self._shape) for path in pair)
            return train, test
        return self.download.read(data_dir, train=True), self.download.read(data_dir, train=False)


@dataclass(frozen=True, kw_only=True)
class Cifar10(_FileSource):
    """32x32 colour photographs of 10 kinds of objects."""

    name: str = field(init=False, default="cifar10")
    classes: int = field(init=False, default=10)
    channels: int = field(init=False, default=3)
    image_size: int = field(init=False, default=32)
    download: ClassVar[Download] = cifar(datasets.CIFAR10)
    official_counts: ClassVar[tuple[int, int]] = (50_000, 10_000)


@dataclass(frozen=True, kw_only=True)
class Cifar100(_FileSource):
    """32x32 colour photographs of 100 kinds of objects (the fine labels)."""

    name: str = field(init=False, default="cifar100")
    classes: int = field(init=False, default=100)
    channels: int = field(init=False, default=3)
    image_size: int = field(init=False, default=32)
    download: ClassVar[Download] = cifar(datasets.CIFAR100)
    official_counts: ClassVar[tuple[int, int]] = (50_000, 10_000)


@dataclass(frozen=True, kw_only=True)
class MNIST(_FileSource):
    """28x28 grey images of handwritten digits."""

    name: str = field(init=False, default="mnist")
    classes: int = field(init=False, default=10)
    channels: int = field(init=False, default=1)
    image_size: int = field(init=False, default=28)
    download: ClassVar[Download] = mnist()
    official_counts: ClassVar[tuple[int, int]] = (60_000, 10_000)


@dataclass(frozen=True, kw_only=True)
class Synthetic(MemorySource):
    """Random patterns, one per class, in random noise: quick to make and easy to learn.

    Everything is a function of the options. Pattern values lie in 64..192 (bytes), the noise has a standard deviation
    of 40; each split has its own random stream, so the size of one does not change the other.
    """

    train_size: Count
    test_size: Count
    classes: Count
    channels: Count
    image_size: Count
    seed: Annotated[int, Range(low=0, high=2**32 - 1)]
    name: str = field(init=False, default="synthetic")

    def counts(self, data_dir: Path, *, download: bool = True) -> tuple[int, int]:
        return self.train_size, self.test_size

    def memory_bytes(self, train: int, test: int) -> int:
        values = (train + test + self.classes) * self.image_size**2 * self.channels
        return 24 * values  # pattern, noise and their sum, in double precision

    def read(self, data_dir: Path) -> tuple[Images, Images]:
        shape = (self.classes, self.image_size, self.image_size, self.channels)
        patterns = np.random.RandomState([self.seed, 0]).uniform(64, 192, shape)
        return self._draw(patterns, self.train_size, stream=1), self._draw(patterns, self.test_size, stream=2)

    def _draw(self, patterns: NDArray[np.float64], count: int, stream: int) -> Images:
        random = np.random.RandomState([self.seed, stream])
        labels = random.permutation(np.arange(count) % self.classes)
        noisy = patterns[labels] + random.normal(0, 40, (count, *patterns.shape[1:]))
        return Images(noisy.clip(0, 255).astype(np.uint8), labels.astype(np.int64))
