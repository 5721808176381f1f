"""Checkpoints: `last.pt` after every epoch, `best.pt` when measured hard top-1 rises. Written whole or not at all."""

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
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


def load_file(path: Path) -> Any:
    """Return what is in a file that `torch.save` wrote; no pickled code is run.

    Raises:
        UsageError: no such file, or more in it than tensors and plain values.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # on files that torch did not write; the error says it all
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"no checkpoint at {path}") from None
    except Exception as error:
        raise UsageError(f"{path} is not a checkpoint that can be loaded safely: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return one line without torch's advice to load the file unsafely."""
    text = str(error).strip()
    if named := re.search(r"GLOBAL (\S+)", text):
        return f"besides tensors and plain values it holds {named[1]}, which loading would have to call"
    if isinstance(error, OSError | RuntimeError) and text:
        return text.splitlines()[0].partition(". ")[0][:120]
    return "torch.save did not write it, or it was cut short"


def load_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint.

    Raises:
        UsageError: no such file, or not a checkpoint.
    """
    content = load_file(path)
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
    problems = differences({key: value.shape for key, value in model.state_dict().items()}, state)
    if problems:
        raise UsageError(f"{source}: does not fit this network; {problems}")


def differences(expected: Mapping[str, Sequence[int]], found: Mapping[str, Tensor]) -> str:
    """Return in one line the keys and shapes in which `found` differs from {key: shape}; empty where it does not."""
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(expected[key])}"
        for key in expected.keys() & found.keys()
        if tuple(found[key].shape) != tuple(expected[key])
    ]
    missing, unexpected = expected.keys() - found.keys(), found.keys() - expected.keys()
    parts = (("missing", missing), ("unexpected", unexpected), ("other shapes", shapes))
    return "; ".join(f"{title}: {few(keys)}" for title, keys in parts if keys)


def few(names: Iterable[str], most: int = 4) -> str:
    """Return the first names in alphabetical order, and how many more there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


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
