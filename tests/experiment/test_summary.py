"""What summary.json and env.json say of a run is what was measured, and on what."""

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import qexp
from qexp import runs
from qexp.engine.step import Step
from qexp.experiment.build import assemble, build_covered
from qexp.experiment.session import Session
from qexp.experiment.summary import present_bits
from qexp.quantizers import quantized_layers
from support.commands import TINY, Configure, OnlyRun, Qexp, Sweep, Train
from support.crashes import kill_at, only_run, run_child
from support.short_runs import CASES, train


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["daq", "dqa", "fp"])
def test_a_summary_says_what_its_metrics_say(sweep: Sweep, method: str) -> None:
    """Last and best epoch, soft and hard."""
    path = sweep.run(method)
    summary, epochs = runs.read_summary(path), lines(path)
    last, best = epochs[-1], max(epochs, key=lambda record: (record["hard"]["top1"], -record["epoch"]))
    assert summary is not None
    expected = {
        "epochs": last["epoch"],
        "top1_hard": last["hard"]["top1"],
        "top5_hard": last["hard"]["top5"],
        "top1_soft": last["soft"]["top1"],
        "top5_soft": last["soft"]["top5"],
        "test_loss": last["hard"]["loss"],
        "train_loss": last["train"]["loss"],
        "train_top1": last["train"]["top1"],
        "quantizer_gap": last["gap"],
        "best_epoch": best["epoch"],
        "best_top1_hard": best["hard"]["top1"],
        "best_top1_soft": best["soft"]["top1"],
        "test_images": 32,
        "train_images": 64,
        "seed": 0,
    }
    assert {key: summary[key] for key in expected} == expected
    assert torch.load(path / "best.pt", weights_only=True)["epoch"] == best["epoch"]


def test_a_summary_says_with_what_it_was_obtained(sweep: Sweep) -> None:
    path = sweep.run("daq")
    summary, env = runs.read_summary(path), runs.read_json(path / "env.json")
    assert summary is not None
    assert env is not None
    assert summary["versions"]["torch"] == torch.__version__
    assert summary["versions"]["hydra-core"] == version("hydra-core")
    assert (summary["qexp"], summary["device"], summary["device_name"]) == (qexp.__version__, "cpu", "CPU")
    assert (summary["deterministic"], summary["threads"]) == (False, torch.get_num_threads())
    assert {key: env[key] for key in ("versions", "git", "threads", "deterministic")} == {
        key: summary[key] for key in ("versions", "git", "threads", "deterministic")
    }
    assert summary["time_resumed_at_steps"] == []
    assert summary["time_seconds"] > 0


def test_the_state_of_the_code_is_that_of_its_checkout(sweep: Sweep) -> None:
    folder = Path(qexp.__file__).parent
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    summary = runs.read_summary(sweep.run("daq"))
    assert summary is not None
    if found.returncode:
        assert summary["git"] is None
    else:
        assert summary["git"]["commit"] == found.stdout.strip()
        assert set(summary["git"]) == {"commit", "dirty", "changes"}


@pytest.mark.process
def test_a_run_that_went_on_says_where_and_on_what_before(tmp_path: Path) -> None:
    kill = kill_at(Step, "forward", 6)
    assert run_child(train(*CASES["ste"]), tmp_path, kill) == -9
    assert run_child(train(*CASES["ste"], "recompute=true"), tmp_path, kill_at(Step, "forward", 5)) == -9
    assert run_child(train(*CASES["ste"]), tmp_path) == 0
    path = only_run(tmp_path)
    summary, env = runs.read_summary(path), runs.read_json(path / "env.json")
    assert summary is not None
    assert env is not None
    assert summary["time_resumed_at_steps"] == [4, 8]
    assert [one["recompute"] for one in (*env["earlier"], env)] == [False, True, False]
    log = (tmp_path / "log").read_text()
    assert "warning: this run began elsewhere (recompute False -> True); the last bits of its result may differ" in log


def test_a_summary_from_before_its_speed_was_renamed_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"key": "a", "images_per_second": 12.5}')
    assert runs.read_summary(tmp_path) == {"key": "a", "time_images_per_second": 12.5}
    assert runs.read_summary(tmp_path / "nowhere") is None


def test_the_summary_is_consistent_and_whole(sweep: Sweep) -> None:
    path, fp = sweep.run("dqa"), json.loads((sweep.run("fp") / "summary.json").read_text())
    found = json.loads((path / "summary.json").read_text())
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    expected = {
        "key": path.name.partition("-")[2],
        "dataset": "synthetic",
        "model": "resnet20",
        "quantizer": "dqa",
        "weight_bits": 2,
        "activation_bits": 2,
        "seed": 0,
        "init": "fp",
        "protocol": "paper",
        "epochs": 2,
        "train_images": 64,
        "test_images": 32,
        "top1_hard": lines[-1]["hard"]["top1"],
        "top5_hard": lines[-1]["hard"]["top5"],
        "top1_soft": lines[-1]["soft"]["top1"],
        "quantizer_gap": lines[-1]["gap"],
        "oscillation": lines[-1]["oscillation"],
        "before_norm": None,
        "train_top1": lines[-1]["train"]["top1"],
        "train_loss": lines[-1]["train"]["loss"],
        "test_loss": lines[-1]["hard"]["loss"],
        "best_top1_hard": max(line["hard"]["top1"] for line in lines),
        "float_top1": fp["top1_hard"],
        "difference": found["top1_hard"] - fp["top1_hard"],
        "device": "cpu",
    }
    assert {key: found[key] for key in expected} == expected
    assert found["best_epoch"] in (1, 2)
    assert lines[found["best_epoch"] - 1]["hard"]["top1"] == found["best_top1_hard"]
    assert found["time_seconds"] > sum(line["time_seconds"] for line in lines) > 0
    assert (fp["float_top1"], fp["difference"], fp["quantizer_gap"]) == (fp["top1_hard"], 0, 0)


def test_weight_memory_counts_true_bits(sweep: Sweep) -> None:
    """First and last layer, biases and batch norm stay float; every other weight has two bits."""
    found = json.loads((sweep.run("daq") / "summary.json").read_text())
    own = torch.load(sweep.run("fp") / "last.pt", weights_only=True)["model"]
    parameters = {key: value for key, value in own.items() if "running" not in key and "num_batches" not in key}
    quantized = sum(v.numel() for k, v in parameters.items() if v.dim() == 4 and k != "conv1.weight")
    every = sum(value.numel() for value in parameters.values())
    assert found["float_weight_kilobytes"] == pytest.approx(every * 4 / 1000)
    assert found["weight_kilobytes"] == pytest.approx(((every - quantized) * 4 + quantized * 2 / 8) / 1000)


@pytest.mark.training
def test_firmness_is_measured_at_the_end_where_it_is_asked_for(qexp: Qexp, train: Train, only_run: OnlyRun) -> None:
    """It is that of the last checkpoint, and changes neither the key nor the network; a float parent has none."""
    result = train("quantizer=daq", "bits=1", "firmness=true")
    assert (result.code, result.err) == (0, "")
    path = only_run("daq")
    found = json.loads((path / "summary.json").read_text())["firmness"]
    assert found == json.loads(qexp("eval", "--firmness", "--json", str(path)).out)["firmness"]
    assert set(found) >= {"weights", "within_1e-6", "within_1e-5", "layers", "draws", "spread", "drawn", "reestimated"}
    assert "\n  firmness         " in result.out
    assert json.loads((only_run("fp") / "summary.json").read_text())["firmness"] is None
    weights = torch.load(path / "last.pt", weights_only=True)["model"]
    again = train("quantizer=daq", "bits=1", "runs_dir=others")
    assert "firmness" not in again.out
    other = only_run("daq", "others")
    assert other.name == path.name
    assert json.loads((other / "summary.json").read_text())["firmness"] is None
    others = torch.load(other / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(weights[key], value) for key, value in others.items())


@pytest.mark.training
def test_a_run_that_is_interrupted_while_its_firmness_is_measured_resumes(
    train: Train, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(session: Session) -> None:
        session.stop.number = 15
        session.stop.check()

    with monkeypatch.context() as patched:
        patched.setattr("qexp.experiment.train.session_firmness", interrupt)
        assert train("quantizer=ste", "init=scratch", "firmness=true").code == 128 + 15
    assert not (only_run("ste") / "summary.json").exists()
    result = train("quantizer=ste", "init=scratch", "firmness=true")
    assert (result.code, result.err) == (0, "")
    assert "resuming at step 2 of 2" in result.out
    assert json.loads((only_run("ste") / "summary.json").read_text())["firmness"]["weights"] > 0


def test_the_bits_are_those_that_layers_have_in_the_end(configure: Configure) -> None:
    """Where a layer has not what it began with; their means are told where layers may have bits of their own."""
    for words, has_means in (((), False), (("layer_bits=[layer1.0.conv2:3]",), True)):
        config = configure(*TINY, "quantizer=ste", "bits=4", *words)
        parts = assemble(config)
        model, coverage = build_covered(config, parts)
        layers = dict(quantized_layers(model))
        layers["layer1.0.conv1"].weight_quantizer = parts.method.weight(2)
        found = present_bits(model, config, coverage)
        assert found["layers"]["bits"]["layer1.0.conv1"] == [2, 4]
        assert found["layers"]["bits"]["layer1.0.conv2"] == ([3, 3] if has_means else [4, 4])
        assert coverage.as_data()["bits"]["layer1.0.conv1"] == [4, 4]
        sizes = {name: layer.weight.numel() for name, layer in layers.items()}
        bits = sum(sizes[name] * layer.weight_bits for name, layer in layers.items())
        means = (bits / sum(sizes.values()), (4 * (len(layers) - 1) + 3) / len(layers)) if has_means else None
        assert (found.get("mean_weight_bits"), found.get("mean_activation_bits")) == (means or (None, None))
