"""Checkpoints and journals: whole or as before, found again when damaged, of this run and no other."""

import copy
import errno
import os
import random
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qexp import runs
from qexp.config.config import load_yaml, parse_config
from qexp.engine.checkpointer import Checkpoints, differences, keep_network, read
from qexp.engine.generators import random_state, restore_random_state
from qexp.engine.loop import fit
from qexp.engine.optim import Optimizers
from qexp.engine.step import Step, cross_entropy
from qexp.engine.train_state import Training
from qexp.tracking.journal import Journal
from qexp.utils import atomic
from qexp.utils.errors import Diverged, QexpError, UsageError
from support.crashes import difference, kill_at, only_run, result, run_child
from support.fitting import METRICS, ROLES, Fixed, schedule
from support.short_runs import CASES, References, train

QUICK = settings(derandomize=True, deadline=None, database=None, max_examples=60)


# A run whose files are damaged


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    return References(tmp_path_factory.mktemp("references"), {})


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The directory of a run that was killed in step 10 of 12, with the states after steps 6 and 8."""
    assert run_child(train(*CASES["daq"]), tmp_path, kill_at(Step, "_backward", 10)) == -9
    path = only_run(tmp_path)
    assert read(path / "last.pt")["training"]["done"] == 8
    assert read(path / "previous.pt")["training"]["done"] == 6
    return path


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def overwrite(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, overwrite, empty])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    references: References, killed: Path, tmp_path: Path, damage: Any
) -> None:
    damage(killed / "last.pt")
    assert run_child(train(*CASES["daq"]), tmp_path) == 0
    log = (tmp_path / "log").read_text()
    assert "last.pt is damaged: " in log
    assert "previous.pt, the checkpoint before it" in log
    assert "going on from step 6 of 12, epoch 2 of 3" in log
    assert difference(references.of("daq"), result(killed)) is None


def test_two_damaged_checkpoints_start_the_run_over(references: References, killed: Path, tmp_path: Path) -> None:
    for name in ("last.pt", "previous.pt"):
        cut(killed / name)
    assert run_child(train(*CASES["daq"]), tmp_path) == 0
    assert "can be used; the run starts over" in (tmp_path / "log").read_text()
    assert difference(references.of("daq"), result(killed)) is None


@pytest.mark.parametrize("name", ["metrics.jsonl", "events.out.tfevents.qexp"])
def test_a_log_that_was_cut_is_begun_anew_and_changes_nothing_else(
    references: References, killed: Path, tmp_path: Path, name: str
) -> None:
    os.truncate(killed / name, 10)
    assert run_child(train(*CASES["daq"]), tmp_path) == 0
    assert f"{name} is shorter than its checkpoint says; what it held is lost" in (tmp_path / "log").read_text()
    parts = {"metrics.jsonl": "metrics.jsonl", "events.out.tfevents.qexp": "events"}
    assert difference(references.of("daq"), result(killed)) == f"different: {parts[name]}"


def test_a_checkpoint_of_another_run_is_refused_and_what_differs_is_named(killed: Path, tmp_path: Path) -> None:
    other = "recipe.optimizer.weight.lr=0.025"
    assert run_child(train(*CASES["daq"], other), tmp_path, kill_at(Step, "_backward", 5)) == -9
    (path,) = (p.parent for p in tmp_path.glob("runs/*/*/*/*/last.pt") if p.parent != killed)
    (path / "last.pt").write_bytes((killed / "last.pt").read_bytes())
    assert run_child(train(*CASES["daq"], other), tmp_path) == 1
    message = runs.read_json(path / "status.json")["message"]
    assert "last.pt is of another run: recipe.optimizer.weight.lr=0.1 instead of 0.025; overwrite=true" in message
    assert run_child(train(*CASES["daq"], other, "overwrite=true"), tmp_path) == 0


def test_overwriting_goes_on_where_it_was_interrupted(references: References, tmp_path: Path) -> None:
    """A queue that starts the same command again and again gets to its end."""
    words = (*CASES["ste"], "overwrite=true")
    assert run_child(train(*CASES["ste"]), tmp_path) == 0
    assert run_child(train(*words), tmp_path, kill_at(Step, "_backward", 8)) == -9
    assert run_child(train(*words), tmp_path) == 0
    log = (tmp_path / "log").read_text()
    assert log.count("epoch 1/3") == 2
    assert "going on from step 6 of 12" in log
    assert difference(references.of("ste"), result(only_run(tmp_path))) is None


# The disk


def small_files(most: int) -> None:
    """Let writing fail beyond so many bytes of a file, as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def test_a_checkpoint_that_cannot_be_written_ends_in_one_line_and_the_run_goes_on_later(
    references: References, tmp_path: Path
) -> None:
    """The float network alone fits, the state of its training does not; what was there before stays."""
    assert run_child(train(*CASES["daq"]), tmp_path, kill_at(Step, "_backward", 4)) == -9
    path = only_run(tmp_path)
    before = (path / "last.pt").read_bytes()
    assert run_child(train(*CASES["daq"]), tmp_path, lambda: small_files(len(before) // 2)) == 1
    status = runs.read_json(path / "status.json")
    assert status["state"] == "failed"
    assert status["message"].endswith(".pt: File too large")
    assert (path / "last.pt").read_bytes() == before
    assert not list(path.glob("*.tmp"))
    assert run_child(train(*CASES["daq"]), tmp_path) == 0
    assert difference(references.of("daq"), result(path)) is None


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    atomic.write(tmp_path / "a", b"before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(QexpError) as caught:
        atomic.write(tmp_path / "a", b"after")
    advice = "make space and run the same command again"
    assert str(caught.value) == f"cannot write {tmp_path}/a: No space left on device; {advice}"
    assert caught.value.exit_code == 1
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"before")]


def test_what_reads_back_as_something_else_does_not_replace_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic.write(tmp_path / "a", b"before")
    real = os.fsync

    def lose(descriptor: int) -> None:
        real(descriptor)
        os.truncate(tmp_path / "a.tmp", 3)

    monkeypatch.setattr(atomic, "sync", lose)
    with pytest.raises(QexpError, match="a: Input/output error"):
        atomic.write(tmp_path / "a", b"after")
    assert (tmp_path / "a").read_bytes() == b"before"


# Properties


def training(seed: int = 0, norm: bool = True) -> Training:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), *([nn.BatchNorm1d(6)] if norm else []), nn.Dropout(0.5), nn.Linear(6, 3))
    roles = {"weight": [p for p in model.parameters() if p.dim() > 1], "range": [model[-1].bias]}
    optimizers = Optimizers(roles, ROLES, schedule("cosine"))
    return Training(model, Step(model, criterion=cross_entropy(0.0), optimizers=optimizers), None)


def fitted(folder: Path, **options: Any) -> tuple[Training, Checkpoints]:
    """A training of two epochs of three batches, with SGD, Adam and dropout, that keeps its state in `folder`."""
    begun = training()
    keeper = Checkpoints(folder, identity={"seed": 0}, **options)
    fit(
        begun.model,
        Fixed(),
        step=begun.step,
        anneal=lambda _: None,
        evaluate=lambda: (METRICS, METRICS),
        epochs=2,
        keeper=keeper,
    )
    return begun, keeper


@QUICK
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_single_wrong_bit_is_noticed_or_has_no_effect(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    """Every byte of the file is covered by a checksum, or is filling, or is a name that nothing depends on."""
    folder = tmp_path_factory.mktemp("bit")
    fitted(folder)
    path = folder / "last.pt"
    whole, content = read(path), bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        found = read(path)
    except UsageError:
        return
    assert equal(found, whole)


@QUICK
@given(length=st.floats(0, 1, exclude_max=True))
def test_a_truncated_checkpoint_is_noticed(tmp_path_factory: pytest.TempPathFactory, length: float) -> None:
    folder = tmp_path_factory.mktemp("cut")
    fitted(folder)
    os.truncate(folder / "last.pt", int(length * (folder / "last.pt").stat().st_size))
    with pytest.raises(UsageError, match=r"last\.pt is damaged: it is cut short or overwritten"):
        read(folder / "last.pt")


def equal(one: Any, other: Any) -> bool:
    """Whether two trees of tensors and plain data are the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@QUICK
@given(steps=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_a_state_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, steps: int, seed: int) -> None:
    """Written, read, and put into another network with other generators: the same state again."""
    folder = tmp_path_factory.mktemp("round")
    begun = training(seed)
    for images, labels in (Fixed().batches * 2)[:steps]:
        begun.count(begun.step(images, labels), labels)
    Checkpoints(folder, identity={"seed": seed}).save(begun)
    state = copy.deepcopy((begun.model.state_dict(), begun.state_dict()))
    other = training(seed + 1)
    np.random.rand(3), random.random()
    Checkpoints(folder, identity={"seed": seed}).restore(other, lambda done: None)
    found = (other.model.state_dict(), other.state_dict())
    for one in (state[1], found[1]):
        one.pop("seconds")
    assert equal(state, found)


def test_random_generators_come_back() -> None:
    state = random_state()
    first = (torch.rand(2).tolist(), random.random(), np.random.rand())
    torch.rand(5), random.random(), np.random.rand(3)
    restore_random_state(state)
    assert (torch.rand(2).tolist(), random.random(), np.random.rand()) == first


def test_momentum_is_laid_out_as_its_parameter() -> None:
    """torch's fused optimizers go through memory from end to end, whatever the strides."""
    weight = nn.Parameter(torch.randn(4, 3, 2, 2))
    optimizers = Optimizers({"weight": [weight]}, ROLES, schedule())
    state = copy.deepcopy(optimizers.state_dict())
    last = torch.arange(48.0).view(4, 3, 2, 2)
    state["SGD"]["state"][0]["momentum_buffer"] = last.to(memory_format=torch.channels_last)
    optimizers.load_state_dict(state)
    (found,) = (own["momentum_buffer"] for own in optimizers.optimizers[0].state.values())
    assert found.stride() == weight.stride()
    assert torch.equal(found, last)


def test_a_best_network_of_epochs_that_are_trained_again_is_not_kept(tmp_path: Path) -> None:
    """best.pt may be ahead of the state that a run goes on from; the one that the state knows takes its place."""
    fitted(tmp_path)
    own = read(tmp_path / "best.pt")
    assert own["epoch"] == 1
    atomic.rename(tmp_path / "best.pt", "best-previous.pt")
    torch.save(own | {"epoch": 2, "top1": 100.0}, tmp_path / "best.pt")
    Checkpoints(tmp_path, identity={"seed": 0}).restore(training(), lambda done: None)
    assert equal(read(tmp_path / "best.pt"), own)


def test_a_best_network_that_is_lost_is_told_of_and_no_other_stands_for_it(tmp_path: Path) -> None:
    fitted(tmp_path)
    torch.save(read(tmp_path / "best.pt") | {"epoch": 2}, tmp_path / "best.pt")
    said: list[str] = []
    keeper = Checkpoints(tmp_path, identity={"seed": 0}, warn=said.append)
    keeper.restore(training(), lambda done: None)
    assert said == [f"warning: {tmp_path}/best.pt, of epoch 1, is damaged or gone"]
    assert (keeper.best_epoch, (tmp_path / "best.pt").exists()) == (1, False)


# Intervals, and what is left at the end


@pytest.mark.parametrize(("steps", "expected"), [(0, [6]), (1, [1, 2, 3, 4, 5, 6]), (2, [2, 4, 6]), (4, [4, 6])])
def test_states_are_written_every_so_many_steps_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, expected: list[int]
) -> None:
    saved: list[int] = []
    real = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, state: (saved.append(state.done), real(self, state)))
    fitted(tmp_path, steps=steps)
    assert list(dict.fromkeys(saved)) == expected


def test_states_are_written_every_so_many_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    keeper, begun = Checkpoints(tmp_path, identity={}, seconds=60), training()
    for seconds, exists in ((59.0, False), (60.0, True)):
        now[0] = seconds
        keeper.save_if_due(begun)
        assert (tmp_path / "last.pt").exists() is exists


def test_a_finished_run_keeps_its_networks_alone(tmp_path: Path) -> None:
    begun, _ = fitted(tmp_path, steps=1)
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "previous.pt", "best.pt"}
    keep_network(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "best.pt"}
    last = read(tmp_path / "last.pt")
    assert list(last) == ["model", "epoch", "top1", "run"]
    assert equal(dict(last["model"]), dict(begun.model.state_dict()))
    keep_network(tmp_path)
    assert equal(read(tmp_path / "last.pt"), last)


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
    assert list(differences(ours, theirs)) == ["recipe.epochs=30 instead of 20", "recipe.flip=True instead of None"]
    assert list(differences(ours, copy.deepcopy(ours))) == []


# Journals


@QUICK
@given(parts=st.lists(st.binary(max_size=20), max_size=6), keep=st.integers(0, 6), more=st.binary(max_size=30))
def test_a_journal_goes_on_where_its_checkpoint_was(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], keep: int, more: bytes
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    journal, positions = Journal(path), [0]
    for part in parts:
        journal.write(part)
        positions.append(journal.position()["j"])
    journal.close()
    at = positions[min(keep, len(parts))]
    again = Journal(path, at)
    again.write(more)
    again.close()
    assert path.read_bytes() == b"".join(parts)[:at] + more


def test_a_journal_that_is_too_short_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"abc")
    journal = Journal(tmp_path / "j", 5)
    journal.write(b"x")
    journal.close()
    assert (journal.is_new, (tmp_path / "j").read_bytes()) == (True, b"x")


def test_the_identity_in_a_checkpoint_is_that_of_the_run(killed: Path) -> None:
    assert read(killed / "last.pt")["run"] == parse_config(load_yaml(killed / "config.yaml")).identity
