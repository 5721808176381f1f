"""deterministic=true: the same bits twice, and nothing of it left in the process."""

import os
from pathlib import Path

import pytest
import torch

from qexp import runs
from qexp.experiment.device import determinism
from support.commands import TINY
from support.crashes import command, difference, only_run, result, run_child

WORDS = ("train", *TINY, "recipe.epochs=2", "recipe.batch_size=16", "init=scratch", "deterministic=true")


@pytest.mark.process
@pytest.mark.parametrize("method", ["dqa", "daq"])
def test_training_twice_gives_the_same_bits(tmp_path: Path, method: str) -> None:
    """Two processes; networks, metrics, curves and record."""
    found = []
    for name in ("one", "two"):
        assert run_child(command([*WORDS, f"quantizer={method}", "tracking.step_interval=1"]), tmp_path / name) == 0
        found.append(result(only_run(tmp_path / name)))
    assert difference(*found) is None
    assert found[0]["summary.json"]["deterministic"] is True


@pytest.mark.training
def test_another_seed_gives_other_bits(tmp_path: Path) -> None:
    """What compares the two above can tell them apart."""
    found = []
    for seed in (0, 1):
        assert run_child(command([*WORDS, "quantizer=ste", f"seed={seed}"]), tmp_path / str(seed)) == 0
        found.append(result(only_run(tmp_path / str(seed))))
    assert "last.pt" in str(difference(*found))


def test_it_holds_inside_a_run_and_nothing_is_left_of_it() -> None:
    def state() -> tuple:
        memory = torch.utils.deterministic.fill_uninitialized_memory
        return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic, memory

    before = state()
    with determinism(True):
        assert state() == (True, True, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert state() == before
    with determinism(False):
        assert state() == before
    with pytest.raises(ZeroDivisionError), determinism(True):
        _ = 1 / 0
    assert state() == before


def test_an_operation_that_has_no_deterministic_form_is_refused() -> None:
    with determinism(True), pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        torch.ones(4).put_(torch.tensor([0]), torch.tensor([1.0]))


def test_the_key_of_a_run_does_not_depend_on_it(configure) -> None:
    plain, deterministic = configure(*TINY), configure(*TINY, "deterministic=true")
    assert runs.run_directory(plain) == runs.run_directory(deterministic)
