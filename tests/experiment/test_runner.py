"""From a command to a finished run: found again, begun from something, stopped, broken, and shared by processes."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from qexp import runs
from qexp.cli import train as commands
from qexp.config import places
from qexp.config.config import recorded_config
from qexp.config.yaml_files import load_yaml
from qexp.engine.loop import fit as real_fit
from support.commands import INTERRUPTED, STE, OnlyRun, Sweep, Train
from support.endings import failing
from support.run_files import files_of, state, summary, weights

# The same command again


def test_the_same_command_again_finds_the_run_and_leaves_it_alone(
    train: Train, finished: Path, store_of_one: tuple[Path, str]
) -> None:
    path, first = finished, store_of_one[1]
    before = files_of(path)
    again = train(*STE, "tracking.step_interval=3", "recipe.eval_batch_size=7")
    assert (again.code, again.err) == (0, "")
    assert again.out.startswith(f"already done, nothing to train (overwrite=true repeats it): {path}\n")
    assert "epoch 1/1" in first
    assert "epoch 1/1" not in again.out
    assert files_of(path) == before
    asked = train(*STE, "firmness=true")
    key = path.name.partition("-")[2]
    assert f"of a finished run: qexp eval {key} --firmness\n" in asked.out
    assert files_of(path) == before
    report = first[first.index("  float top-1 ") : first.index("  run  ")]
    assert report in again.out


def test_overwrite_repeats_a_finished_run_and_arrives_at_the_same_weights(train: Train, finished: Path) -> None:
    path = finished
    before, old = files_of(path), weights(path)
    (path / "left over").write_text("x")
    result = train(*STE, "overwrite=true")
    assert result.code == 0
    assert "epoch 1/1" in result.out
    after, new = files_of(path), weights(path)
    assert after.keys() == {*before, "left over"}  # which is not qexp's
    assert [name for name in before if after[name] == before[name]] == []
    assert all(torch.equal(new[key], old[key]) for key in old)


@pytest.mark.parametrize("known", ["running", "interrupted", None])
def test_a_run_with_its_summary_is_done_whatever_its_status_says(
    train: Train, finished: Path, known: runs.State | None
) -> None:
    """Killed in its last moment: the summary is written after all that it tells of."""
    path = finished
    (path / "status.json").unlink()
    if known:
        runs.write_status(path, known)
        assert runs.state_of(path) == "done"
    before = (path / "last.pt").read_bytes()
    result = train(*STE)
    assert result.out.startswith("already done")
    assert (state(path), (path / "last.pt").read_bytes()) == ("done", before)


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_over_and_says_so(
    train: Train, finished: Path
) -> None:
    path = finished
    for name in ("summary.json", "last.pt", "best.pt"):
        (path / name).unlink()
    runs.write_status(path, "running")
    result = train(*STE)
    assert result.code == 0
    assert f"{path} ended before its first checkpoint; it restarts" in result.out
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 1
    assert state(path) == "done"


# Where training starts


@pytest.mark.training
def test_the_float_net_is_trained_once_for_all_quantizers(train: Train, only_run: OnlyRun) -> None:
    first = train("quantizer=ste", "init=fp")
    parent = only_run("fp")
    before = files_of(parent)
    second = train("quantizer=br", "bits=4", "init=fp", "recipe.optimizer.range.lr=0.5", "overwrite=true")
    mine = train("quantizer=fp")
    top1 = summary(parent)["top1_hard"]
    assert (first.code, second.code, mine.code) == (0, 0, 0)
    assert f"float baseline trained: top-1 {top1:.2f} %  {parent}" in first.out
    assert f"float baseline found: top-1 {top1:.2f} %  {parent}" in second.out
    assert mine.out.startswith("already done")
    assert str(parent) in mine.out.splitlines()[0]
    assert files_of(parent) == before
    for method in ("ste", "br"):
        found = summary(only_run(method))
        assert found["float_top1"] == top1
        assert found["difference"] == found["top1_hard"] - top1


@pytest.mark.process
def test_init_fp_hands_the_float_net_to_the_quantized_one(
    train: Train, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its first step the quantized net has the weights of the float run, trained on in the same places."""
    began: list[dict[str, torch.Tensor]] = []

    def fit(model: torch.nn.Module, *arguments: Any, **options: Any) -> Any:
        began.append({key: value.clone() for key, value in model.state_dict().items()})
        return real_fit(model, *arguments, **options)

    monkeypatch.setattr("qexp.experiment.train.fit", fit)
    assert train("quantizer=daq", "init=fp").code == 0
    of_float, of_quantized = began
    parent = weights(only_run("fp"))
    assert of_float.keys() == parent.keys() < of_quantized.keys()
    assert all(torch.equal(of_quantized[key], parent[key]) for key in parent)
    assert not torch.equal(of_float["conv1.weight"], parent["conv1.weight"])


@pytest.mark.training
def test_init_scratch_trains_no_float_net_but_compares_with_one_that_is_there(train: Train, only_run: OnlyRun) -> None:
    alone = train(*STE)
    assert [path.name for path in Path("runs/synthetic/resnet20").iterdir()] == ["ste-w2a2"]
    assert summary(only_run("ste"))["float_top1"] is None
    assert summary(only_run("ste"))["difference"] is None
    assert "float top-1      not run; qexp train quantizer=fp with the same options trains it" in alone.out
    train("quantizer=fp")
    train("quantizer=br", "init=scratch")
    assert summary(only_run("br"))["float_top1"] == summary(only_run("fp"))["top1_hard"]


FROZEN = ("recipe.optimizer.weight.lr=0", "recipe.optimizer.norm.lr=0")


def test_init_takes_a_run_by_hash_or_directory_or_a_file_and_all_are_the_same_run(
    train: Train, only_run: OnlyRun, sweep: Sweep, tmp_path: Path
) -> None:
    start = Path("runs") / sweep.run("fp").relative_to(sweep.store)
    shutil.copytree(sweep.run("fp"), start)
    assert train("quantizer=ste", f"init={start.name.partition('-')[2]}", *FROZEN).code == 0
    path = only_run("ste")
    old, new = weights(start), weights(path)
    assert all(torch.equal(new[key], old[key]) for key in ("conv1.weight", "layer3.2.conv2.weight", "linear.bias"))
    shutil.copy(start / "last.pt", tmp_path / "float.pt")
    for init in (start, tmp_path / "float.pt"):
        again = train("quantizer=ste", f"init={init}", *FROZEN)
        assert again.out.startswith("already done"), again
        assert str(path) in again.out
    torch.save({"state_dict": old | {"linear.bias": old["linear.bias"] + 1}}, tmp_path / "float.pt")
    other = train("quantizer=ste", f"init={tmp_path}/float.pt", *FROZEN)
    assert other.code == 0
    assert "already done" not in other.out


def test_init_from_a_quantized_run_goes_on_at_a_lower_bit_width(train: Train, only_run: OnlyRun, sweep: Sweep) -> None:
    """Progressive quantization: weights, ranges and scales are taken over, nothing is calibrated anew."""
    start = sweep.run("daq")
    frozen = (*FROZEN, "recipe.optimizer.range.lr=0", "recipe.optimizer.scale.lr=0")
    result = train("quantizer=daq", "bits=1", f"init={start}", *frozen)
    old, new = weights(start), weights(only_run("daq-w1a1"))
    assert result.code == 0
    assert old.keys() == new.keys()
    learned = [key for key in old if "running" not in key and "num_batches" not in key]
    assert any("weight_quantizer" in key for key in learned)
    assert any("output_scale" in key for key in learned)
    assert all(torch.equal(new[key], old[key]) for key in learned)


def test_the_key_of_a_run_follows_from_its_configuration_and_its_start(
    train: Train, only_run: OnlyRun, sweep: Sweep
) -> None:
    train("quantizer=ste", f"init={sweep.run('fp')}")
    path = only_run("ste")
    config = recorded_config(load_yaml(path / "config.yaml"))
    assert config.start_digest == places.file_digest(sweep.run("fp") / "last.pt")
    assert summary(path)["key"] == config.key
    assert runs.run_directory(config) == path


@pytest.mark.process
def test_a_disk_that_is_too_full_to_write_the_error_still_ends_in_one_line(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fit(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(Path, "write_text", no_space)
        raise full

    def no_space(*_: Any, **__: Any) -> None:
        raise full

    monkeypatch.setattr("qexp.experiment.train.fit", fit)
    result = train(*STE)
    assert result.code == 1
    assert "No space left on device" in result.err
    assert "Traceback" not in result.err


def test_a_start_that_is_gone_when_the_job_begins_is_one_line(
    train: Train, sweep: Sweep, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there for the check."""
    start = shutil.copy(sweep.run("fp") / "last.pt", workspace / "float.pt")
    real = commands.run_job
    monkeypatch.setattr(commands, "run_job", lambda *task, **job: (Path(start).unlink(), real(*task, **job))[1])
    result = train("quantizer=ste", f"init={start}")
    assert result.code == 2
    (line,) = result.errors
    assert line.startswith(
        f"qexp train: error: init={start}: must be fp, scratch, torchvision, a checkpoint file or a run"
    )


@pytest.mark.training
def test_a_run_whose_last_step_diverges_is_not_done(train: Train, only_run: OnlyRun) -> None:
    """One step: its loss is taken before it and is finite, the network after it is not."""
    result = train("quantizer=fp", "recipe.batch_size=64", "recipe.optimizer.weight.lr=1e38")
    assert (result.code, state(only_run("fp"))) == (4, "diverged")


@pytest.mark.process
def test_a_failed_float_net_fails_the_run_that_needs_it(
    train: Train, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, RuntimeError("out of luck"))
    result = train("quantizer=ste", "init=fp")
    assert result.code == 1
    assert (state(only_run("fp")), state(only_run("ste"))) == ("failed", "failed")
    config = recorded_config(load_yaml(only_run("ste") / "config.yaml"))  # so that a list tells what the run was
    assert config.key == only_run("ste").name.partition("-")[2]
    (line,) = result.errors
    assert "the float baseline failed: RuntimeError: out of luck" in line
    assert str(only_run("fp")) in line


@pytest.mark.process
def test_ctrl_c_marks_the_run_and_the_float_net_it_was_training(
    train: Train, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    result = train("quantizer=ste", "init=fp")
    assert (result.code, result.errors) == (130, [INTERRUPTED])
    assert (state(only_run("fp")), state(only_run("ste"))) == ("interrupted", "interrupted")
