"""Files with which something is wrong, for the commands in bad_inputs.py: each is made in a folder that is given."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from qexp.config.compose import composing
from qexp.config.yaml_files import to_yaml

Prepare = Callable[[Path], object]
SMALL = ("dataset=synthetic", "model=resnet20", "quantizer=fp", "device=cpu")


def cifar(**changes: Any) -> Prepare:
    """A CIFAR-10 of 8 and 4 images with other arrays in train.npz; None leaves an array out."""

    def write(folder: Path) -> None:
        (folder / "data" / "cifar10").mkdir(parents=True)
        for name, count in (("train", 8), ("test", 4)):
            arrays = {"images": np.zeros((count, 32, 32, 3), np.uint8), "labels": np.arange(count) % 10}
            arrays |= changes if name == "train" else {}
            kept = {key: value for key, value in arrays.items() if value is not None}
            np.savez(folder / "data" / "cifar10" / f"{name}.npz", allow_pickle=True, **kept)

    return write


def cifar_file(change: Callable[[Path], object]) -> Prepare:
    """A CIFAR-10 whose file train.npz is changed afterwards."""

    def write(folder: Path) -> None:
        cifar()(folder)
        change(folder / "data" / "cifar10" / "train.npz")

    return write


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def photographs(change: Callable[[Path], object]) -> Prepare:
    """An ImageNet of two classes; `change` gets its folder."""

    def write(folder: Path) -> None:
        root = folder / "data" / "imagenet"
        for split, name, number in ((s, n, i) for s in ("train", "val") for n in ("cat", "dog") for i in range(2)):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (90 * number, 80, 70)).save(root / split / name / f"{number}.JPEG")
        change(root)

    return write


def remove(pattern: str) -> Callable[[Path], None]:
    """A change that removes files and folders."""

    def change(root: Path) -> None:
        for path in sorted(root.glob(pattern), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    return change


class Intruder:
    """Would make a folder where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("intruder",)


def saved(content: Any, name: str = "file.pt") -> Prepare:
    """A file that torch.save wrote."""
    return lambda folder: torch.save(content, folder / name)


def text(name: str, content: str | bytes) -> Prepare:
    """A file of text or bytes."""

    def write(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def record(*changes: tuple[str, Any], checkpoint: Any = None) -> Prepare:
    """A folder `run` as a run leaves it, with other values in its config.yaml, and perhaps a last.pt."""

    def write(folder: Path) -> None:
        with composing() as composer:
            raw: Any = dict(composer.job(SMALL).tree)
        for key, value in changes:
            *groups, last = key.split(".")
            node = raw
            for group in groups:
                node = node.setdefault(group, {})
            node[last] = value
        text("run/config.yaml", to_yaml(raw))(folder)
        if checkpoint is not None:
            torch.save(checkpoint, folder / "run" / "last.pt")

    return write


def both(*parts: Prepare) -> Prepare:
    return lambda folder: [part(folder) for part in parts]
