"""A method that learns the width of each layer, and the same widths given to another method: recorded, shown, kept."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from qexp import runs
from qexp.config.yaml_files import load_yaml
from qexp.engine.checkpointer import read_checkpoint, write_checkpoint
from qexp.engine.step import Step
from support.commands import TINY, OnlyRun, Qexp
from support.crashes import command, difference, events, kill_at, only_run, result, run_child
from support.pages import OWN_PACKAGE
from support.stored_runs import rows

FLAGS = ("--config-dir", "conf", "trust=homemade")
SHORT = (*TINY, "recipe.epochs=3", "recipe.batch_size=16", "init=scratch")
RATES = ("name=sgd", "lr=0.01", "momentum=0")
WORDS = (*SHORT, "quantizer=shrinking", *(f"recipe.optimizer.quantizer.{rate}" for rate in RATES))
CONTROL = (*SHORT, "quantizer=ste", "bits=4")

pytestmark = pytest.mark.training


def state_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path / "last.pt", weights_only=True)["model"]
    return found


def widths_in(state: dict[str, Any]) -> dict[str, int]:
    """The width of each layer's weight, from its parameter in a checkpoint."""
    end = ".weight_quantizer.width"
    return {key.removesuffix(end): round(value.item()) for key, value in state.items() if key.endswith(end)}


@pytest.fixture
def learned(qexp: Qexp, own: Path, only_run: OnlyRun) -> Path:
    """A finished run, some of whose layers went from 4 bits to 3."""
    trained = qexp("train", *FLAGS, *WORDS)
    assert trained.code == 0, trained.err
    assert "\nshrinking W3.3A4  resnet20 x0.25 on synthetic  seed 0" in trained.out
    return only_run("shrinking")


def test_the_record_has_the_widths_at_the_end(learned: Path) -> None:
    """Means over weights, sizes, and the width of every layer in every epoch; the directory is by the configuration."""
    assert learned.parent.name == "shrinking-w4a4"
    summary, state = runs.read_summary(learned), state_of(learned)
    assert summary is not None
    expected = widths_in(state)
    assert set(expected.values()) == {3, 4}
    found = summary["layers"]["bits"]
    assert {name: own[0] for name, own in found.items() if own[0] != 32} == expected
    assert {own[1] for own in found.values()} == {4, 32}
    counts = {name: state[f"{name}.weight"].numel() for name in found}
    mean = sum(counts[name] * bits for name, bits in expected.items()) / sum(counts[name] for name in expected)
    assert summary["mean_weight_bits"] == pytest.approx(mean)
    assert (summary["mean_activation_bits"], summary["weight_bits"], summary["activation_bits"]) == (4, 4, 4)
    floats = summary["float_weight_kilobytes"] * 250 - sum(counts[name] for name in expected)
    bits = sum(counts[name] * bits for name, bits in expected.items())
    assert summary["weight_kilobytes"] == pytest.approx((bits / 8 + floats * 4) / 1000)
    assert summary["most_weight_levels"] == 16
    curves = {tag for tag, step, _ in events(learned) if step == 3}
    assert {"quantizer layer3.2/conv2/weight/bits", "quantizer layer1.0/conv1/input/bits"} <= curves
    assert {"result/mean_weight_bits", "result/mean_activation_bits"} <= {tag for tag, _, _ in events(learned)}


def test_it_is_called_by_them_wherever_its_result_is_shown(qexp: Qexp, learned: Path) -> None:
    key = learned.name.partition("-")[2]
    assert rows(qexp("runs").out)[0][:3] == [key, "shrinking", "W3.3A4"]
    assert rows(qexp("runs", "--columns", "bits,mean_weight_bits").out) == [["W3.3A4", "3.31034"]]
    assert rows(qexp("runs", "--group", "quantizer,bits").out)[0][:2] == ["shrinking", "W3.3A4"]
    header, row = qexp("runs", "--format", "csv").out.splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["mean_weight_bits"].startswith("3.31034")
    shown = qexp("runs", "show", key).out
    assert shown.startswith("shrinking W3.3A4  resnet20")
    line = "3.3 in the mean of weights, 4 of inputs: 13 layers W4A4, 5 layers W3A4, 2 layers float"
    assert f"  bits             {line}\n" in shown
    compared = qexp("runs", "compare", key, key).out
    assert compared.startswith(f"A  {key}  shrinking W3.3A4  ")
    assert ["bits", "of", "weights", "3.31", "3.31", "+0.00"] in [row.split() for row in compared.splitlines()]
    qexp("runs", "tensorboard", "--links", "links")
    assert [one.name for one in Path("links").iterdir() if one.is_symlink()] == ["shrinking W3.3A4 seed 0"]
    again = qexp("train", *FLAGS, *WORDS).out
    assert again.startswith("already done")
    assert "\nshrinking W3.3A4  " in again


def test_an_evaluation_has_those_of_its_checkpoint(qexp: Qexp, learned: Path) -> None:
    """The best one may have others than the last one."""
    summary = runs.read_summary(learned)
    assert summary is not None
    last = json.loads(qexp("eval", str(learned), "trust=homemade", "--json").out)
    for name in ("layers", "mean_weight_bits", "mean_activation_bits", "codes", "top1_hard"):
        assert last[name] == summary[name]
    content = read_checkpoint(learned / "last.pt")
    content["model"]["layer1.0.conv1.weight_quantizer.width"].fill_(2.0)
    write_checkpoint(learned / "best.pt", content)
    best = qexp("eval", str(learned), "trust=homemade", "checkpoint=best", "--json")
    assert json.loads(best.out)["layers"]["bits"]["layer1.0.conv1"] == [2, 4]
    assert qexp("eval", str(learned), "trust=homemade").out.startswith("shrinking W3.3A4  resnet20 x0.25 on synthetic")


@pytest.mark.process
def test_killed_and_resumed_it_has_the_same(own: Path, tmp_path: Path) -> None:
    words = ("train", *FLAGS, *WORDS, "checkpoint.steps=2")
    for name in ("alone", "killed"):
        shutil.copytree(OWN_PACKAGE, tmp_path / name)
    assert run_child(command(words), tmp_path / "alone") == 0, (tmp_path / "alone" / "log").read_text()
    assert run_child(command(words), tmp_path / "killed", kill_at(Step, "forward", 10)) == -9
    assert run_child(command(words), tmp_path / "killed") == 0
    expected, found = (result(only_run(tmp_path / name)) for name in ("alone", "killed"))
    assert difference(expected, found) is None
    assert set(widths_in(state_of(only_run(tmp_path / "killed"))).values()) == {3, 4}


def test_a_lost_summary_is_made_again_with_them(qexp: Qexp, learned: Path) -> None:
    before = runs.read_summary(learned)
    (learned / "summary.json").unlink()
    assert "W3.3A4" in qexp("train", *FLAGS, *WORDS).out
    after = runs.read_summary(learned)
    assert before is not None
    assert after is not None
    for name in ("layers", "mean_weight_bits", "mean_activation_bits", "weight_kilobytes"):
        assert after[name] == before[name]


def test_the_control_trains_the_same_widths_with_another_method(qexp: Qexp, learned: Path, only_run: OnlyRun) -> None:
    """By the hash, the directory or the list: one run, which needs the other one no longer."""
    key = learned.name.partition("-")[2]
    plan = qexp("train", "-m", *CONTROL, f"layer_bits={key[:5]},{learned}", "--dry-run").out
    assert len({line for line in plan.splitlines() if "runs/synthetic" in line and line.startswith(" ")}) == 1
    trained = qexp("train", *CONTROL, f"layer_bits={key}")
    assert trained.code == 0, trained.err
    assert trained.out.startswith("ste W4A4+  resnet20")
    assert "quantized: 13 W4A4, 5 W3A4 of 20 layers" in trained.out
    assert "\nste W3.3A4  resnet20 x0.25 on synthetic" in trained.out
    path = only_run("ste-w4a4")
    theirs, ours = runs.read_summary(learned), runs.read_summary(path)
    assert theirs is not None
    assert ours is not None
    assert ours["layers"]["bits"] == theirs["layers"]["bits"]
    assert ours["layers"]["float"] == theirs["layers"]["float"]
    assert [ours[name] for name in ("mean_weight_bits", "weight_kilobytes")] == [
        theirs[name] for name in ("mean_weight_bits", "weight_kilobytes")
    ]
    assert f"  bits of          {key}\n" in qexp("runs", "show", path.name[3:]).out
    assert "[conv1:weight:32,... 39 more, " in qexp("runs").out  # forty entries are no cell
    entries = load_yaml(path / "config.yaml")["layer_bits"]
    assert entries[:4] == ["conv1:weight:32", "conv1:input:32", "layer1.0.conv1:weight:4", "layer1.0.conv1:input:4"]
    shutil.rmtree(learned)
    gone = qexp("train", *CONTROL, f"layer_bits={key}")
    assert (gone.code, len(gone.errors)) == (2, 1)
    assert qexp("train", *CONTROL, f"layer_bits=[{','.join(entries)}]").out.startswith("already done")
    again = json.loads(qexp("eval", str(path), "--json").out)
    assert (again["codes"], again["layers"]) == (ours["codes"], ours["layers"])


def test_a_table_may_have_it_in_a_row_and_shows_the_widths(qexp: Qexp, learned: Path) -> None:
    table = Path("conf", "paper", "homemade", "1.yaml")
    text = table.read_text().partition("overrides: dataset")[0].replace("Fading on squares", "Widths")
    key = learned.name.partition("-")[2]
    lines = [f"overrides: {' '.join(SHORT)}", "seeds: [0]", "rows:"]
    for name, words in (
        ("learned", WORDS[len(SHORT) :]),
        ("control", ("quantizer=ste", "bits=4", f"layer_bits={key}")),
    ):
        lines += [f"  - {{id: {name}, label: {name}, overrides: {' '.join(words)}, reported: {{}}}}"]
    lines += ["  - {id: plain, label: plain, overrides: quantizer=ste bits=4, reported: {}}"]
    table.write_text(text + "\n".join(lines) + "\n")
    flags = ("--config-dir", "conf", "trust=homemade", "homemade/1")
    done = qexp("table", *flags, "--run", "--rows", "learned,control")
    assert done.code == 0, done.err
    assert [row[:4] for row in rows(done.out.partition("Widths")[2])] == [
        ["learned", "learned", "W3.3A4", "unknown"],
        ["control", "control", "W3.3A4", "unknown"],
    ]
    found = [row.split(",") for row in qexp("table", *flags, "--format", "csv").out.splitlines()]
    at = found[0].index("mean_weight_bits")
    assert [row[at][:7] for row in found[1:]] == ["3.31034", "3.31034", ""]
    shutil.rmtree(learned)
    assert f"cannot run: layer_bits={key}: must be a list" in qexp("table", *flags).out
