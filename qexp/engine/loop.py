"""The training loop.

a state that was saved is restored                 engine/state.py, engine/saving.py
for epoch
    for batch
        anneal quantizers, set learning rates          pure functions of the step
        forward, backward, optimizer step              engine/step.py
        -> observers.step
        save the state if that is due; leave here if a signal asked for it
    every `eval_interval` epochs and at the end: evaluate, hard, and soft where it differs
    -> observers.epoch
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from qexp.engine.divergence import NotFinite, check_finite, first_cause
from qexp.engine.step import Step
from qexp.engine.train_state import Training
from qexp.utils.callback import EpochRecord, Metrics, Observer, StepRecord
from qexp.utils.errors import Diverged, Interrupted
from qexp.utils.types import Progress

Anneal = Callable[[Progress], None]


class Batches(Protocol):
    """Training data: `epoch(e, start)` yields (images, labels) from batch `start` on, a pure function of both."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]: ...


class Keeper(Observer):
    """Keeps states of a training to go on from; this one keeps none."""

    def restore(self, training: Training, prepare: Callable[[int], None]) -> None:
        """Put a kept state into `training`, if there is one.

        Args:
            training: at its beginning.
            prepare: to be called with the number of steps done, before the network is loaded.
        """

    def save_if_due(self, training: Training) -> None:
        """Called between two steps, and at the end of an epoch."""

    def save(self, training: Training) -> None:
        """Called where training ends or is interrupted."""


def fit(
    model: nn.Module,
    batches: Batches,
    *,
    step: Step,
    anneal: Anneal,
    evaluate: Callable[[], tuple[Metrics, Metrics]],
    epochs: int,
    eval_interval: int = 1,
    stuck_after: float | None = None,
    observers: Sequence[Observer] = (),
    keeper: Keeper | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> EpochRecord:
    """Train `model` in place and return the record of the last epoch.

    Evaluation takes no part in training: `eval_interval` changes what is seen and not what is learned.

    Args:
        model: images to logits.
        batches: to train on.
        step: one optimizer step.
        anneal: sets what follows a schedule.
        evaluate: returns (hard, soft) metrics.
        epochs: in all.
        eval_interval: epochs between evaluations; the last one always has one.
        stuck_after: fraction of the epochs after which training at chance level has diverged, None for never.
        observers: are told of steps and epochs.
        keeper: keeps states to go on from.
        check_stop: raises Interrupted where training shall stop; it is called where the state is exact.

    Raises:
        Diverged: a loss or weight is not finite, or training is stuck at chance.
        Interrupted: by `check_stop`; the state has been saved.
    """
    training, keeper, per_epoch = Training(model, step, stuck_after), keeper or Keeper(), len(batches)
    steps = epochs * per_epoch
    keeper.restore(training, lambda done: anneal(Progress(done, steps, (done - 1) // per_epoch, epochs)))
    try:
        for epoch in range(training.epochs, epochs):
            training.begin_epoch()
            for images, labels in _until_stopped(batches.epoch(epoch, training.done - epoch * per_epoch), check_stop):
                record = _take(training, images, labels, anneal, Progress(training.done + 1, steps, epoch, epochs))
                for observer in observers:
                    observer.step(record)
                keeper.save_if_due(training)
                check_stop()
            is_due = (epoch + 1) % eval_interval == 0 or epoch + 1 == epochs
            result = _end_epoch(training, epoch, epochs, evaluate if is_due else None)
            for observer in (keeper, *observers):
                observer.epoch(result, model)
            training.end_epoch(result)
            keeper.save_if_due(training)
            check_stop()
    except Interrupted:
        keeper.save(training)
        raise
    keeper.save(training)
    assert training.last is not None
    return training.last


def _until_stopped(
    batches: Iterator[tuple[Tensor, Tensor]], check_stop: Callable[[], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches; a signal may end the processes that make them as well, and is not an error of theirs."""
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception:
            check_stop()
            raise
        yield batch


def _take(training: Training, images: Tensor, labels: Tensor, anneal: Anneal, now: Progress) -> StepRecord:
    """Take one step; raise Diverged where its loss is not finite."""
    step = training.step
    anneal(now)
    step.optimizers.set_progress(training.done / now.steps)
    try:
        outcome = step(images, labels)
    except NotFinite as error:
        epoch = (error.step - 1) * now.epochs // now.steps + 1
        cause = first_cause(training.model, images)
        raise Diverged(f"diverged in epoch {epoch}, step {error.step} of {now.steps}: {error}; {cause}") from None
    training.count(outcome, labels)
    return StepRecord(now.step, now.steps, now.epoch, len(labels), outcome.loss, step.optimizers.learning_rates())


def _end_epoch(
    training: Training, epoch: int, epochs: int, evaluate: Callable[[], tuple[Metrics, Metrics]] | None
) -> EpochRecord:
    train, penalty = training.tally.read()
    trained_seconds = training.seconds
    where = f"diverged in epoch {epoch + 1}"
    check_finite(training.model, training.step.guard, f"{where}, by its last step")
    if not math.isfinite(train.loss + penalty):
        raise Diverged(f"{where}: the training means are loss {train.loss:g}, penalty {penalty:g}")
    hard, soft = evaluate() if evaluate else (None, None)
    if hard and not math.isfinite(hard.loss):
        raise Diverged(f"{where}: the test loss is {hard.loss:g}")
    # Last: an evaluation that was interrupted is done again, and this must not count twice.
    training.chance.see(train.correct, train.images, training.tally.classes, epoch + 1, epochs)
    return EpochRecord(
        epoch=epoch + 1,
        epochs=epochs,
        train=train,
        penalty=penalty,
        hard=hard,
        soft=soft,
        learning_rates=training.step.optimizers.learning_rates(),
        time_seconds=training.seconds,
        time_images_per_second=train.images / trained_seconds,
    )


def seed_everything(seed: int) -> None:
    """Seed all random generators; the order of examples and their augmentation have generators of their own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
