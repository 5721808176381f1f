"""Checkpointer and journals: whole or as before, found again when damaged, of this run and no other."""

import copy
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qexp.engine.checkpointer import Checkpointer, option_differences, read_checkpoint, strip_training_state
from qexp.utils import atomic
from qexp.utils.callback import Metrics
from qexp.utils.errors import Diverged, UsageError
from support.fitting import run_fit
from support.limits import within
from support.trained import equal, fitted, training


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_single_wrong_bit_is_noticed_or_has_no_effect(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    """Every byte of the file is covered by a checksum, or is filling, or is a name that nothing depends on."""
    folder = tmp_path_factory.mktemp("bit")
    fitted(folder)
    path = folder / "last.pt"
    whole, content = read_checkpoint(path), bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        found = read_checkpoint(path)
    except UsageError:
        return
    assert equal(found, whole)


@given(length=st.floats(0, 1, exclude_max=True))
def test_a_truncated_checkpoint_is_noticed(tmp_path_factory: pytest.TempPathFactory, length: float) -> None:
    folder = tmp_path_factory.mktemp("cut")
    fitted(folder)
    os.truncate(folder / "last.pt", int(length * (folder / "last.pt").stat().st_size))
    with pytest.raises(UsageError, match=r"last\.pt is damaged: it is cut short or overwritten"):
        read_checkpoint(folder / "last.pt")


def test_a_pipe_in_the_place_of_a_checkpoint_is_a_damaged_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last.pt")
    with within(5), pytest.raises(UsageError, match=r"last\.pt is damaged: it is cut short or overwritten"):
        read_checkpoint(tmp_path / "last.pt")


def test_a_best_network_of_epochs_that_are_trained_again_is_not_kept(tmp_path: Path) -> None:
    """best.pt may be ahead of the state that a run goes on from; the one that the state knows takes its place."""
    fitted(tmp_path)
    own = read_checkpoint(tmp_path / "best.pt")
    assert own["epoch"] == 1
    atomic.rename(tmp_path / "best.pt", "best-previous.pt")
    torch.save(own | {"epoch": 2, "top1": 100.0}, tmp_path / "best.pt")
    Checkpointer(tmp_path, identity={"seed": 0}).restore(training(), lambda done: None)
    assert equal(read_checkpoint(tmp_path / "best.pt"), own)


def test_a_best_network_that_is_lost_is_told_of_and_no_other_stands_for_it(tmp_path: Path) -> None:
    fitted(tmp_path)
    torch.save(read_checkpoint(tmp_path / "best.pt") | {"epoch": 2}, tmp_path / "best.pt")
    said: list[str] = []
    keeper = Checkpointer(tmp_path, identity={"seed": 0}, warn=said.append)
    keeper.restore(training(), lambda done: None)
    assert said == [f"warning: {tmp_path}/best.pt, of epoch 1, is damaged or gone"]
    assert (keeper.best_epoch, (tmp_path / "best.pt").exists()) == (1, False)


# Intervals, and what is left at the end


@pytest.mark.parametrize(("steps", "expected"), [(0, [6]), (1, [1, 2, 3, 4, 5, 6]), (2, [2, 4, 6]), (4, [4, 6])])
def test_states_are_written_every_so_many_steps_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, expected: list[int]
) -> None:
    saved: list[int] = []
    real = Checkpointer.save
    monkeypatch.setattr(Checkpointer, "save", lambda self, state: (saved.append(state.done), real(self, state)))
    fitted(tmp_path, steps=steps)
    assert list(dict.fromkeys(saved)) == expected


def test_states_are_written_every_so_many_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    keeper, begun = Checkpointer(tmp_path, identity={}, seconds=60), training()
    for seconds, exists in ((59.0, False), (60.0, True)):
        now[0] = seconds
        keeper.save_if_due(begun)
        assert (tmp_path / "last.pt").exists() is exists


def test_a_finished_run_keeps_its_networks_alone(tmp_path: Path) -> None:
    begun, _ = fitted(tmp_path, steps=1)
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "previous.pt", "best.pt"}
    strip_training_state(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "best.pt"}
    last = read_checkpoint(tmp_path / "last.pt")
    assert list(last) == ["model", "epoch", "top1", "run", "codes"]
    assert equal(dict(last["model"]), dict(begun.model.state_dict()))
    strip_training_state(tmp_path)
    assert equal(read_checkpoint(tmp_path / "last.pt"), last)


def test_a_state_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    begun, keeper = fitted(tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    with torch.no_grad():
        begun.model[0].weight[1, 2] = float("inf")
    with pytest.raises(Diverged, match=r"^diverged by step 0: 0\.weight is not finite$"):
        keeper.save(begun)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_differences_name_what_differs_and_how() -> None:
    ours = {"seed": 0, "recipe": {"epochs": 20, "crop": 4}, "keep_float": ["first"]}
    theirs = {"seed": 0, "recipe": {"epochs": 30, "crop": 4, "flip": True}, "keep_float": ["first"]}
    assert list(option_differences(ours, theirs)) == [
        "recipe.epochs=30 instead of 20",
        "recipe.flip=True instead of None",
    ]
    assert list(option_differences(ours, copy.deepcopy(ours))) == []


def test_checkpoints_keep_last_and_best(tmp_path):
    """best.pt stays at the epoch with the highest hard top-1."""
    keeper, model = Checkpointer(tmp_path, identity={}), nn.Linear(4, 3)
    scores = iter([60.0, 80.0, 70.0])

    def score():
        metrics = Metrics(1.0, next(scores), 90.0, 10)
        return metrics, metrics

    run_fit(model, epochs=3, evaluate=score, checkpointer=keeper)
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert (last["epoch"], best["epoch"], keeper.best_top1) == (3, 2, 80.0)
    assert all(torch.equal(value, last["model"][key]) for key, value in model.state_dict().items())
    assert not torch.equal(best["model"]["weight"], last["model"]["weight"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_the_best_network_is_one_of_the_latest_widths(tmp_path: Path) -> None:
    """Where bit-widths are learned, an earlier network of more bits is another one; its accuracy is not kept."""
    widths = iter([{"0": (4, 4)}, {"0": (3, 4)}, {"0": (3, 4)}, {"0": (3, 4)}])
    keeper, model = Checkpointer(tmp_path, identity={}, bits=lambda _: next(widths)), nn.Linear(4, 3)
    scores = iter([90.0, 60.0, 80.0, 70.0])

    def score() -> tuple[Metrics, Metrics]:
        metrics = Metrics(1.0, next(scores), 90.0, 10)
        return metrics, metrics

    run_fit(model, epochs=4, evaluate=score, checkpointer=keeper)
    assert (keeper.best_epoch, keeper.best_top1) == (3, 80.0)
    assert read_checkpoint(tmp_path / "best.pt")["epoch"] == 3
    assert read_checkpoint(tmp_path / "last.pt")["best_bits"] == {"0": (3, 4)}
