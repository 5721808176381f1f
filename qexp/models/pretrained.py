"""The weights that torchvision publishes for its ImageNet networks.

Top-1 accuracies in torchvision's documentation of each set (all named IMAGENET1K_V1): ResNet-18 69.758 %, ResNet-34
73.314 %, MobileNetV2 71.878 %.
"""

import contextlib
import hashlib
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

import torch
from torch import hub, nn
from torchvision import models

from qexp.utils.errors import UsageError

_TIMEOUT_SECONDS = 30.0
_REQUIRES = "1000 classes, 3 channels, images above 64 pixels and model.width=1"


@dataclass(frozen=True)
class Weights:
    """A set of weights: torchvision's function that builds its network, and where the file comes from."""

    build: Callable[[], nn.Module]
    url: str

    @property
    def file(self) -> Path:
        """Where torchvision keeps the file: $TORCH_HOME/hub/checkpoints, by default in ~/.cache/torch."""
        return Path(hub.get_dir(), "checkpoints", PurePosixPath(self.url).name)

    @property
    def digest(self) -> str:
        """The beginning of the file's SHA-256, which is part of its name."""
        found = re.search(r"-([0-9a-f]{8,})\.", self.file.name)
        assert found, "every file of torchvision is named like this"  # noqa: PT018
        return found[1]


# Part of what a run computes, whose key holds the word `torchvision` alone: another set of weights needs another word.
WEIGHTS = {
    "mobilenetv2": Weights(models.mobilenet_v2, models.MobileNet_V2_Weights.IMAGENET1K_V1.url),
    "resnet18": Weights(models.resnet18, models.ResNet18_Weights.IMAGENET1K_V1.url),
    "resnet34": Weights(models.resnet34, models.ResNet34_Weights.IMAGENET1K_V1.url),
}


def check_same(name: str, build: Callable[[], nn.Module]) -> None:
    """Raise UsageError if `build` makes another network than torchvision's weights for the model `name` are made for.

    State dicts of the same shapes are not enough: MobileNetV2 has smaller strides for small images.
    """
    weights = _weights(name)
    with torch.device("meta"):
        ours, theirs = (_layers(network) for network in (build(), weights.build()))
    differing = [
        f"{key} is {ours.get(key, 'missing')} instead of {theirs.get(key, 'missing')}"
        for key in {**theirs, **ours}
        if ours.get(key) != theirs.get(key)
    ]
    if differing:
        count = f"{len(differing)} of {len(theirs)} layers differ"
        raise UsageError(f"init=torchvision: its {name} is for {_REQUIRES}; here {differing[0]} ({count})")


def _layers(network: nn.Module) -> dict[str, str]:
    """Return the layers that hold parameters, as text: sizes, strides, padding and so on."""
    return {name: repr(layer) for name, layer in network.named_modules() if layer._parameters}


def fetch(name: str, *, download: bool = True) -> Path | None:
    """Return the file with torchvision's weights for the model `name`.

    Args:
        name: of the model.
        download: get the file if it is not there; if false, return None then.

    Raises:
        UsageError: no such weights, a failed download, or a file that is not what its name says.
    """
    return fetch_weights(_weights(name), "init=torchvision", "init", download=download)


def fetch_weights(weights: Weights, asked: str, option: str, *, download: bool) -> Path | None:
    """Return a file of torchvision's, or None where it is not there and `download` is false.

    Args:
        weights: which.
        asked: what the user said, for messages.
        option: by which a file can be named instead.
        download: get it if it is not there.

    Raises:
        UsageError: a failed download, or a file that is not what its name says.
    """
    if not weights.file.exists():
        if not download:
            return None
        _download(weights, asked, option)
    with weights.file.open("rb") as file:  # torchvision looks at files that it downloads only
        if not hashlib.file_digest(file, "sha256").hexdigest().startswith(weights.digest):
            raise UsageError(f"{asked}: {weights.file} is damaged, or not from torchvision; delete it")
    return weights.file


def _weights(name: str) -> Weights:
    if name not in WEIGHTS:
        listed = ", ".join(WEIGHTS)
        raise UsageError(f"init=torchvision: there are no weights for model={name}; there are some for {listed}")
    return WEIGHTS[name]


def _download(weights: Weights, asked: str, option: str) -> None:
    """Download the file; a failure leaves nothing behind."""
    target = weights.file
    made = [folder for folder in target.parents if not folder.exists()]
    timeout = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(_TIMEOUT_SECONDS)  # torch sets none, so a dead connection would hang for ever
        target.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(weights.url, str(target), weights.digest, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, HTTPException) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(
            f"{asked}: {target} is not there, and the download of {weights.url} failed ({reason}); "
            f"put the file there, or name a copy of it by {option}=PATH"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
        if not target.exists():
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
