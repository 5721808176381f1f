"""Checkpoints: `last.pt` after every epoch, `best.pt` when measured hard top-1 rises. Written whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qexp.errors import UsageError
from qexp.observer import EpochRecord, Observer


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to a temporary name beside `path`, then rename."""
    temporary = path.with_name(path.name + ".tmp")
    torch.save(content, temporary)
    os.replace(temporary, path)


def load_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint; no pickled code is run.

    Raises:
        UsageError: no such file, or not a checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"no checkpoint at {path}") from None
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise UsageError(f"{path} is not a checkpoint that can be loaded safely: {reason}") from error
    state = content.get("model", content.get("state_dict", content)) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"{path} holds no state dict of tensors")
    return state


def holds_quantizers(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is that of a quantized network with parameters of its own."""
    return any("quantizer." in key or key.endswith("output_scale") for key in state)


def load_into(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` strictly.

    Raises:
        UsageError: keys or shapes that differ, named.
    """
    check_fits(model, state, source)
    model.load_state_dict(dict(state), strict=True)


def check_fits(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Raise UsageError that names the keys and shapes in which `state` differs from those of `model`."""
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    ]
    parts = (("missing", missing), ("unexpected", unexpected), ("other shapes", sorted(shapes)))
    problems = [f"{title}: {_few(keys)}" for title, keys in parts if keys]
    if problems:
        raise UsageError(f"{source}: does not fit this network; {'; '.join(problems)}")


def _few(keys: list[str], most: int = 4) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")


class Checkpoints(Observer):
    """Keeps the last and the best state of a run.

    Args:
        directory: the run's.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.best_top1, self.best_epoch = -1.0, 0

    def epoch(self, record: EpochRecord, model: nn.Module) -> None:
        top1 = record.hard.top1 if record.hard else None
        content = {"model": model.state_dict(), "epoch": record.epoch, "top1": top1}
        save(self.directory / "last.pt", content)
        if top1 is not None and top1 > self.best_top1:
            self.best_top1, self.best_epoch = top1, record.epoch
            save(self.directory / "best.pt", content)
