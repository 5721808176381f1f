"""What a training reports while it runs, and to whom. Callbacks only watch: they change nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Metrics:
    """Means over a set of images; top-1 and top-5 in percent."""

    loss: float
    top1: float
    top5: float
    images: int

    @property
    def correct(self) -> int:
        """The number of images whose top-1 is right, which `top1` is a percentage of."""
        return round(self.top1 * self.images / 100)


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step. `loss` stays on its device: reading it waits for the device."""

    step: int
    steps: int
    epoch: int
    images: int
    loss: Tensor
    learning_rates: Mapping[str, float]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch. `soft` is `hard` where the method has no soft form; both are None without an evaluation.

    What is called time_* is all that differs when the same training is done again on the same machine.
    """

    epoch: int  # counts from 1
    epochs: int
    train: Metrics
    penalty: float
    hard: Metrics | None
    soft: Metrics | None
    learning_rates: Mapping[str, float]
    time_seconds: float
    time_images_per_second: float
    oscillation: Mapping[str, float] | None = None  # see `OscillationMeter`; None without codes
    before_norm: Mapping[str, float] | None = (
        None  # top1_hard and top1_soft, where batch norm was estimated again since
    )

    held_out: Metrics | None = None  # hard, of the images that were held out of training, where some are
    is_averaged: bool = False  # hard, soft and held_out are of the average of the weights, see `WeightAverage`

    @property
    def gap(self) -> float | None:
        """The quantizer gap: soft minus hard top-1, in points."""
        return self.soft.top1 - self.hard.top1 if self.soft and self.hard else None


class Callback:
    """Override what you want to see."""

    def step(self, record: StepRecord) -> None:
        """Called after every optimizer step."""

    def epoch(self, record: EpochRecord, model: nn.Module) -> None:
        """Called after every epoch, and its evaluation if it has one."""

    def after_norm(self, record: EpochRecord) -> None:
        """Called where batch norm was estimated again after training: with the last record, evaluated again."""

    def position(self) -> Mapping[str, int]:
        """Called when a checkpoint is written: return file -> bytes of what was written so far, and is on the disk."""
        return {}

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Called once with the final summary, before `close`."""

    def close(self) -> None:
        """Called once at the end, also after an error."""


class StepGauge:
    """Reads loss and speed off the steps of a training, a few times a second: to read a loss may wait for its device.

    Attributes:
        shown: when it was read last.
        images: trained on since.
    """

    INTERVAL_SECONDS = 0.25

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew: what came between, such as an evaluation, does not count as training speed."""
        self.shown, self.images = time.perf_counter(), 0

    def reading(self, record: StepRecord) -> tuple[float, float] | None:
        """Return the loss, and images per second since the last reading; None where that was a moment ago."""
        self.images += record.images
        passed = time.perf_counter() - self.shown
        if passed < self.INTERVAL_SECONDS and record.step != record.steps:
            return None
        found = record.loss.item(), self.images / passed
        self.restart()
        return found
