"""The training loop.

for epoch                                      (resume will enter here, with `first_epoch`)
    for batch
        anneal quantizers, set learning rates          pure functions of the step
        forward, backward, optimizer step              engine/step.py
        -> observers.step
    every `eval_interval` epochs and at the end: evaluate, hard, and soft where it differs
    -> observers.epoch
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from qexp.engine.metrics import Tally
from qexp.engine.optim import Optimizers
from qexp.engine.step import Step
from qexp.errors import Diverged
from qexp.observer import EpochRecord, Metrics, Observer, StepRecord
from qexp.types import Progress


class Batches(Protocol):
    """Training data: `epoch(e)` yields (images, labels), a pure function of e."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]: ...


def fit(
    model: nn.Module,
    batches: Batches,
    *,
    step: Step,
    anneal: Callable[[Progress], None],
    evaluate: Callable[[], tuple[Metrics, Metrics]],
    epochs: int,
    eval_interval: int = 1,
    observers: Sequence[Observer] = (),
) -> EpochRecord:
    """Train `model` in place and return the record of the last epoch; `evaluate` returns (hard, soft) metrics.

    Evaluation takes no part in training: `eval_interval`, in epochs, changes what is seen and not what is learned.

    Raises:
        Diverged: an epoch's mean loss is not finite.
    """
    device = next(model.parameters()).device
    optimizers, steps = step.optimizers, epochs * len(batches)
    done = 0
    for epoch in range(epochs):
        model.train()
        tally, started = Tally(device), time.perf_counter()
        for images, labels in batches.epoch(epoch):
            anneal(Progress(done + 1, steps, epoch, epochs))
            optimizers.set_progress(done / steps)
            outcome = step(images, labels)
            done += 1
            tally.add(outcome.logits, labels, outcome.loss, outcome.penalty)
            record = StepRecord(done, steps, epoch, len(labels), outcome.loss, optimizers.learning_rates())
            for observer in observers:
                observer.step(record)
        is_due = (epoch + 1) % eval_interval == 0 or epoch + 1 == epochs
        result = _end_epoch(epoch, epochs, tally, started, evaluate if is_due else None, optimizers)
        for observer in observers:
            observer.epoch(result, model)
    return result


def _end_epoch(
    epoch: int,
    epochs: int,
    tally: Tally,
    started: float,
    evaluate: Callable[[], tuple[Metrics, Metrics]] | None,
    optimizers: Optimizers,
) -> EpochRecord:
    train, penalty = tally.read()
    trained_seconds = time.perf_counter() - started
    if not math.isfinite(train.loss + penalty):
        values = f"loss {train.loss:g}, penalty {penalty:g}"
        raise Diverged(f"diverged in epoch {epoch + 1}: the training means are {values}")
    hard, soft = evaluate() if evaluate else (None, None)
    if hard and not math.isfinite(hard.loss):  # the last steps may have ruined what the epoch's mean does not show
        raise Diverged(f"diverged in epoch {epoch + 1}: the test loss is {hard.loss:g}")
    return EpochRecord(
        epoch=epoch + 1,
        epochs=epochs,
        train=train,
        penalty=penalty,
        hard=hard,
        soft=soft,
        learning_rates=optimizers.learning_rates(),
        time_seconds=time.perf_counter() - started,
        images_per_second=train.images / trained_seconds,
    )


def seed_everything(seed: int) -> None:
    """Seed torch's generators; the order of examples and their augmentation have generators of their own."""
    torch.manual_seed(seed)
