"""The training loop.

a saved state is restored                              checkpointer.py, train_state.py
for epoch
    for batch
        anneal quantizers, follow schedules             pure functions of the step
        forward, backward, update                      step.py
        -> callbacks.step
        save the state if that is due; leave here if a signal asked for it
    with the average of the weights in their place, where there is one: average.py
        evaluate on held-out images, which may end training after this epoch: early_stop.py
        every `eval_interval` epochs and at the end: evaluate, hard, and soft where it differs
        -> callbacks.epoch
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from qexp.engine.divergence import check_training, located
from qexp.engine.step import Step
from qexp.engine.train_state import Meter, TrainState
from qexp.utils.callback import Callback, EpochRecord, Metrics, StepRecord
from qexp.utils.errors import Diverged, Interrupted
from qexp.utils.types import Progress

Evaluate = Callable[[], tuple[Metrics, Metrics]]


class TrainingBatches(Protocol):
    """Training data: `epoch(e, start)` yields (images, labels) from batch `start` on, a pure function of both."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]: ...


class NoCheckpointer:
    """Saves states of a training to resume from; this one saves none."""

    def restore(self, state: TrainState, prepare: Callable[[int], None]) -> None:
        """Put a saved state into `state`, if there is one.

        Args:
            state: of a training at its beginning.
            prepare: to be called with the number of steps done, before the network is loaded.
        """

    def epoch(self, record: EpochRecord, model: nn.Module) -> None:
        """Called after every epoch, before the callbacks."""

    def save_if_due(self, state: TrainState) -> None:
        """Called between two steps, and at the end of an epoch."""

    def save(self, state: TrainState) -> None:
        """Called where training ends or is interrupted."""


def fit(
    model: nn.Module,
    batches: TrainingBatches,
    *,
    step: Step,
    anneal: Callable[[Progress], None],
    evaluate: Evaluate,
    held_out: Callable[[], Metrics] | None = None,
    epochs: int,
    eval_interval: int = 1,
    patience: int = 0,
    stuck_after: float | None = None,
    oscillation: Meter | None = None,
    callbacks: Sequence[Callback] = (),
    checkpointer: NoCheckpointer | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> EpochRecord:
    """Train `model` in place and return the record of the last epoch; where weights are averaged it ends with those.

    Evaluation takes no part in training: `eval_interval` changes what is seen and not what is learned.

    Args:
        model: images to logits.
        batches: to train on.
        step: forward, backward and update of one batch.
        anneal: sets what follows a schedule.
        evaluate: returns (hard, soft) metrics.
        held_out: returns hard metrics of images that were held out of training; it is called after every epoch.
        epochs: in all.
        eval_interval: epochs between evaluations; the last one always has one.
        patience: epochs without a better accuracy on held-out images after which training ends, 0 for never.
        stuck_after: fraction of the epochs after which training at chance level has diverged, None for never.
        oscillation: measures how codes move, from epoch to epoch and step to step.
        callbacks: are told of steps and epochs.
        checkpointer: saves states to resume from.
        check_stop: raises Interrupted where training shall stop; it is called where the state is exact.

    Raises:
        Diverged: a loss or weight is not finite, or training is stuck at chance.
        Interrupted: by `check_stop`; the state has been saved.
    """
    state, checkpointer = TrainState(model, step, stuck_after, oscillation, patience), checkpointer or NoCheckpointer()
    per_epoch, steps = len(batches), epochs * len(batches)
    checkpointer.restore(state, lambda done: anneal(Progress(done, steps, (done - 1) // per_epoch, epochs)))
    try:
        for epoch in state.remaining(epochs):
            state.begin_epoch()
            for images, labels in _until_stopped(batches.epoch(epoch, state.done - epoch * per_epoch), check_stop):
                now = Progress(state.done + 1, steps, epoch, epochs)
                anneal(now)
                step.follow_schedules(state.done / steps)
                with located(model, images, now):
                    with step.cached_weights():
                        for part in step.parts(images, labels):
                            loss = step.forward(part)
                            step.backward(loss)
                    step.update()
                output, rates = step.output, step.optimizers.learning_rates()
                state.count(output, labels, (epoch + 1) * per_epoch - now.step)
                for callback in callbacks:
                    callback.step(StepRecord(now.step, steps, epoch, len(labels), output.loss, rates))
                checkpointer.save_if_due(state)
                check_stop()
            with step.averaged():
                record = _end_epoch(state, epoch, epochs, evaluate, held_out, eval_interval)
                checkpointer.epoch(record, model)
                for callback in callbacks:
                    callback.epoch(record, model)
            state.end_epoch(record)
            checkpointer.save_if_due(state)
            check_stop()
    except Interrupted:
        checkpointer.save(state)
        raise
    checkpointer.save(state)
    step.settle()
    assert state.last is not None
    return state.last


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


def _end_epoch(
    state: TrainState,
    epoch: int,
    epochs: int,
    evaluate: Evaluate,
    held_out: Callable[[], Metrics] | None,
    eval_interval: int,
) -> EpochRecord:
    """Return the record of an epoch, evaluated where that is due; raise Diverged."""
    train, penalty = state.tally.read()
    trained_seconds = state.seconds
    where = f"diverged in epoch {epoch + 1}"
    check_training(state.model, state.step.guard, f"{where}, by its last step")
    if not math.isfinite(train.loss + penalty):
        raise Diverged(f"{where}: the training means are loss {train.loss:g}, penalty {penalty:g}")
    kept = held_out() if held_out else None
    early_stop = state.early_stop.after(kept, epoch + 1)
    is_last = epoch + 1 == epochs or early_stop.ends(epoch + 1)
    hard, soft = evaluate() if is_last or (epoch + 1) % eval_interval == 0 else (None, None)
    for name, metrics in (("held-out", kept), ("test", hard)):
        if metrics and not math.isfinite(metrics.loss):
            raise Diverged(f"{where}: the {name} loss is {metrics.loss:g}")
    # Last: an evaluation that was interrupted is done again, and this must not count twice.
    state.early_stop = early_stop
    state.chance.see(train.correct, train.images, state.tally.classes, epoch + 1, epochs)
    return EpochRecord(
        epoch=epoch + 1,
        epochs=epochs,
        train=train,
        penalty=penalty,
        hard=hard,
        soft=soft,
        learning_rates=state.step.optimizers.learning_rates(),
        time_seconds=state.seconds,
        time_images_per_second=train.images / trained_seconds,
        oscillation=state.oscillation.measure() if state.oscillation else None,
        held_out=kept,
        is_averaged=state.step.average is not None,
    )


def seed_everything(seed: int) -> None:
    """Seed all random generators; the order of examples and their augmentation have generators of their own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
