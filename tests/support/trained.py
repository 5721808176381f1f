"""A small training with SGD, Adam and dropout, and the comparison of its states."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from qexp.engine.checkpointer import Checkpointer
from qexp.engine.loop import fit
from qexp.engine.optim import Optimizers
from qexp.engine.step import Step, cross_entropy
from qexp.engine.train_state import TrainState
from support.fitting import METRICS, ROLES, Fixed, schedule

# Properties


def training(seed: int = 0, norm: bool = True) -> TrainState:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), *([nn.BatchNorm1d(6)] if norm else []), nn.Dropout(0.5), nn.Linear(6, 3))
    roles = {"weight": [p for p in model.parameters() if p.dim() > 1], "range": [model[-1].bias]}
    optimizers = Optimizers(roles, ROLES, schedule("cosine"))
    return TrainState(model, Step(model, criterion=cross_entropy(0.0), optimizers=optimizers), None)


def fitted(folder: Path, **options: Any) -> tuple[TrainState, Checkpointer]:
    """A training of two epochs of three batches, with SGD, Adam and dropout, that keeps its state in `folder`."""
    begun = training()
    keeper = Checkpointer(folder, identity={"seed": 0}, **options)
    fit(
        begun.model,
        Fixed(),
        step=begun.step,
        anneal=lambda _: None,
        evaluate=lambda: (METRICS, METRICS),
        epochs=2,
        checkpointer=keeper,
    )
    return begun, keeper


def equal(one: Any, other: Any) -> bool:
    """Whether two trees of tensors and plain data are the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)
