"""Sources of images as their YAML files describe them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from qexp.config.schema import parse
from qexp.data.datasets import Source
from qexp.data.images import Images

CONF = Path(__file__).parents[2] / "conf" / "dataset"


def source(name: str, **changes: Any) -> Source:
    """Build a source from its YAML file."""
    options: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    target = get_class(options.pop("_target_"))
    assert options.pop("name") == name == target.name
    return target(**parse(target, {**options, **changes}))


CPU = torch.device("cpu")
RGB: dict[str, Any] = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}


def random_images(count: int, height: int = 6, width: int = 5, channels: int = 3) -> Images:
    """Images whose labels are their numbers."""
    pixels = np.random.RandomState(0).randint(0, 256, (count, height, width, channels)).astype(np.uint8)
    return Images(pixels, np.arange(count))


def write_pair(folder: Path, train: int = 6, test: int = 4, **changes: Any) -> None:
    """Write the npz files of a tiny CIFAR-10, with changed arrays in the training file."""
    folder.mkdir(parents=True)
    for name, count in (("train", train), ("test", test)):
        images = np.random.RandomState(count).randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)
        arrays = {"images": images, "labels": np.arange(count) % 10, **(changes if name == "train" else {})}
        np.savez(folder / f"{name}.npz", **{key: value for key, value in arrays.items() if value is not None})


# Augmentation


def literal(image: np.ndarray, flip: bool, top: int, left: int, crop: int) -> np.ndarray:
    """Flip, pad, crop: one image, step by step."""
    image = image[:, ::-1] if flip else image
    padded = np.pad(image, ((crop, crop), (crop, crop), (0, 0)))
    return padded[top : top + image.shape[0], left : left + image.shape[1]]
