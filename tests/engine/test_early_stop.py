"""When a training ends by its accuracy on held-out images, and what is kept of it."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from qexp.engine.checkpointer import BEST, LAST, Checkpointer, read_checkpoint
from qexp.engine.early_stop import EarlyStop
from qexp.utils.callback import Metrics
from qexp.utils.errors import Diverged, Interrupted
from support.fitting import run_fit


def metrics(top1: float, loss: float = 1.0) -> Metrics:
    return Metrics(loss, top1, 100.0, 10)


def scores(values: Sequence[float]) -> Callable[[], Metrics]:
    left = list(values)
    return lambda: metrics(left.pop(0))


@pytest.mark.parametrize(
    ("patience", "values", "expected"),
    [
        (0, [5, 4, 3, 2], None),
        (1, [5, 4], 2),
        (2, [5, 4, 6, 6, 6], 5),  # as good is not better
        (3, [1, 2, 3, 4], None),
        (2, [0, 0, 0], 3),
    ],
)
def test_training_ends_after_so_many_epochs_without_a_better_one(
    patience: int, values: list[float], expected: int | None
) -> None:
    known, ended = EarlyStop(patience), []
    for epoch, value in enumerate(values, 1):
        known = known.after(metrics(value), epoch)
        ended += [epoch] if known.ends(epoch) else []
    assert ended == ([expected] if expected else [])
    assert (known.top1, known.epoch) == (max(values), values.index(max(values)) + 1)
    assert known.after(None, 9) == known


def test_the_epoch_that_training_ends_with_is_evaluated_and_the_last(tmp_path: Path) -> None:
    """Whatever the interval between evaluations, which changes nothing of when it ends."""
    for interval in (1, 2, 7):
        (folder := tmp_path / str(interval)).mkdir()
        keeper = Checkpointer(folder, identity={})
        last, seen = run_fit(
            nn.Linear(4, 3),
            epochs=9,
            eval_interval=interval,
            held_out=scores([40, 60, 50, 60]),
            patience=2,
            checkpointer=keeper,
        )
        assert (last.epoch, last.epochs) == (4, 9)
        assert last.hard is not None
        assert last.held_out is not None
        assert [record.held_out.top1 for record in seen.epochs] == [40, 60, 50, 60]
        expected = {1: [1, 2, 3, 4], 2: [2, 4], 7: [4]}[interval]
        assert [record.epoch for record in seen.epochs if record.hard] == expected
        assert read_checkpoint(folder / LAST)["epoch"] == 4


def test_the_best_network_is_chosen_by_held_out_images_and_not_by_the_test(tmp_path: Path) -> None:
    test = iter([70.0, 20.0, 90.0])

    def evaluate() -> tuple[Metrics, Metrics]:
        return (metrics(next(test)),) * 2

    keeper = Checkpointer(tmp_path, identity={})
    run_fit(nn.Linear(4, 3), epochs=3, evaluate=evaluate, held_out=scores([40, 60, 50]), checkpointer=keeper)
    best = read_checkpoint(tmp_path / BEST)
    assert (best["epoch"], best["top1"]) == (2, 20.0)
    assert (keeper.best_epoch, keeper.best_top1, keeper.best_score) == (2, 20.0, 60.0)
    again = Checkpointer(tmp_path, identity={})
    run_fit(nn.Linear(4, 3), epochs=3, held_out=scores([]), checkpointer=again)
    assert (again.best_epoch, again.best_top1, again.best_score) == (2, 20.0, 60.0)


def test_what_held_out_images_said_is_part_of_a_state(tmp_path: Path) -> None:
    """Interrupted in the test of the third epoch: that one is evaluated again, and does not count twice."""
    torch.manual_seed(0)

    def interrupted() -> Any:
        raise Interrupted(signal.SIGTERM)

    keeper = Checkpointer(tmp_path, identity={})
    options: dict[str, Any] = {"epochs": 9, "patience": 2, "eval_interval": 3}
    with pytest.raises(Interrupted):
        run_fit(nn.Linear(4, 3), evaluate=interrupted, held_out=scores([60, 40, 50]), checkpointer=keeper, **options)
    state = read_checkpoint(tmp_path / LAST)["training"]
    assert (state["epochs"], state["best_held_out"]) == (2, (60, 1))
    last, seen = run_fit(
        nn.Linear(4, 3), held_out=scores([50]), checkpointer=Checkpointer(tmp_path, identity={}), **options
    )
    assert (last.epoch, [record.epoch for record in seen.epochs]) == (3, [3])
    last, seen = run_fit(
        nn.Linear(4, 3), held_out=scores([]), checkpointer=Checkpointer(tmp_path, identity={}), **options
    )
    assert (last.epoch, seen.epochs) == (3, [])


def test_a_held_out_loss_that_is_not_finite_ends_the_run() -> None:
    with pytest.raises(Diverged, match="^diverged in epoch 1: the held-out loss is inf$"):
        run_fit(nn.Linear(4, 3), held_out=lambda: metrics(50.0, float("inf")))
