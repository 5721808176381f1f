"""Image data in two files `train.npz` and `test.npz`, each with the arrays `images` and `labels`."""

import math
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from qexp.data.images import Images
from qexp.utils.errors import UsageError
from qexp.utils.text import one_line

Shape = tuple[int, int, int]  # H, W, C


def find_pair(folder: Path) -> tuple[Path, Path] | None:
    """Return the paths of train.npz and test.npz in `folder`, or None where neither is there.

    Raises:
        UsageError: one of the two is missing.
    """
    train, test = folder / "train.npz", folder / "test.npz"
    for here, other in ((train, test), (test, train)):
        if here.is_file() and not other.is_file():
            raise UsageError(f"{here}: {other.name} is missing beside it")
    return (train, test) if train.is_file() else None


def count_images(path: Path, shape: Shape, classes: int) -> int:
    """Check the headers of the arrays, and the labels; return the number of images, without reading the pixels.

    Raises:
        UsageError: unreadable file, missing array, wrong type, wrong shape or wrong labels.
    """
    images_shape, images_dtype = _header(path, "images")
    labels_shape, labels_dtype = _header(path, "labels")
    expected = "x".join(map(str, ("N", *shape)))
    # Grey images may come without the axis of the single channel.
    shapes = [shape, shape[:2]] if shape[2] == 1 else [shape]
    if images_dtype != np.uint8 or images_shape[1:] not in shapes:
        found = f"{images_dtype} {'x'.join(map(str, images_shape))}"
        raise UsageError(f"{path}: 'images' is {found}, expected uint8 {expected}")
    if not np.issubdtype(labels_dtype, np.integer) or labels_shape != images_shape[:1]:
        found = f"{labels_dtype} {'x'.join(map(str, labels_shape))}"
        raise UsageError(f"{path}: 'labels' is {found}, expected int64 {images_shape[0]}, one per image")
    if images_shape[0] == 0:
        raise UsageError(f"{path}: holds no images")
    with _reading(path), np.load(path, allow_pickle=False) as arrays:
        labels = arrays["labels.npy"]  # not "labels", which may be another file that has no header
    low, high = labels.min(), labels.max()
    if low < 0 or high >= classes:
        raise UsageError(f"{path}: labels run from {low} to {high}, expected 0 to {classes - 1}")
    return images_shape[0]


def read(path: Path, shape: Shape) -> Images:
    """Read the images of a file that `count_images` accepts.

    Raises:
        UsageError: unreadable file.
    """
    with _reading(path), np.load(path, allow_pickle=False) as arrays:
        return Images(arrays["images.npy"].reshape(-1, *shape), arrays["labels.npy"].astype(np.int64))


def _header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and type of one array of an npz file; np.load would read all its data for that."""
    with _reading(path), zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = parse(stream)
        needed = stream.tell() + math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and archive.getinfo(f"{key}.npy").file_size != needed:
            raise ValueError(f"'{key}' was cut short")
        if needed > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
            raise ValueError(f"'{key}' takes {needed:,} bytes, and this machine has {memory:,}")
    return shape, dtype


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what reading a file that is no npz file raises inside the block into a UsageError."""
    try:
        yield
    except KeyError as error:
        found = re.search(r"'(\w+)\.npy'", str(error))
        missing = f"has no array '{found[1]}'" if found else "lacks an array"
        raise UsageError(f"{path}: {missing}; expected the arrays images and labels") from error
    except Exception as error:  # zipfile, zlib and the parser of numpy's headers raise many kinds
        raise UsageError(
            f"{path}: is not a readable npz file ({one_line(str(error) or type(error).__name__)})"
        ) from error
