"""What a run leaves behind."""

import json

import torch

from qexp import runs
from qexp.config import places
from qexp.config.config import recorded_config
from qexp.config.yaml_files import load_yaml
from support.commands import Sweep

# What a run leaves behind


def test_a_run_directory_holds_what_the_design_says(sweep: Sweep) -> None:
    names = {path.name for path in sweep.run("dqa").iterdir() if not path.name.startswith("events.")}
    assert names == {
        "config.yaml",
        "env.json",
        "status.json",
        "summary.json",
        "metrics.jsonl",
        "layers.jsonl",
        "last.pt",
        "best.pt",
        "lock",
    }
    assert not (sweep.store / ".jobs").exists()


def test_the_configuration_reads_back_as_the_same_run(sweep: Sweep) -> None:
    for method in ("fp", "dqa", "daq"):
        path = sweep.run(method)
        config = recorded_config(load_yaml(path / "config.yaml"))
        assert config.key == path.name.partition("-")[2]
        assert runs.run_directory(config) == path
        assert config.recipe.epochs == 2


def test_checkpoints_hold_tensors_only(sweep: Sweep) -> None:
    for name in ("last.pt", "best.pt"):
        content = torch.load(sweep.run("daq") / name, weights_only=True)
        assert set(content) >= {"model", "epoch", "top1"}
        assert all(isinstance(value, torch.Tensor) for value in content["model"].values())
    last = torch.load(sweep.run("daq") / "last.pt", weights_only=True)
    found = json.loads((sweep.run("daq") / "summary.json").read_text())
    assert (last["epoch"], last["top1"]) == (2, found["top1_hard"])


def test_the_status_says_done(sweep: Sweep) -> None:
    assert {runs.state_of(path) for path in places.list_runs(sweep.store)} == {"done"}
