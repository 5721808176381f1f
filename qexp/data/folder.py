"""Images in files, in one folder per class, decoded while training by processes that run beside it."""

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import data
from torchvision.datasets.folder import IMG_EXTENSIONS

from qexp.data.batches import Normalize, count_batches, draw_seed
from qexp.data.decoding import checked, load_image, opened, why_unreadable
from qexp.utils.errors import QexpError, UsageError
from qexp.utils.text import one_line

Transform = Callable[[Any], Any]  # from PIL image to PIL image
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}  # what stands at the end of a whole file

_READABLE: set[str] = set()  # which images this process has looked at: a sweep asks for every job


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Labelled image files: `names` (N,) bytes, relative to `folder`, and `labels` (N,) int64.

    The names are one array because every worker process would copy a million Python strings.
    """

    folder: Path
    classes: tuple[str, ...]
    names: NDArray[np.bytes_]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Return the path of an image."""
        return self.folder / os.fsdecode(self.names[index])

    def spread(self, count: int | None) -> "ImageFiles":
        """Return `count` images, equally many of each class as far as it has them, or all for None.

        Of each class the first by name; where `count` is no multiple of the number of classes, the first classes have
        one more. The order stays.
        """
        counts = np.bincount(self.labels, minlength=len(self.classes))
        first = np.cumsum(counts) - counts
        rank = np.arange(len(self)) - first[self.labels]
        chosen = np.sort(np.lexsort((self.labels, rank))[:count])
        return self.where(chosen)

    def where(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> "ImageFiles":
        """Return the images of these numbers, or those for which `chosen` (N,) is true."""
        return ImageFiles(self.folder, self.classes, self.names[chosen], self.labels[chosen])


def find_images(folder: Path) -> ImageFiles:
    """Find `<folder>/<class>/<image>`, classes and images in order of their names, hidden ones left out.

    Raises:
        UsageError: the folder cannot be read, or holds no classes, or a class holds no images.
    """
    classes = tuple(_entries(folder, lambda entry: entry.is_dir()))
    if not classes:
        raise UsageError(f"{folder}: holds no folders; expected one for each class, with its images")
    names: list[bytes] = []
    counts = []
    for name in classes:
        images = _entries(folder / name, lambda entry: entry.name.lower().endswith(IMG_EXTENSIONS))
        if not images:
            raise UsageError(f"{folder / name}: the folder of this class holds no images")
        names += [os.fsencode(os.path.join(name, image)) for image in images]
        counts.append(len(images))
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), counts)
    return ImageFiles(folder, classes, np.array(names), labels)


def _entries(folder: Path, chosen: Callable[[os.DirEntry], bool]) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and chosen(entry))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read ({os.strerror(error.errno or 0)})") from error


def unreadable(files: ImageFiles, seconds: float) -> list[tuple[Path, str]]:
    """Return images that cannot be read, each with the reason, as far as that is found in so many seconds.

    A look at header and end takes 0.05 ms; one without an end of its format is decoded. Damage in between shows later.
    """
    digest = sha256(os.fsencode(files.folder) + files.names.tobytes()).hexdigest()
    found, end = list[tuple[Path, str]](), time.monotonic() + (0 if digest in _READABLE else seconds)
    for index in range(len(files)):
        if time.monotonic() > end:
            break
        path = files.path(index)
        try:
            _look_at(path)
        except Exception as error:  # PIL raises many kinds
            found.append((path, why_unreadable(error)))
    if not found:
        _READABLE.add(digest)
    return found


def _look_at(path: Path) -> None:
    """Raise whatever an image raises that is no image, or is cut off."""
    with opened(path) as file:
        kind = checked(file).format
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - 64, 0))
        if not (kind in ENDS and ENDS[kind] in file.read()):
            file.seek(0)
            checked(file).load()


class FileBatches:
    """Normalised batches of image files.

    Order and augmentation of an image are a function of (seed, epoch, index) alone, for any number of workers. The last
    batch may be short; one of a single image is dropped if `shuffle`, because batch normalisation cannot train on it.

    Args:
        files: N images.
        transform: makes images of `image_size` x `image_size` pixels; draws from torch's default generator only.
        image_size: in pixels.
        mean: per channel, for pixels from 0 to 1.
        std: per channel, for pixels from 0 to 1.
        batch_size: images per batch.
        device: where the batches are to lie; bytes are sent there, and become floats there.
        workers: processes that decode images; 0 decodes in this one.
        seed: of order and augmentation, 0 or more.
        shuffle: a new order in each epoch.
    """

    def __init__(
        self,
        files: ImageFiles,
        transform: Transform,
        *,
        image_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        batch_size: int,
        device: torch.device,
        workers: int,
        seed: int = 0,
        shuffle: bool = False,
    ):
        self.num_images = len(files)
        self._reader = _Reader(files, transform, seed)
        self._normalize = Normalize(mean, std, image_size, device)
        self._batches = count_batches(len(files), batch_size, drop_single=shuffle)
        self._batch_size, self._device, self._workers = batch_size, device, workers
        self._seed, self._shuffle = seed, shuffle

    def __len__(self) -> int:
        return self._batches

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, C, H, W), float32 and channels last, with labels (B,), int64, from batch `start` on.

        Raises:
            QexpError: an image cannot be read.
        """
        keys = self._keys(epoch)[start:]
        for batch in self._read(keys):
            if isinstance(batch, str):
                raise QexpError(batch)
            pixels, labels = (part.to(self._device, non_blocking=True) for part in batch)
            yield self._normalize(pixels), labels

    def _read(self, keys: list[tuple[int, list[int]]]) -> Iterator[Any]:
        """Yield what the reader makes of `keys`; raise QexpError where a process that reads dies."""
        batches, done = self._start(keys), 0
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                first = self._reader.files.path(keys[done][1][0])
                raise QexpError(
                    f"a process that decodes images died ({one_line(str(error).splitlines()[0], 200)}), at one of the "
                    f"images from {first} on; workers=0 tells which"
                ) from error
            done += 1
            yield batch

    def _start(self, keys: list[tuple[int, list[int]]]) -> Iterator[Any]:
        """Start to read batches, with workers of their own: no state passes from one epoch to the next."""
        # torch warns of more workers than cores, which may make sense on slow disks, and Python of any fork.
        with warnings.catch_warnings(action="ignore"):
            loader: data.DataLoader[Any] = data.DataLoader(
                self._reader,
                batch_size=None,  # the reader makes whole batches
                sampler=keys,
                num_workers=min(self._workers, len(keys)),
                worker_init_fn=_ignore_signals,
                pin_memory=self._device.type == "cuda",
                generator=torch.Generator(),  # else it draws from the one that the network's dropout draws from
            )
            return iter(loader)

    def _keys(self, epoch: int) -> list[tuple[int, list[int]]]:
        """Return (epoch, indices) for each batch."""
        generator = torch.Generator()
        generator.manual_seed(draw_seed(self._seed, epoch))
        order = torch.arange(self.num_images)
        if self._shuffle:
            order = torch.randperm(self.num_images, generator=generator)
        return [(epoch, part.tolist()) for part in order.split(self._batch_size)][: len(self)]


def _ignore_signals(_: int) -> None:
    """Leave it to the process that trains what signals mean: Ctrl-C, and Slurm's, go to a whole group of processes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class _Reader(data.Dataset[tuple[Tensor, Tensor] | str]):
    """Reads batches: images (B, H, W, C), uint8, and labels (B,), int64, or a str that says which image is broken.

    An exception would come out of a worker process as a traceback; this way it is one line.
    """

    def __init__(self, files: ImageFiles, transform: Transform, seed: int):
        self.files, self.transform, self.seed = files, transform, seed

    def __getitem__(self, key: tuple[int, list[int]]) -> tuple[Tensor, Tensor] | str:
        epoch, indices = key
        images = []
        with torch.random.fork_rng(devices=[]):
            for index in indices:
                # Not torch.manual_seed, which seeds the generators of all devices. The order has (seed, epoch, 0).
                torch.default_generator.manual_seed(draw_seed(self.seed, epoch, index + 1))
                path = self.files.path(index)
                try:
                    images.append(np.asarray(self.transform(load_image(path))))
                except BaseException as error:  # PIL raises many kinds
                    if not isinstance(error, Exception) and data.get_worker_info() is None:
                        raise  # a signal to the process that trains
                    return f"{path}: cannot be read as an image ({why_unreadable(error)}); replace or remove it"
        return torch.from_numpy(np.stack(images)), torch.from_numpy(self.files.labels[indices])
