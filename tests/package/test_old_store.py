"""A store that the version before this one left (tests/data/store) is listed, read, found again and resumed.

It holds a DAQ run with its float net, and a DQA run that was killed in its second epoch, at commit 071af78.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from qexp.config.identity import run_key
from qexp.config.yaml_files import load_yaml
from support.commands import Qexp

STORE = Path(__file__).parents[1] / "data" / "store"
WORDS = (
    *("dataset=synthetic", "dataset.train_size=64", "dataset.test_size=32", "model=resnet20", "model.width=0.125"),
    *("device=cpu", "threads=1", "recipe.epochs=3", "recipe.batch_size=16", "checkpoint.steps=2"),
    *("tracking.step_interval=1", "tracking.histogram_interval=0"),
)
DAQ, FP, DQA = ("daq-w2a2/s0-ffnjhgkk", "fp-w32a32/s0-lmpbklib", "dqa-w2a2/s0-hgeknnad")


@pytest.fixture
def store(workspace: Path) -> Path:
    """A copy of the store, in ./runs; returns the folder of its runs."""
    shutil.copytree(STORE, workspace / "runs")
    return Path("runs/synthetic/resnet20")


def summary(path: Path) -> dict[str, Any]:
    return json.loads((path / "summary.json").read_text())


def test_it_is_listed_with_the_width_that_its_summaries_do_not_tell(qexp: Qexp, store: Path) -> None:
    listed = json.loads(qexp("runs", "--json").out)
    states = {run["run"]: run["state"] for run in listed}
    assert states == {f"{store}/{DAQ}": "done", f"{store}/{DQA}": "interrupted", f"{store}/{FP}": "done"}
    assert "width" not in summary(store / DAQ)
    assert qexp("runs").out.startswith("3 runs: synthetic, resnet20 x0.125, protocol paper\n")
    assert qexp("runs", "show", "ffnjhgkk").out.startswith("daq W2A2  resnet20 x0.125 on synthetic  seed 0\n")


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("quantizer.granularity=tensor", {DAQ, DQA}),
        ("quantizer.granularity=channel", set()),
        ("recipe.ema=0", {DAQ, DQA, FP}),
        ("recipe.schedule.own=null", {DAQ, DQA, FP}),
        ("recipe.schedule.restarts=[]", {DAQ, DQA, FP}),
    ],
)
def test_filters_find_runs_by_options_that_are_younger(qexp: Qexp, store: Path, word: str, found: set[str]) -> None:
    """At the value that they have had all along."""
    listed = json.loads(qexp("runs", word, "--json").out)
    assert {run["run"] for run in listed} == {f"{store}/{path}" for path in found}


def test_finished_runs_are_found_by_the_command_that_made_them(qexp: Qexp, store: Path) -> None:
    result = qexp("train", *WORDS, "quantizer=daq", "bits=2", "init=fp")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("already done")
    assert f": {store}/{DAQ}\n" in result.out
    assert qexp("train", *WORDS, "quantizer=fp").out.startswith("already done")
    for path in (store / DAQ, store / FP):
        assert run_key(load_yaml(path / "config.yaml")) == path.name.partition("-")[2] == summary(path)["key"]


def test_its_checkpoints_are_evaluated_as_recorded(qexp: Qexp, store: Path) -> None:
    for path in (store / DAQ, store / FP):
        result = qexp("eval", str(path), "--json", "dataset.test_size=32")
        assert (result.code, result.err) == (0, "")
        assert json.loads(result.out)["top1_hard"] == pytest.approx(summary(path)["top1_hard"], abs=100 / 32 + 1e-9)


@pytest.mark.training
def test_a_run_that_it_began_is_finished_and_like_one_left_alone(qexp: Qexp, store: Path) -> None:
    """From the same step; moments are summed in double precision since, so that last bits differ."""
    path = store / DQA
    done = torch.load(path / "last.pt", weights_only=True)["training"]["done"]
    result = qexp("train", *WORDS, "quantizer=dqa", "bits=2", "init=scratch")
    assert (result.code, result.err) == (0, ""), result.err
    assert f"resuming at step {done} of 12, epoch 2 of 3" in result.out
    found = summary(path)
    assert found["time_resumed_at_steps"] == [done]
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    expected = json.loads((STORE / "reference.json").read_text())["dqa"]
    assert [line["train"]["loss"] for line in lines] == pytest.approx(expected["train_loss"], rel=1e-3)


@pytest.mark.training
def test_a_quantized_run_can_begin_from_its_float_net(qexp: Qexp, store: Path) -> None:
    """By the hash of the run, and by the float net that init=fp names."""
    for words in ("init=fp", "init=lmpbklib"):
        result = qexp(
            "train", *WORDS, "quantizer=ste", "bits=4", "recipe.epochs=1" if "lm" in words else "seed=0", words
        )
        assert (result.code, result.err) == (0, ""), result.err
