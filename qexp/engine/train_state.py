"""All that changes while a network trains, as data and back."""

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from qexp.engine.divergence import ChanceGuard
from qexp.engine.early_stop import EarlyStop
from qexp.engine.metrics import Tally
from qexp.engine.step import Step, StepOutput
from qexp.utils.callback import EpochRecord, Metrics


class Meter(Protocol):
    """Sees a network after each step, and measures once in an epoch what it is like, with a state of its own."""

    def watch(self, left: int) -> None: ...

    def measure(self) -> Mapping[str, float] | None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class TrainState:
    """A network under training, and how far it is.

    It is exact between two steps: a training that resumes from it computes what it would have computed anyway.

    Attributes:
        done: optimizer steps that are done.
        epochs: epochs that are done, evaluation and reports included.
        tally: what the steps of the epoch under way gave.
        chance: what the latest epochs gave.
        last: the record of the last epoch.
        oscillation: measures how codes move, from epoch to epoch and step to step; None for nothing.
        early_stop: the best epoch on held-out images, and whether training ends before its last epoch.
    """

    def __init__(
        self,
        model: nn.Module,
        step: Step,
        stuck_after: float | None,
        oscillation: Meter | None = None,
        patience: int = 0,
    ):
        self.model, self.step, self.oscillation = model, step, oscillation
        self.device = next(model.parameters()).device
        self.done = self.epochs = 0
        self.tally, self.chance = Tally(self.device), ChanceGuard(stuck_after)
        self.early_stop = EarlyStop(patience)
        self.last: EpochRecord | None = None
        self._before = 0.0  # seconds of the epoch under way in earlier processes
        self._started = time.perf_counter()

    def remaining(self, epochs: int) -> Iterator[int]:
        """Yield the numbers, from 0, of the epochs that are left of so many; each has to be done before the next."""
        while self.epochs < epochs and not self.early_stop.ends(self.epochs):
            yield self.epochs

    def begin_epoch(self) -> None:
        """Start the clock of an epoch."""
        self.model.train()
        self._started = time.perf_counter() - self._before

    @property
    def seconds(self) -> float:
        """Time since the beginning of the epoch under way."""
        return time.perf_counter() - self._started

    def count(self, output: StepOutput, labels: Tensor, left: int) -> None:
        """Count a step of an epoch that has `left` more."""
        self.done += 1
        self.tally.add(output.logits, labels, output.loss, output.penalty)
        if self.oscillation:
            self.oscillation.watch(left)

    def end_epoch(self, record: EpochRecord) -> None:
        """Count an epoch, which has been reported."""
        self.epochs, self.last = self.epochs + 1, record
        self.tally, self._before = Tally(self.device), 0.0
        self._started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the network as tensors and plain data."""
        return {
            "done": self.done,
            "epochs": self.epochs,
            "step": self.step.state_dict(),
            "random": random_state(),
            "tally": self.tally.state_dict(),
            "chance": list(self.chance.recent),
            "best_held_out": (self.early_stop.top1, self.early_stop.epoch),
            "last": None if self.last is None else asdict(self.last),
            "seconds": self.seconds,
            **({} if self.oscillation is None else {"oscillation": self.oscillation.state_dict()}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set everything but the network to what `state_dict` returned; generators last."""
        self.done, self.epochs, self._before = state["done"], state["epochs"], state["seconds"]
        self.step.load_state_dict(state["step"], self.done)
        self.tally.load_state_dict(state["tally"])
        self.chance = ChanceGuard(self.chance.stuck_after, state["chance"])
        top1, epoch = state.get("best_held_out", (self.early_stop.top1, self.early_stop.epoch))
        self.early_stop = EarlyStop(self.early_stop.patience, top1, epoch)
        self.last = None if state["last"] is None else _record(state["last"])
        if self.oscillation and "oscillation" in state:  # not in states of versions before, where it begins anew
            self.oscillation.load_state_dict(state["oscillation"])
        restore_random_state(state["random"])


def _record(data: dict[str, Any]) -> EpochRecord:
    parts = {key: Metrics(**data[key]) for key in ("train", "hard", "soft", "held_out") if data.get(key)}
    if parts.get("soft") == parts.get("hard") and "hard" in parts:
        parts["soft"] = parts["hard"]  # one object where the method has no soft form
    return EpochRecord(**{**data, **parts})


def to_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of a state dict in the memory of the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}


def random_state() -> dict[str, Any]:
    """Return the state of torch's generators (CPU and CUDA devices), Python's and NumPy's."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),  # type: ignore[union-attr]
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set all generators to what `random_state` returned; devices that are not here are left out."""
    torch.set_rng_state(state["torch"])
    for device, own in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(own, device)
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
