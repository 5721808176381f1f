"""What data and weights in the user's own files are, in a few letters; of images names and sizes, without reading one.

Downloads have checksums and are always the same. Folders of images and npz files are not: two of them are two datasets,
and the results of two runs on them are no repetition. No import of torch here: every command asks.
"""

import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from qexp.config.places import MOST_BYTES, file_digest

NPZ = {"Cifar10": "cifar10", "Cifar100": "cifar100", "MNIST": "mnist"}  # class -> its folder
FOLDERS = {"ImageNet": "imagenet"}
OWN_FOLDERS = "Photographs"  # whose options name their folders
LIBRARY_NETWORKS = "qexp.models.library_networks."  # torchvision_network and timm_network
WEIGHTS = (".pt", ".pth", ".safetensors", ".bin", ".ckpt")  # how files with weights are called
IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # as torchvision has them


def fingerprint(target: str, data_dir: Path, options: Mapping[str, Any] | None = None) -> str | None:
    """Return 16 hexadecimal digits for the user's own files of a dataset; None for a download, or where there are none.

    Of folders: the name and the size of every image in every class. Of npz files: the name, size and checksum (CRC-32)
    of every array, which stand in the directory of the archive.

    Args:
        target: the dataset's class, with its module.
        data_dir: where datasets lie.
        options: of the dataset.
    """
    if not target.startswith("qexp."):  # somebody's own class may have the name of one of ours
        return None
    name = target.rpartition(".")[2]
    try:
        if name in FOLDERS:
            return _of_folders(data_dir / FOLDERS[name], ("train", "val"))
        if name == OWN_FOLDERS and options and options.get("path"):
            splits = [options.get(key) for key in ("train", "test")]
            return _of_folders(data_dir / os.path.expanduser(str(options["path"])), [one for one in splits if one])
        if name in NPZ:
            return _of_archives(data_dir / NPZ[name])
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        pass  # the check of the data says what is wrong
    return None


def _of_archives(folder: Path) -> str | None:
    lines = []
    for split in ("train", "test"):
        path = folder / f"{split}.npz"
        if not path.is_file():
            return None
        with zipfile.ZipFile(path) as archive:
            lines += [f"{split}/{part.filename} {part.file_size} {part.CRC}" for part in archive.infolist()]
    return _digest(lines)


def _of_folders(folder: Path, splits: Sequence[str]) -> str | None:
    if not folder.is_dir():
        return None
    classes = [(split, path) for split in splits for path in _folders_in(folder / split)]
    return _of_classes(tuple((split, str(path), path.stat().st_mtime_ns) for split, path in classes))


@lru_cache(maxsize=8)
def _of_classes(classes: tuple[tuple[str, str, int], ...]) -> str:
    """Return the digest of folders of images: each job of a sweep asks, and the time of a folder tells of changes."""
    return _digest(line for split, path, _ in classes for line in _files_in(split, Path(path)))


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files_in(split: str, folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        files = [one for one in entries if one.name.lower().endswith(IMAGES) and not one.name.startswith(".")]
        return sorted(f"{split}/{folder.name}/{file.name} {_size(file)}" for file in files)


def _size(file: os.DirEntry) -> int:
    try:
        return file.stat().st_size
    except OSError:  # a link that leads nowhere
        return -1


def _digest(lines: Iterator[str] | list[str]) -> str:
    found = hashlib.sha256()
    for line in lines:
        found.update(os.fsencode(line) + b"\n")
    return found.hexdigest()[:16]


def library_of(target: str) -> str | None:
    """Return `torchvision` or `timm` for a model that is a network of that library, None for any other."""
    name = target.removeprefix(LIBRARY_NETWORKS)
    return None if name == target else name.removesuffix("_network")


def weights_path(pretrained: str) -> Path | None:
    """Return the file that `model.pretrained` names, None where it is a word for weights of the library."""
    is_path = "/" in pretrained or pretrained.endswith(WEIGHTS)
    return Path(os.path.expanduser(pretrained)) if is_path else None


def weights_digest(target: str, options: Mapping[str, Any]) -> str | None:
    """Return which weights a network of a library begins with: 16 digits of the SHA-256 of a file, or a name.

    None where there are none, or the file is not there; raises UsageError for weights that a library does not have.
    """
    library, pretrained, network = library_of(target), options.get("pretrained"), options.get("network")
    if library is None or not isinstance(pretrained, str) or not isinstance(network, str):
        return None
    if (path := weights_path(pretrained)) is not None:
        return file_digest(path)[:16] if path.is_file() and path.stat().st_size <= MOST_BYTES else None
    from qexp.models.library_weights import published_weights  # imports torch

    return published_weights(library, network, pretrained).name
