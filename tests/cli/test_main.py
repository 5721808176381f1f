"""The commands from outside: help, exit codes, what a run leaves behind, and the commands that read it."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import qexp as package
from qexp import runs
from qexp.config.config import load_yaml, parse_config
from support.commands import TINY, Sweep

Qexp = Callable[..., Any]


# The command itself


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_help_names_all_commands_and_exit_codes(qexp: Qexp, words: tuple[str, ...]) -> None:
    result = qexp(*words)
    assert (result.code, result.err) == (0, "")
    for part in ("qexp train", "qexp eval RUN", "qexp runs", "qexp doctor", "130 and 143"):
        assert part in result.out
    assert max(map(len, result.out.splitlines())) <= 120


def test_version(qexp: Qexp) -> None:
    assert qexp("--version").out == f"qexp {package.__version__}\n"


@pytest.mark.parametrize(("word", "hint"), [("trian", "did you mean 'train'?"), ("evall", "'eval'"), ("x", "train,")])
def test_an_unknown_command_is_refused_with_a_suggestion(qexp: Qexp, word: str, hint: str) -> None:
    result = qexp(word, "bits=2")
    (line,) = result.errors
    assert (result.code, result.out) == (2, "")
    assert line.startswith(f"qexp: error: no command '{word}'")
    assert hint in line


@pytest.mark.parametrize("command", ["eval", "table", "runs", "doctor"])
def test_every_command_has_help(qexp: Qexp, command: str) -> None:
    result = qexp(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"usage: qexp {command} ")


NO_TORCH = """
import sys
from qexp.cli.main import main
assert main(["--help"]) == 0
assert not {"torch", "numpy", "hydra", "omegaconf", "rich"} & set(sys.modules), "help imports too much"
assert main(["train", "bits=99"]) == 2
assert main(["train", "--cfg", "job"]) == 0
assert main(["train", "--help"]) == 0
assert main(["runs"]) == 0
assert "torch" not in sys.modules, "torch is imported before anything trains"
"""


def test_help_and_mistakes_do_not_wait_for_torch(workspace: Path) -> None:
    subprocess.run([sys.executable, "-c", NO_TORCH], check=True, capture_output=True)


def test_the_installed_script_and_the_module_are_the_same_command(workspace: Path) -> None:
    for command in ([str(Path(sys.executable).parent / "qexp")], [sys.executable, "-m", "qexp"]):
        found = subprocess.run([*command, "trian"], capture_output=True, text=True)
        assert (found.returncode, found.stdout) == (2, "")
        assert found.stderr.startswith("qexp: error: no command 'trian'")


# What a run leaves behind


def test_a_run_directory_holds_what_the_design_says(sweep: Sweep) -> None:
    names = {path.name for path in sweep.run("dqa").iterdir() if not path.name.startswith("events.")}
    assert names == {
        "config.yaml",
        "env.json",
        "status.json",
        "summary.json",
        "metrics.jsonl",
        "last.pt",
        "best.pt",
        "lock",
    }
    assert not (sweep.store / ".jobs").exists()


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


def test_metrics_have_one_line_per_epoch(sweep: Sweep) -> None:
    lines = [json.loads(line) for line in (sweep.run("dqa") / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["epochs"]) for line in lines] == [(1, 2), (2, 2)]
    for line in lines:
        assert (line["train"]["images"], line["hard"]["images"]) == (64, 32)
        assert line["gap"] == line["soft"]["top1"] - line["hard"]["top1"]
        assert math.isfinite(line["train"]["loss"] + line["penalty"])
    assert lines[0]["penalty"] > 0
    assert lines[-1]["learning_rates"]["weight"] < lines[0]["learning_rates"]["weight"]


def test_the_environment_says_on_what_a_result_was_obtained(sweep: Sweep) -> None:
    found = json.loads((sweep.run("dqa") / "env.json").read_text())
    assert found["qexp"] == package.__version__
    assert found["python"] == sys.version.split()[0]
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert "not installed" not in found["versions"].values()
    assert (found["device"], found["seed"]) == ("cpu", 0)
    assert set(found) >= {"git", "platform", "cpu_count", "threads", "device_name"}


def test_the_configuration_reads_back_as_the_same_run(sweep: Sweep) -> None:
    for method in ("fp", "dqa", "daq"):
        path = sweep.run(method)
        config = parse_config(load_yaml(path / "config.yaml"))
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
    assert {runs.state_of(path) for path in runs.list_runs(sweep.store)} == {"done"}


@pytest.fixture(scope="module")
def events(sweep: Sweep) -> EventAccumulator:
    """The event file of the DQA run."""
    (path,) = sweep.run("dqa").rglob("*tfevents*")
    assert path.parent == sweep.run("dqa")
    accumulator = EventAccumulator(str(path), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def test_the_scalars_are_those_of_the_metrics(sweep: Sweep, events: EventAccumulator) -> None:
    lines = [json.loads(line) for line in (sweep.run("dqa") / "metrics.jsonl").read_text().splitlines()]
    expected = {
        "loss/train": [line["train"]["loss"] for line in lines],
        "loss/penalty": [line["penalty"] for line in lines],
        "loss/test": [line["hard"]["loss"] for line in lines],
        "accuracy/top1_train": [line["train"]["top1"] for line in lines],
        "accuracy/top1_hard": [line["hard"]["top1"] for line in lines],
        "accuracy/top1_soft": [line["soft"]["top1"] for line in lines],
        "accuracy/top5_hard": [line["hard"]["top5"] for line in lines],
        "accuracy/quantizer_gap": [line["gap"] for line in lines],
    }
    for tag, values in expected.items():
        found = events.Scalars(tag)
        assert [event.step for event in found] == [1, 2]
        assert [event.value for event in found] == pytest.approx(values, rel=1e-6)
    assert [event.step for event in events.Scalars("loss/step")] == [1, 2, 3, 4]


def test_learning_rates_of_every_role_and_statistics_of_every_quantizer_are_logged(events: EventAccumulator) -> None:
    tags = events.Tags()["scalars"]
    assert {"lr/weight", "lr/norm", "lr/attention"} <= set(tags)
    for layer in ("layer1.0.conv1", "layer3.2.conv2"):
        for side in ("weight", "input"):
            named = [tag for tag in tags if tag.startswith(f"quantizer/{layer}/{side}/")]
            assert any("temperature" in tag for tag in named)
            assert any("attention" in tag for tag in named)
    assert not any(tag.startswith(("quantizer/conv1/", "quantizer/linear/")) for tag in tags)


def test_weights_are_drawn_and_the_configuration_is_shown(sweep: Sweep, events: EventAccumulator) -> None:
    tags = events.Tags()
    assert {f"weights/{name}.weight" for name in ("conv1", "layer1.0.conv1", "linear")} <= set(tags["histograms"])
    (text,) = events.Tensors("config/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert (sweep.run("dqa") / "config.yaml").read_text() in shown


def test_hparams_and_final_metrics_are_in_the_same_event_file(sweep: Sweep, events: EventAccumulator) -> None:
    data = events.PluginTagToContent("hparams")
    assert set(data) == {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"}
    begin = HParamsPluginData.FromString(data["_hparams_/session_start_info"]).session_start_info.hparams
    assert (begin["quantizer"].string_value, begin["weight_bits"].number_value) == ("dqa", 2)
    asked = HParamsPluginData.FromString(data["_hparams_/experiment"]).experiment.metric_infos
    found = json.loads((sweep.run("dqa") / "summary.json").read_text())
    assert "result/top1_hard" in {metric.name.tag for metric in asked}
    for metric in asked:
        (event,) = events.Scalars(metric.name.tag)
        assert event.value == pytest.approx(found[metric.name.tag.removeprefix("result/")], rel=1e-6)


def test_a_sweep_ends_with_a_table(sweep: Sweep) -> None:
    table = sweep.out[sweep.out.index("\n2 runs") :].splitlines()
    header = next(line.split() for line in table if "quantizer" in line)
    assert " ".join(header) == "dataset model quantizer seed float top-1 difference gap kB time state run"
    rows = [line for line in table if " synthetic " in line]
    for row, method in zip(rows, ("daq", "dqa"), strict=True):
        found = json.loads((sweep.run(method) / "summary.json").read_text())
        assert f"{method} W2A2" in row
        assert f"{found['float_top1']:.2f} %" in row
        assert f"{found['top1_hard']:.2f} %" in row
        assert f"{found['difference']:+.2f}" in row
        assert row.split()[-2:] == ["done", found["key"]]


def test_a_run_ends_with_a_report(qexp: Qexp, sweep: Sweep) -> None:
    words = (*TINY, "recipe.epochs=2", f"runs_dir={sweep.store}", "quantizer=daq", "bits=2")
    result = qexp("train", *words)
    found = json.loads((sweep.run("daq") / "summary.json").read_text())
    for part in (
        f"float top-1      {found['float_top1']:.2f} %",
        f"quantized top-1  {found['top1_hard']:.2f} %  hard",
        f"difference       {found['difference']:+.2f} points",
        "quantizer gap    +0.00 points",
        f"weights          {found['weight_kilobytes']:.1f} kB, float {found['float_weight_kilobytes']:.1f} kB",
        "time  ",
        str(sweep.run("daq")),
    ):
        assert part in result.out


def test_a_dry_run_names_the_directories_that_are_used_afterwards(qexp: Qexp, sweep: Sweep) -> None:
    words = (*TINY, "recipe.epochs=2", f"runs_dir={sweep.store}", "quantizer=daq,dqa", "bits=2")
    result = qexp("train", "--dry-run", "-m", *words)
    named = [line.split() for line in result.out.splitlines() if line.startswith("    ")]
    assert named == [[str(sweep.run("daq")), "done"], [str(sweep.run("dqa")), "done"]]


# qexp eval


@pytest.fixture
def store(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished sweep is the run store."""
    monkeypatch.setenv("QEXP_RUNS", str(sweep.store))
    return sweep.store


@pytest.mark.parametrize("checkpoint", ["last", "best"])
@pytest.mark.parametrize("method", ["fp", "dqa", "daq"])
def test_eval_gives_exactly_what_training_recorded(
    qexp: Qexp, store: Path, sweep: Sweep, method: str, checkpoint: str
) -> None:
    path = sweep.run(method)
    recorded = json.loads((path / "summary.json").read_text())
    key = path.name.partition("-")[2]
    named = str(path) if checkpoint == "last" else key[:6]
    result = qexp("eval", "--json", named, f"checkpoint={checkpoint}")
    found = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert (found["run"], found["checkpoint"]) == (str(path), checkpoint)
    assert found["top1_hard"] == found["recorded_top1_hard"]
    assert found["top1_hard"] == recorded["top1_hard" if checkpoint == "last" else "best_top1_hard"]
    if checkpoint == "last":
        for name in ("top5_hard", "top1_soft", "quantizer_gap", "test_loss", "test_images"):
            assert found[name] == recorded[name]


def test_eval_prints_the_same_for_people(qexp: Qexp, store: Path, sweep: Sweep) -> None:
    recorded = json.loads((sweep.run("dqa") / "summary.json").read_text())
    result = qexp("eval", str(sweep.run("dqa")))
    assert result.code == 0
    assert result.out.splitlines()[0] == f"dqa W2A2  last checkpoint of {sweep.run('dqa')}"
    assert f"top-1 hard       {recorded['top1_hard']:.2f} %  of 32 images (synthetic)" in result.out
    assert f"recorded top-1   {recorded['top1_hard']:.2f} %" in result.out


def test_eval_takes_other_data_and_writes_nothing(qexp: Qexp, store: Path, sweep: Sweep) -> None:
    path = sweep.run("daq")
    before = {entry.name: entry.stat().st_mtime_ns for entry in path.iterdir()}
    result = qexp("eval", str(path), "--json", "dataset.test_size=7", "device=cpu")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out)["test_images"] == 7
    assert {entry.name: entry.stat().st_mtime_ns for entry in path.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ffffffffff",), "no run 'ffffffffff': it is neither a run directory nor the hash of a run in "),
        (("RUN", "model=resnet18"), "model=resnet18: cannot be changed for an evaluation; only dataset, "),
        (("RUN", "quantizer=ste"), "quantizer=ste: cannot be changed for an evaluation; only dataset, "),
        (("RUN", "checkpoint=foo"), "checkpoint=foo: must be last or best"),
        (("RUN", "checkpoint=bets"), "did you mean 'best'?"),
        (("RUN", "dataset=cifar"), "dataset=cifar: no such dataset"),
        (("RUN", "devise=cpu"), "devise=cpu: cannot be changed for an evaluation (did you mean 'device'?)"),
        (("RUN", "+foo=1"), "foo=1: cannot be changed for an evaluation"),
        (("RUN", "device=foo"), "device=foo: must be auto, cpu, cuda"),
        (("RUN", "device=cpu,cuda"), "device=cpu,cuda: "),
        (("RUN", "~seed"), "seed"),
        (("RUN", "oops"), "oops: expected key=value"),
        (("RUN", "dataset=digits"), "last.pt: does not fit this network; other shapes: conv1.weight"),
        (("RUN", "dataset=mnist"), "mnist: neither data/mnist/"),
    ],
)
def test_eval_refuses_what_it_cannot_do_in_one_line(
    qexp: Qexp, store: Path, sweep: Sweep, words: tuple[str, ...], said: str
) -> None:
    result = qexp("eval", *(str(sweep.run("daq")) if word == "RUN" else word for word in words))
    (line,) = result.errors
    assert (result.code, result.out) == (2, "")
    assert line.startswith("qexp eval: error: ")
    assert said in line
    assert list(Path().iterdir()) == []


def test_eval_of_a_run_without_a_checkpoint_says_so(qexp: Qexp, sweep: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a" / "b" / "daq-w2a2" / "s0-abc"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text((sweep.run("daq") / "config.yaml").read_text())
    result = qexp("eval", str(path))
    assert (result.code, result.errors) == (2, [f"qexp eval: error: no checkpoint at {path}/last.pt"])


# qexp runs, qexp doctor


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines() if " synthetic " in line]


def test_runs_lists_the_store(qexp: Qexp, store: Path, sweep: Sweep) -> None:
    result = qexp("runs")
    assert (result.code, result.err) == (0, "")
    listed = rows(result.out)
    assert [row[2] for row in listed] == ["daq-w2a2", "dqa-w2a2", "fp-w32a32"]
    for row, method in zip(listed, ("daq", "dqa", "fp"), strict=True):
        found = json.loads((sweep.run(method) / "summary.json").read_text())
        assert row[3:6] == ["0", f"{found['top1_hard']:.2f}", "%"]
        assert row[-3:] == ["paper", "done", found["key"]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("daq",), ["daq-w2a2"]),
        (("resnet20", "w2a2"), ["daq-w2a2", "dqa-w2a2"]),
        (("daq", "dqa"), []),
        (("--state", "done", "fp"), ["fp-w32a32"]),
        (("--state", "failed"), []),
    ],
)
def test_runs_takes_filters(qexp: Qexp, store: Path, words: tuple[str, ...], expected: list[str]) -> None:
    result = qexp("runs", *words)
    assert result.code == 0
    assert [row[2] for row in rows(result.out)] == expected
    assert expected or result.out == f"no such runs in {store}\n"


def test_runs_shows_unfinished_runs_and_takes_a_store(qexp: Qexp, tmp_path: Path) -> None:
    path = tmp_path / "mine" / "synthetic" / "resnet20" / "daq-w1a1" / "s3-0123abcd"
    path.mkdir(parents=True)
    runs.write_status(path, "running")
    (row,) = rows(qexp("runs", "--runs-dir", str(tmp_path / "mine")).out)
    assert row == ["synthetic", "resnet20", "daq-w1a1", "3", *["-"] * 6, "interrupted", "0123abcd"]
    assert qexp("runs", "--state", "broken").code == 2


def test_doctor_finds_this_installation_well(qexp: Qexp) -> None:
    result = qexp("doctor")
    assert (result.code, result.err) == (0, "")
    lines = {line.split()[1]: line for line in result.out.splitlines()}
    assert set(lines) >= {"qexp", "python", "packages", "torch", "cpu", "cuda", "run", "data"}
    assert all(line.startswith("ok ") for line in lines.values())
    assert torch.__version__ in lines["torch"]
    assert list(Path().iterdir()) == []


def test_doctor_names_a_store_that_cannot_be_written(
    qexp: Qexp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QEXP_RUNS", str(tmp_path / "file" / "runs"))
    result = qexp("doctor")
    (line,) = (line for line in result.out.splitlines() if line.startswith("PROBLEM"))
    assert result.code == 1
    assert "run store" in line
    assert str(tmp_path / "file" / "runs") in line


def test_a_reader_that_leaves_is_no_error(sweep: Sweep) -> None:
    """`qexp runs | head` ends quietly."""
    command = [sys.executable, "-m", "qexp", "runs", "--runs-dir", str(sweep.store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
