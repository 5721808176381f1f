"""The weights that a network of a library begins with (`model.pretrained`): found, held against it, and loaded."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qexp.config.config import Config
from qexp.config.fingerprint import library_of, weights_digest, weights_path
from qexp.config.places import MOST_BYTES, file_digest
from qexp.engine import weights
from qexp.experiment.build import Parts
from qexp.experiment.named_parts import resolve
from qexp.models.library_weights import published_weights
from qexp.utils.errors import UsageError
from qexp.utils.text import few

RECORD = "pretrained.json"  # in a run's directory: what it began with
BEGINS = ("fp", "scratch")  # words of `init` with which a network begins at these weights
# Densely connected networks of torchvision were published under older names, as torchvision itself translates them.
_OLDER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
_HEADS_OF_TRAINING = ("aux1.", "aux2.", "AuxLogits.")  # of GoogLeNet and Inception, which are built without them


@dataclass(frozen=True)
class PretrainedStart:
    """Weights for a network, as far as they fit it.

    Attributes:
        state: all but what is made anew.
        anew: keys of what is, which have another number of classes in the file, or are not there.
        name: what the weights are called: the library's name, or the path.
        digest: SHA-256 of the file.
        option: what the user said, for messages.
    """

    state: Mapping[str, Tensor]
    anew: tuple[str, ...]
    name: str
    digest: str
    option: str

    def network(self, parts: Parts) -> nn.Module:
        """Return the float network with these weights; the layers that are made anew follow torch's generator."""
        model = parts.build_model()
        weights.load_into(model, self.of(model), self.option)
        return model

    def of(self, model: nn.Module) -> dict[str, Tensor]:
        """Return a whole state dict for `model`: these weights, and its own for layers that are made anew."""
        own = model.state_dict()
        kept = {key: own[key] for key in own if key in self.anew or _is_counter(key)}
        return {**kept, **self.state}

    @property
    def layers(self) -> list[str]:
        """The names of the layers that are made anew."""
        return list(dict.fromkeys(_layer(key) or key for key in self.anew))

    def as_data(self) -> dict[str, Any]:
        """Return it as it stands in pretrained.json and summary.json."""
        return {"weights": self.name, "sha256": self.digest, "made_anew": self.layers}

    def line(self, classes: int) -> str:
        """Return what is said of it in a log."""
        anew = f"{few(self.layers)} made anew for {classes} classes" if self.anew else "all layers"
        return f"starts from the weights {self.name} (SHA-256 {self.digest[:8]}...): {anew}"


def begins_pretrained(config: Config) -> bool:
    """Whether the float network of a run begins at published weights, or at the user's own."""
    has_weights = library_of(config.model.target) is not None and config.model.options.get("pretrained") is not None
    return has_weights and config.init in BEGINS


def pretrained_start(config: Config, parts: Parts, *, download: bool = True) -> PretrainedStart | None:
    """Return the weights that the network of a run begins with, held against it.

    None where it begins at random ones or at those that `init` names, and where a published file is not there and
    `download` is false.

    Raises:
        UsageError: no such weights or file, a failed download, or weights that do not fit.
    """
    if not begins_pretrained(config):
        return None
    pretrained, network = config.model.options["pretrained"], config.model.options["network"]
    option, library = f"model.pretrained={pretrained}", str(library_of(config.model.target))
    path, name = weights_path(pretrained), str(pretrained)
    if path is None:
        found = published_weights(library, network, pretrained)
        path, name = found.fetch(download=download), found.name
        if path is None:
            return None
    elif not path.is_file():
        raise UsageError(f"{option}: " + ("is no regular file" if path.exists() else f"there is no file {path}"))
    elif path.stat().st_size > MOST_BYTES:
        raise UsageError(f"{option}: is larger than {MOST_BYTES // 2**30} GB, which no network here is")
    elif weights_digest(config.model.target, config.model.options) != config.tree["model"].get("digest"):
        raise UsageError(f"{option}: {path} has changed since the command was checked; start it again")
    state, anew = _fitted(_read(path), config, parts)
    return PretrainedStart(state, anew, name, file_digest(path), option)


def check_pretrained(config: Config, parts: Parts, *, download: bool) -> None:
    """Raise UsageError where the weights that a network is to begin with cannot be used; see `pretrained_start`."""
    pretrained = config.model.options.get("pretrained") if library_of(config.model.target) else None
    if pretrained is not None and config.init not in (*BEGINS, "torchvision"):  # which is refused elsewhere
        raise UsageError(
            f"model.pretrained={pretrained}: init={config.init} names another start; leave out one of them"
        )
    if (found := pretrained_start(config, parts, download=download)) is None:
        return
    with torch.device("meta"):
        model = parts.build_model()
    weights.check_fits(model, found.of(model), found.option)
    weights.check_finite(found.state, found.option)


def _read(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file, under the names of today."""
    state = weights.named_as((), weights.load_state(path))  # no network of a library is a wrapper
    return {_OLDER.sub(r"\1\2", key): value for key, value in state.items()}


def _fitted(state: Mapping[str, Tensor], config: Config, parts: Parts) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the weights without what has to be made anew, and the keys of that.

    Only a layer that hangs on the number of classes is made anew, and only where the file lacks it, or has it for
    another number; whatever else does not fit stays, and is an error later.
    """
    build, options = resolve(config.model, "model")
    ours, more = (_shapes(build, parts.source.classes + extra, parts, options) for extra in (0, 1))
    found = {key: value for key, value in state.items() if not key.startswith(_HEADS_OF_TRAINING)}
    layers: dict[str, list[str]] = {}
    for key, shape in ours.items():
        if more[key] != shape:
            layers.setdefault(_layer(key), []).append(key)
    anew: list[str] = []
    for keys in layers.values():
        theirs = [tuple(found[key].shape) for key in keys if key in found]
        is_other = len(theirs) == len(keys) and all(
            _is_of_other_classes(shape, ours[key], more[key]) for key, shape in zip(keys, theirs, strict=True)
        )
        if not theirs or is_other:
            anew += keys
            found = {key: value for key, value in found.items() if key not in keys}
    return found, tuple(anew)


def _shapes(build: Callable, classes: int, parts: Parts, options: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = build(classes, parts.source.channels, parts.source.image_size, **options)
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def _is_of_other_classes(theirs: Sequence[int], ours: Sequence[int], more: Sequence[int]) -> bool:
    """Whether a shape differs from `ours` in nothing but the number of classes, in which `more` differs."""
    if len(theirs) != len(ours) or theirs == ours:
        return False
    return all(has == wants for has, wants, other in zip(theirs, ours, more, strict=True) if wants == other)


def _layer(key: str) -> str:
    return key.rpartition(".")[0]


def _is_counter(key: str) -> bool:
    """Whether this is a batch counter of batch norm, which weights from before torch 0.4.1 lack."""
    return key.endswith(".num_batches_tracked")
