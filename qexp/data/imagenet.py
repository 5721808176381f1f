"""ImageNet, or any other set of photographs that is laid out like it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from torch import nn
from torchvision.transforms import v2

from qexp.data.augment import rand_augment
from qexp.data.batches import is_held_out
from qexp.data.datasets import Source
from qexp.data.folder import FileBatches, ImageFiles, Transform, find_images
from qexp.utils.errors import UsageError
from qexp.utils.types import Count, Range

Pixels = Annotated[int, Range(low=1, high=10_000)]


@dataclass(frozen=True, kw_only=True)
class ImageNet(Source):
    """Photographs in `<data_dir>/imagenet/{train,val}/<class>/`, whose names in order are the labels 0, 1, ...

    Training takes a window of 8 to 100 % of the area at random, with sides as 3:4 to 4:3 (torchvision's
    RandomResizedCrop), as Szegedy et al., Going Deeper with Convolutions, CVPR 2015; testing takes the centre. With the
    values of the YAML file test images are those that torchvision's accuracies were measured on. `train_size` and
    `test_size` take equally many images of each class, the first by name.

    Args:
        classes: number of class folders that there must be.
        image_size: side of the images that the network sees, in pixels.
        resize: shorter side that a test image is resized to before its centre is cut out, in pixels.
    """

    classes: Count
    image_size: Pixels
    resize: Pixels
    name: str = field(init=False, default="imagenet")
    channels: int = field(init=False, default=3)
    cuts_windows: ClassVar[bool] = True
    official_counts: ClassVar[tuple[int, int]] = (1_281_167, 50_000)

    def __post_init__(self) -> None:
        if self.resize < self.image_size:
            raise UsageError(f"dataset.resize={self.resize}: must be at least dataset.image_size={self.image_size}")

    def load(self, data_dir: Path) -> "_Folders":
        self._check_statistics()
        return _Folders(self, self.root(data_dir))

    def root(self, data_dir: Path) -> Path:
        """Return the folder that holds the images."""
        return data_dir / self.name

    def counts(self, data_dir: Path, *, download: bool = True) -> tuple[int, int]:
        root = self.root(data_dir)
        if not download and not root.exists():
            return self.official_counts
        train, test = self.find(root, "train"), self.find(root, "val")
        if train.classes != test.classes:
            lacking = [
                f"{lacks.folder} lacks {', '.join(names[:4])}{' and more' if len(names) > 4 else ''}"
                for has, lacks in ((train, test), (test, train))
                if (names := sorted({*has.classes} - {*lacks.classes}))
            ]
            splits = " and ".join(files.folder.name for files in (train, test))
            raise UsageError(f"{root}: {splits} have different classes; {'; '.join(lacking)}")
        return len(train), len(test)

    def find(self, root: Path, split: str) -> ImageFiles:
        """Return the images of `train` or `val`.

        Raises:
            UsageError: they are not there, or not in as many classes as there must be.
        """
        expected = f"expected {root}/{{train,val}}/<class>/*.JPEG"
        if not root.is_dir():
            raise UsageError(
                f"{self.name}: there is no folder {root}, and qexp does not download these images; {expected}; "
                "another place can be named by data_dir=PATH or the environment variable QEXP_DATA"
            )
        if not (root / split).is_dir():
            raise UsageError(f"{self.name}: there is no folder {root / split}; {expected}")
        return self.check_classes(find_images(root / split))

    def check_classes(self, files: ImageFiles) -> ImageFiles:
        """Return the images; raise UsageError where they are not in as many classes as there must be."""
        if (found := len(files.classes)) != self.classes:
            raise UsageError(f"dataset.classes={self.classes}: {files.folder} has {found} class folders")
        return files

    def chosen(self, root: Path, split: str) -> ImageFiles:
        """Return those images of `train` or `val` that the sizes ask for; raises UsageError."""
        files = self.find(root, split)
        if split == "train":
            self._check_size("train_size", len(files), "training images")
            return files.spread(self.train_size)
        self._check_size("test_size", len(files), "test images")
        return files.spread(self.test_size)


@dataclass(frozen=True)
class _Folders:
    """The data in a folder; each of `train` and `val` is looked through when it is needed first."""

    source: ImageNet
    root: Path
    holdout: tuple[int, int] = (0, 0)  # training images that are held out, and the seed that chooses them

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
    ) -> FileBatches:
        """Return random windows of the training images, shuffled; see `qexp.data.batches.Dataset`."""
        self.source.check_crop(crop)
        steps: list[nn.Module] = [v2.RandomResizedCrop(self.source.image_size)]
        steps += [v2.RandomHorizontalFlip()] if flip else []
        steps += [rand_augment(randaugment)] if randaugment else []
        return self._batches(
            self._train_files(), v2.Compose(steps), batch_size, device, workers, seed=seed, shuffle=True
        )

    def test_batches(self, batch_size: int, *, device: torch.device, workers: int) -> FileBatches:
        """Return the centres of the test images, in order."""
        return self._batches(self.source.chosen(self.root, "val"), self._center(), batch_size, device, workers)

    def holding_out(self, count: int, seed: int) -> "_Folders":
        """Return these data with `count` images less to train on; see `qexp.data.batches.Dataset`."""
        return replace(self, holdout=(count, seed))

    def held_out_batches(self, batch_size: int, *, device: torch.device, workers: int) -> FileBatches:
        """Return the centres of the images that are held out, in order."""
        return self._batches(self._train_files(held_out=True), self._center(), batch_size, device, workers)

    def _train_files(self, *, held_out: bool = False) -> ImageFiles:
        files = self.source.chosen(self.root, "train")
        if not self.holdout[0]:
            return files
        return files.where(is_held_out(files.labels, *self.holdout) == held_out)

    def _center(self) -> Transform:
        return v2.Compose([v2.Resize(self.source.resize), v2.CenterCrop(self.source.image_size)])

    def _batches(
        self,
        files: ImageFiles,
        transform: Transform,
        batch_size: int,
        device: torch.device,
        workers: int,
        **options: Any,
    ) -> FileBatches:
        return FileBatches(
            files,
            transform,
            image_size=self.source.image_size,
            mean=self.source.mean,
            std=self.source.std,
            batch_size=batch_size,
            device=device,
            workers=workers,
            **options,
        )
