"""A small ImageNet on disk, and its batches."""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from support.sources import source

CPU = torch.device("cpu")
COUNTS = {"train": {"n01": 5, "n02": 3, "n03": 7}, "val": {"n01": 2, "n02": 2, "n03": 3}}
OPTIONS: dict[str, Any] = {"classes": 3, "image_size": 16, "resize": 20}


def write_tree(root: Path) -> None:
    """Write an ImageNet of 15 and 7 images of various sizes, with what may lie about in such a tree."""
    random = np.random.RandomState(0)
    for split, classes in COUNTS.items():
        for name, count in classes.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                height, width = random.randint(18, 40, 2)
                pixels = random.randint(0, 256, (4, 4, 3)).astype(np.uint8)
                image = Image.fromarray(pixels).resize((int(width), int(height)), Image.Resampling.BILINEAR)
                image.save(folder / f"{name}_{number}.JPEG", quality=95)
            (folder / ".DS_Store").write_bytes(b"x")
            (folder / "notes.txt").write_text("x")
        (root / split / ".cache").mkdir()
        (root / split / "README").write_text("x")


def imagenet(**changes: Any) -> Any:
    return source("imagenet", **{**OPTIONS, **changes})


def for_training(data_dir: Path, batch_size: int = 4, **changes: Any) -> Any:
    options = {"device": CPU, "seed": 3, "crop": 0, "flip": True, "workers": 0, **changes}
    return imagenet().load(data_dir).train_batches(batch_size, **options)


def for_testing(data_dir: Path, batch_size: int = 4, workers: int = 0, **changes: Any) -> Any:
    return imagenet(**changes).load(data_dir).test_batches(batch_size, device=CPU, workers=workers)


def epoch(batches: Any, number: int = 0) -> tuple[Tensor, Tensor]:
    """All batches of an epoch in one."""
    images, labels = zip(*batches.epoch(number), strict=True)
    return torch.cat(images), torch.cat(labels)


def denormalized(batches: Any, images: Tensor) -> Tensor:
    """Bytes (N, H, W, C) back from what the network sees."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (imagenet().mean, imagenet().std))
    return ((images * std + mean) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


# Patterns: of what `broken` makes, why it cannot be read.
NO_IMAGE = "it begins as no file of JPEG, PNG, PPM, BMP, TIFF or WEBP does"
REASONS = {
    "cut": "[^<>]*[Tt]runcated[^<>]*",
    "empty": "an empty file",
    "text": NO_IMAGE,
    "missing": "No such file or directory",
    "pipe": "no regular file",
    "bomb": "more than 100,000,000 pixels",
    "tiff": NO_IMAGE,
}


def broken(folder: Path, kind: str) -> Path:
    path = folder / "n02_1.JPEG"
    whole = path.read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "bomb":
        Image.new("1", (20_000, 10_000)).save(path, format="PNG")
    elif kind == "tiff":
        Image.new("RGB", (4, 4)).save(path, format="TIFF", compression="tiff_lzw")
        path.write_bytes(
            path.read_bytes().replace(struct.pack("<HHII", 277, 3, 1, 3), struct.pack("<HHII", 277, 3, 1, 999))
        )
    elif kind != "missing":
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>not found</html>"}[kind])
    return path
