"""From a command to a finished run: found again, begun from something, stopped, broken, and shared by processes."""

import contextlib
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from qexp import runs
from qexp.cli import train as commands
from qexp.config.config import load_yaml, parse_config
from qexp.engine.loop import fit as real_fit
from qexp.experiment.runner import identified
from support.commands import TINY, Sweep, call
from support.endings import failing, state
from support.processes import held_elsewhere

Train = Callable[..., Any]
OnlyRun = Callable[..., Path]


def files_of(path: Path) -> dict[str, tuple[int, int]]:
    """Name -> (inode, time of the last change): what a repeated training would not leave alone."""
    return {f.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in path.iterdir() if f.name != "lock"}


def summary(path: Path) -> dict[str, Any]:
    return json.loads((path / "summary.json").read_text())


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path / "last.pt", weights_only=True)["model"]


STE = ("quantizer=ste", "init=scratch")


@pytest.fixture(scope="module")
def store_of_one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with the finished run of STE, and what training it printed."""
    store, out = tmp_path_factory.mktemp("one") / "runs", io.StringIO()
    with mock.patch.dict(os.environ), mock.patch.object(sys, "argv", ["qexp"]), contextlib.redirect_stdout(out):
        assert call("train", *TINY, "recipe.epochs=1", "tracking.tensorboard=false", *STE, f"runs_dir={store}") == 0
    return store, out.getvalue()


@pytest.fixture
def finished(store_of_one: tuple[Path, str], workspace: Path, only_run: OnlyRun) -> Path:
    """The directory of that run, copied into ./runs."""
    shutil.copytree(store_of_one[0], workspace / "runs")
    return only_run("ste")


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
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in after)
    assert all(torch.equal(new[key], old[key]) for key in old)


@pytest.mark.parametrize("content", [None, '{"top1_hard": 1'])
def test_a_run_without_its_summary_is_repeated(train: Train, finished: Path, content: str | None) -> None:
    path = finished
    (path / "summary.json").unlink()
    if content is not None:
        (path / "summary.json").write_text(content)
    result = train(*STE)
    assert (result.code, state(path)) == (0, "done")
    assert "epoch 1/1" in result.out
    assert summary(path)["epochs"] == 1


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
    assert f"{path} ended before its first checkpoint; it starts over" in result.out
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 1
    assert state(path) == "done"


def test_a_change_of_folder_by_hydra_does_not_carry_the_run_away(train: Train, only_run: OnlyRun) -> None:
    """With hydra.job.chdir=true a relative store would lie in Hydra's scratch folder, which is deleted."""
    result = train(*STE, "hydra.job.chdir=true")
    assert (result.code, result.out) == (2, "")
    assert result.errors == [
        "qexp train: error: hydra.job.chdir=true: qexp keeps the working directory; runs_dir= says where runs go"
    ]


def test_a_sweep_over_a_quantizer_of_the_users_own_folder(train: Train, only_run: OnlyRun, tmp_path: Path) -> None:
    (tmp_path / "conf" / "quantizer").mkdir(parents=True)
    text = "_target_: qexp.quantizers.ste.STE\nname: mine\ndefault_bits: 4\ngrid: minmax\n"
    text += "activation_grid: minmax\nsawb: search\n"
    (tmp_path / "conf" / "quantizer" / "mine.yaml").write_text(text)
    result = train("-m", f"--config-dir={tmp_path}/conf", "quantizer=mine,ste", "bits=3", "init=scratch")
    assert (result.code, result.err) == (0, "")
    mine, ste = summary(only_run("mine-w3a3")), summary(only_run("ste-w3a3"))
    assert (mine["quantizer"], mine["top1_hard"], mine["test_loss"]) == ("mine", ste["top1_hard"], ste["test_loss"])


# Where training starts


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
    assert mine.out.startswith(f"already done, nothing to train (overwrite=true repeats it): {parent}")
    assert files_of(parent) == before
    for method in ("ste", "br"):
        found = summary(only_run(method))
        assert found["float_top1"] == top1
        assert found["difference"] == found["top1_hard"] - top1


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
    config = identified(parse_config(load_yaml(path / "config.yaml")))
    assert config.init_digest == runs.file_digest(sweep.run("fp") / "last.pt")
    assert summary(path)["key"] == config.key
    assert runs.run_directory(config) == path


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("out of luck"), "RuntimeError: out of luck"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "OSError: [Errno 28] No space left on device"),
    ],
)
def test_a_failed_run_exits_with_1_and_one_line(
    train: Train, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, error)
        result = train(*STE)
    path = only_run("ste")
    assert (result.code, state(path)) == (1, "failed")
    assert result.errors == [f"qexp train: error: {message}  (see {path}/error.txt)"]
    assert "Traceback" not in result.out
    assert "Traceback" in (path / "error.txt").read_text()
    assert json.loads((path / "status.json").read_text())["message"] == message
    assert not Path("runs/.jobs").exists()
    again = train(*STE)
    assert (again.code, state(path), (path / "error.txt").exists()) == (0, "done", False)


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
    real = commands._hydra
    monkeypatch.setattr(commands, "_hydra", lambda words: (Path(start).unlink(), real(words))[1])
    result = train("quantizer=ste", f"init={start}")
    assert result.code == 2
    (line,) = result.errors
    assert line.startswith(
        f"qexp train: error: init={start}: must be fp, scratch, torchvision, a checkpoint file or a run"
    )


def test_debug_shows_where_it_failed(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, RuntimeError("out of luck"))
    result = train("--debug", "quantizer=ste", "init=scratch")
    assert result.code == 1
    assert "Traceback" in result.err
    assert "RuntimeError: out of luck" in result.err


def test_a_diverged_run_exits_with_4(train: Train, only_run: OnlyRun) -> None:
    result = train(*STE, "recipe.optimizer.weight.lr=1e30", "recipe.epochs=4")
    path = only_run("ste")
    assert (result.code, state(path)) == (4, "diverged")
    (line,) = result.errors
    assert line.startswith("qexp train: error: diverged in epoch ")
    assert not (path / "summary.json").exists()


def test_a_run_whose_last_step_diverges_is_not_done(train: Train, only_run: OnlyRun) -> None:
    """One step: its loss is taken before it and is finite, the network after it is not."""
    result = train("quantizer=fp", "recipe.batch_size=64", "recipe.optimizer.weight.lr=1e38")
    assert (result.code, state(only_run("fp"))) == (4, "diverged")


def test_a_sweep_with_a_failing_job_completes_the_others_and_exits_with_3(
    train: Train, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, RuntimeError("out of luck"), method="daq")
    result = train("-m", "quantizer=ste,daq,br", "init=scratch")
    assert result.code == 3
    assert [state(only_run(method)) for method in ("ste", "daq", "br")] == ["done", "failed", "done"]
    assert result.errors == [f"qexp train: failed: RuntimeError: out of luck  ({only_run('daq')}/error.txt)"]
    assert states_in_table(result.out) == ["done", "failed", "done"]


def test_a_sweep_with_a_diverged_job_exits_with_3(train: Train, only_run: OnlyRun) -> None:
    rates = "recipe.optimizer.weight.lr=1e30,0.1"
    result = train("-m", rates, "quantizer=fp", "recipe.epochs=4")
    states = sorted(state(path.parent) for path in Path("runs").glob("*/*/fp-*/*/status.json"))
    assert (result.code, states) == (3, ["diverged", "done"])


def test_a_failed_float_net_fails_the_run_that_needs_it(
    train: Train, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, RuntimeError("out of luck"))
    result = train("quantizer=ste", "init=fp")
    assert result.code == 1
    assert (state(only_run("fp")), state(only_run("ste"))) == ("failed", "failed")
    (line,) = result.errors
    assert "the float baseline failed: RuntimeError: out of luck" in line
    assert str(only_run("fp")) in line


def test_ctrl_c_marks_the_run_and_the_float_net_it_was_training(
    train: Train, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    result = train("quantizer=ste", "init=fp")
    assert (result.code, result.errors) == (130, ["qexp train: interrupted; the same command goes on from here"])
    assert (state(only_run("fp")), state(only_run("ste"))) == ("interrupted", "interrupted")


# Other processes


def test_a_run_that_is_running_elsewhere_is_skipped_with_that_word(train: Train, configure: Callable) -> None:
    words = ("quantizer=ste", "init=scratch")
    path = runs.run_directory(configure(*TINY, "recipe.epochs=1", *words))
    with held_elsewhere(path) as process:
        result = train(*words)
        assert (result.code, result.err) == (0, "")
        assert result.out == f"skipped: running elsewhere (pid {process.pid} on {os.uname().nodename}): {path}\n"
        assert sorted(entry.name for entry in path.iterdir()) == ["lock", "status.json"]


def test_a_float_net_that_another_process_trains_is_waited_for(
    train: Train, configure: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process dies meanwhile, so that the one that waited trains the float net itself."""
    parent = runs.run_directory(configure(*TINY, "recipe.epochs=1", "quantizer=fp"))
    claim, order = runs.claim, []
    with held_elsewhere(parent) as process:

        def watched(path: Path, *, wait: bool = False) -> Any:
            if wait:
                order.append(path)
                process.kill()
            return claim(path, wait=wait)

        monkeypatch.setattr(runs, "claim", watched)
        result = train("quantizer=ste", "init=fp")
    assert result.code == 0
    assert order == [parent]
    assert f"waiting: running elsewhere (pid {process.pid} " in result.out
    assert "float baseline trained" in result.out


STOPPING = "stopping after this step, and saving the state"
INTERRUPTED = "qexp train: interrupted; the same command goes on from here"
LONG = (*TINY, "tracking.tensorboard=false", "quantizer=fp", "recipe.epochs=20")
# A shell that starts a job in the background lets it ignore Ctrl-C, and so would we.
START = """import signal
from qexp.cli.main import script
signal.signal(signal.SIGINT, signal.default_int_handler)
script()"""


def start(*words: str) -> subprocess.Popen:
    """Start `qexp train` in another process, in the working directory."""
    command = [sys.executable, "-c", START, "train", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(true: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return found


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen]]:
    """Put processes in; they do not outlive the test."""
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_two_processes_started_together_never_share_a_run(
    workspace: Path, only_run: OnlyRun, processes: list[subprocess.Popen]
) -> None:
    """One trains; the other says that it is running elsewhere, and leaves. Then SIGTERM ends the first with 143."""
    processes += [start(*LONG, "recipe.epochs=100000"), start(*LONG, "recipe.epochs=100000")]
    wait_until(lambda: any(process.poll() is not None for process in processes))
    (second,) = (process for process in processes if process.poll() is not None)
    (first,) = (process for process in processes if process is not second)
    out, err = second.communicate()
    path = only_run("fp")
    assert (second.returncode, err) == (0, "")
    assert out.startswith(f"skipped: running elsewhere (pid {first.pid} on ")
    assert runs.state_of(path) == "running"
    wait_until(lambda: (path / "metrics.jsonl").is_file() and (path / "metrics.jsonl").stat().st_size)
    epochs = [json.loads(line)["epoch"] for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, len(epochs) + 1))
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=60)
    assert (first.returncode, err.splitlines()) == (143, ["", f"SIGTERM: {STOPPING}", INTERRUPTED])
    assert (state(path), runs.state_of(path)) == ("interrupted", "interrupted")
    assert not Path("runs/.jobs").exists()


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on_and_finishes(
    qexp: Train, only_run: OnlyRun, processes: list[subprocess.Popen]
) -> None:
    processes.append(start(*LONG))
    wait_until(lambda: any(file.stat().st_size for file in Path("runs").glob("*/*/*/*/metrics.jsonl")))
    processes[0].send_signal(signal.SIGINT)
    _, err = processes[0].communicate(timeout=60)
    path = only_run("fp")
    again = "; Ctrl-C again does not wait for that"
    assert (processes[0].returncode, err.splitlines()) == (130, ["", f"SIGINT: {STOPPING}{again}", INTERRUPTED])
    assert state(path) == "interrupted"
    assert not (path / "summary.json").exists()
    assert not Path("runs/.jobs").exists()
    result = qexp("train", *LONG)
    assert (result.code, result.err) == (0, "")
    assert "going on from step " in result.out
    epochs = [json.loads(line)["epoch"] for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, 21))
    assert (state(path), summary(path)["epochs"]) == ("done", 20)


@pytest.fixture
def joblib_launcher() -> Iterator[tuple[str, ...]]:
    """The words that let two jobs run in processes of their own; the processes are gone afterwards."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    loky = pytest.importorskip("joblib.externals.loky")
    yield ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    loky.get_reusable_executor().shutdown(wait=True)


def states_in_table(out: str) -> list[str]:
    return [line.split()[-2] for line in out.splitlines() if line.startswith("  synthetic ")]


def test_what_jobs_in_other_processes_found_comes_back(
    train: Train, finished: Path, joblib_launcher: tuple[str, ...]
) -> None:
    """The run is done already, so that no process waits for torch; what they print goes past this one."""
    before = files_of(finished)
    result = train("-m", *joblib_launcher, *STE, "seed=0", "tracking.step_interval=1,2")
    assert (result.code, result.err) == (0, "")
    assert states_in_table(result.out) == ["skipped", "skipped"]
    assert "skipped: top-1" not in result.out
    assert files_of(finished) == before


@pytest.mark.slow
def test_jobs_in_other_processes_share_one_float_net(
    train: Train, only_run: OnlyRun, joblib_launcher: tuple[str, ...]
) -> None:
    """Both need it at the same moment: one trains it, the other waits for it."""
    result = train("-m", *joblib_launcher, "quantizer=ste,br", "init=fp")
    assert (result.code, result.err) == (0, "")
    assert states_in_table(result.out) == ["done", "done"]
    pids = {name: json.loads((only_run(name) / "status.json").read_text())["pid"] for name in ("fp", "ste", "br")}
    assert pids["ste"] != pids["br"]
    assert pids["fp"] in (pids["ste"], pids["br"])
    assert os.getpid() not in pids.values()
    for method in ("ste", "br"):
        assert summary(only_run(method))["float_top1"] == summary(only_run("fp"))["top1_hard"]
