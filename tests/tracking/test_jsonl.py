"""metrics.jsonl: a line for every epoch; layers.jsonl: one more, before training."""

import json
import math
from pathlib import Path

import pytest
import torch

from qexp.engine.checkpointer import read_checkpoint
from qexp.tracking import LayerLines
from support.commands import Sweep


def test_metrics_have_one_line_per_epoch(sweep: Sweep) -> None:
    lines = [json.loads(line) for line in (sweep.run("dqa") / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["epochs"]) for line in lines] == [(1, 2), (2, 2)]
    for line in lines:
        assert (line["train"]["images"], line["hard"]["images"]) == (64, 32)
        assert line["gap"] == line["soft"]["top1"] - line["hard"]["top1"]
        assert math.isfinite(line["train"]["loss"] + line["penalty"])
    assert lines[0]["penalty"] > 0
    assert [line["before_norm"] for line in lines] == [None, None]
    for found in (line["oscillation"] for line in lines):
        for per in ("", "_per_step"):
            assert 0 <= found[f"turned_back{per}"] <= found[f"changed{per}"] < 100
    assert lines[0]["oscillation"]["changed"] > 0  # since training began
    assert lines[0]["oscillation"]["turned_back"] == 0  # nothing had changed before
    (fp, last) = [json.loads(line) for line in (sweep.run("fp") / "metrics.jsonl").read_text().splitlines()]
    assert fp["oscillation"] is last["oscillation"] is None
    assert lines[-1]["learning_rates"]["weight"] < lines[0]["learning_rates"]["weight"]


def test_layers_report_before_training_and_after_every_epoch(sweep: Sweep) -> None:
    """Attention begins as DQA's eq. 7 and T(0) = 100 have it; errors are those of the network in last.pt."""
    lines = [json.loads(line) for line in (sweep.run("dqa") / "layers.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    first, second, last = (line["values"] for line in lines)
    (layer, *_) = [name.removesuffix("/weight/attention_0") for name in first if name.endswith("/weight/attention_0")]
    alpha = torch.tensor([6 / 7, 5 / 7, 3 / 7])
    start = torch.softmax(alpha / alpha.std() / 100, -1).tolist()
    assert [first[f"{layer}/weight/attention_{k}"] for k in range(3)] == pytest.approx(start, rel=1e-5)
    assert [line[f"{layer}/weight/temperature"] for line in (first, last)] == pytest.approx([100, 0.03], rel=1e-5)
    assert f"{layer}/weight/changed" not in first
    assert second[f"{layer}/weight/turned_back"] == 0
    assert 0 <= last[f"{layer}/weight/turned_back"] <= last[f"{layer}/weight/changed"] <= 100
    weight = read_checkpoint(sweep.run("dqa") / "last.pt")["model"][f"{layer}.weight"].double()
    steps = (weight - weight.min()) / (weight.max() - weight.min()) * 3
    error = (steps - steps.round()) / 3 * (weight.max() - weight.min())
    assert last[f"{layer}/weight/error"] == pytest.approx((error.norm() / weight.norm()).item(), rel=1e-5)
    assert not (sweep.run("fp") / "layers.jsonl").exists()


def test_a_training_that_goes_on_does_not_report_what_it_began_with(tmp_path: Path) -> None:
    path, third = tmp_path / "layers.jsonl", 1 / 3
    begun = LayerLines(path, report=lambda: {"0/weight/error": third}, is_begun=False)
    size = begun.position()["layers.jsonl"]
    begun.close()
    LayerLines(path, size, report=dict, is_begun=True).close()
    assert path.read_text() == '{"epoch": 0, "values": {"0/weight/error": 0.3333333}}\n'
    LayerLines(path, report=dict, is_begun=True).close()
    assert path.read_text() == ""
