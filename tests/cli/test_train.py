"""`qexp train` from outside: what it prints, how it ends, and what it shows without running."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from qexp.config.yaml_files import load_yaml
from support.commands import STE, TINY, Configure, OnlyRun, Qexp, Sweep, Train
from support.endings import failing
from support.jobs import choices
from support.run_files import state
from support.stored_runs import rows


def test_a_sweep_ends_with_a_table(sweep: Sweep) -> None:
    table = sweep.out[sweep.out.index("\n2 runs") + 1 :]
    assert table.startswith("2 runs: synthetic, resnet20 x0.25, protocol paper\n")
    header = next(line.split() for line in table.splitlines() if "quantizer" in line)
    assert " ".join(header) == "hash quantizer seed top-1 float difference gap kB epochs time state"
    for row, method in zip(rows(table), ("daq", "dqa"), strict=True):
        found = json.loads((sweep.run(method) / "summary.json").read_text())
        accuracies = [
            f"{found['top1_hard']:.2f}",
            "%",
            f"{found['float_top1']:.2f}",
            "%",
            f"{found['difference']:+.2f}",
        ]
        assert row[:9] == [found["key"], method, "W2A2", "0", *accuracies]
        assert row[-1] == "done"


@pytest.mark.training
def test_ranges_that_come_from_zeros_are_warned_of(qexp: Qexp, workspace: Path) -> None:
    Path("data/cifar10").mkdir(parents=True)
    for split, count in (("train", 20), ("test", 10)):
        black, labels = np.zeros((count, 32, 32, 3), np.uint8), np.arange(count) % 10
        np.savez(f"data/cifar10/{split}.npz", images=black, labels=labels)
    words = ("dataset=cifar10", "dataset.mean=[0,0,0]", "data_dir=data", "recipe.epochs=1", "recipe.batch_size=10")
    words = (*words, "keep_float=[last]", "init=scratch", "model=resnet20", "model.width=0.25", "device=cpu")
    result = qexp("train", *words, *STE, "tracking.figures=false")
    assert result.code == 0, result.err
    (line,) = [line for line in (result.out + result.err).splitlines() if line.startswith("warning: conv1")]
    assert "their input is 0 in the whole first batch" in line


@pytest.mark.training
def test_what_varies_in_a_sweep_has_a_column_in_its_table(train: Train) -> None:
    result = train("-m", "quantizer=ste", "init=scratch", "recipe.optimizer.weight.lr=0.1,0.2")
    header = next(line.split() for line in result.out.splitlines() if "hash" in line)
    assert header[:5] == ["hash", "quantizer", "seed", "recipe.optimizer.weight.lr", "top-1"]
    assert [row[4] for row in rows(result.out)] == ["0.1", "0.2"]


def test_a_run_ends_with_a_report(qexp: Qexp, sweep: Sweep) -> None:
    words = (*TINY, "recipe.epochs=2", f"runs_dir={sweep.store}", "quantizer=daq", "bits=2")
    result = qexp("train", *words)
    found = json.loads((sweep.run("daq") / "summary.json").read_text())
    for part in (
        f"float top-1      {found['float_top1']:.2f} %",
        f"quantized top-1  {found['top1_hard']:.2f} %  hard",
        f"difference       {found['difference']:+.2f} points  (after 2 epochs more than the float net)",
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


def test_a_change_of_folder_by_hydra_does_not_carry_the_run_away(train: Train, only_run: OnlyRun) -> None:
    """With hydra.job.chdir=true a relative store would lie in Hydra's scratch folder, which is deleted."""
    result = train(*STE, "hydra.job.chdir=true")
    assert (result.code, result.out) == (2, "")
    assert result.errors == [
        "qexp train: error: hydra.job.chdir=true: qexp keeps the working directory; runs_dir= says where runs go"
    ]


@pytest.mark.training
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


@pytest.mark.process
def test_debug_shows_where_it_failed(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, RuntimeError("out of luck"))
    result = train("--debug", "quantizer=ste", "init=scratch")
    assert result.code == 1
    assert "Traceback" in result.err
    assert "RuntimeError: out of luck" in result.err


@pytest.mark.training
def test_a_diverged_run_exits_with_4(train: Train, only_run: OnlyRun) -> None:
    result = train(*STE, "recipe.optimizer.weight.lr=1e30", "recipe.epochs=4")
    path = only_run("ste")
    assert (result.code, state(path)) == (4, "diverged")
    (line,) = result.errors
    assert line.startswith("qexp train: error: diverged in epoch ")
    assert not (path / "summary.json").exists()


# Looking without running


def test_cfg_job_prints_the_configuration(qexp: Qexp) -> None:
    result = qexp("train", "--cfg", "job", "quantizer=dqa", "bits=4", "recipe.epochs=7")
    tree = OmegaConf.create(result.out)
    assert (result.code, result.err) == (0, "")
    assert (tree.quantizer.name, tree.weight_bits, tree.recipe.epochs) == ("dqa", 4, 7)
    assert list(Path().iterdir()) == []


def test_help_lists_groups_their_choices_and_every_option(qexp: Qexp) -> None:
    result = qexp("train", "--help")
    assert (result.code, result.err) == (0, "")
    for group in ("dataset", "model", "quantizer", "recipe", "protocol"):
        assert f"{group}: {', '.join(choices(group))}" in result.out
    for option in (*load_yaml(Path(__file__).parents[2] / "conf" / "quantizer" / "daq.yaml"), "bits", "keep_float"):
        assert f"{option}:" in result.out
    assert "--dry-run" in result.out
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("flag", ["--help", "--hydra-help", "--info=defaults"])
def test_what_only_tells_refuses_wrong_options_too(qexp: Qexp, flag: str) -> None:
    """Hydra would compose them for its answer, and end in a traceback."""
    result = qexp("train", flag, "+seed=3", "recipe.epoch=3")
    assert (result.code, result.out) == (2, "")
    assert all(line.startswith("qexp train: error: ") for line in result.errors)


def test_completion_is_for_one_shell(qexp: Qexp) -> None:
    result = qexp("train", "--shell-completion", "install=bash")
    assert (result.code, result.err) == (0, "")
    assert "complete" in result.out
    for words in ((), ("install=tcsh",), ("install=bash", "seed=3")):
        result = qexp("train", "--shell-completion", *words)
        assert (result.code, len(result.errors)) == (2, 1)


def test_hydras_own_help_knows_no_options_of_ours(qexp: Qexp) -> None:
    assert qexp("train", "--hydra-help").code == 0
    result = qexp("train", "--hydra-help", "dataset=synthetic")
    assert (result.code, result.err) == (2, "qexp train: error: dataset: no such option\n")


def test_a_dry_run_prints_jobs_and_directories_and_creates_nothing(qexp: Qexp, configure: Configure) -> None:
    result = qexp("train", "--dry-run", "-m", "bits=2,4", "quantizer=ste")
    keys = [configure(f"bits={bits}", "quantizer=ste").key for bits in (2, 4)]
    assert result.out.splitlines() == [
        "bits=2 quantizer=ste",
        f"    runs/digits/resnet18/ste-w2a2/s0-{keys[0]}  not run",
        "bits=4 quantizer=ste",
        f"    runs/digits/resnet18/ste-w4a4/s0-{keys[1]}  not run",
        "2 jobs; nothing was created",
    ]
    assert (result.code, result.err) == (0, "")
    assert list(Path().iterdir()) == []


def test_what_hydra_raises_around_a_job_is_one_line(qexp: Qexp) -> None:
    result = qexp("train", *TINY, *STE, "hydra.job_logging={version:7}")
    assert (result.code, result.out) == (2, "")
    assert result.errors == ["qexp train: error: hydra: ValueError of its logging or callbacks: Unsupported version: 7"]
    assert list(Path().iterdir()) == []


def test_a_file_that_no_network_fills_is_not_read(qexp: Qexp, tmp_path: Path) -> None:
    with (tmp_path / "large.pt").open("wb") as file:
        file.truncate(2**36)
    result = qexp("train", *TINY, "quantizer=ste", f"init={tmp_path / 'large.pt'}")
    assert result.code == 2
    assert result.errors == [
        f"qexp train: error: init={tmp_path / 'large.pt'}: is larger than 4 GB, which no network here is"
    ]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("recipe.patience=0,5", "recipe.patience=5: needs images to judge by; recipe.holdout=N keeps some"),
        ("recipe.holdout=0,60", "recipe.holdout=60: at most 54, so that each of 10 classes keeps an image"),
        ("recipe.randaugment=0,9", "recipe.randaugment=9: "),
    ],
)
def test_each_job_of_a_sweep_is_checked_whatever_it_differs_in(train: Train, word: str, said: str) -> None:
    two = ("dataset.channels=2", "dataset.mean=[0.5,0.5]", "dataset.std=[0.5,0.5]")  # which RandAugment cannot take
    (line,) = train("-m", "--dry-run", word, "quantizer=fp", *two).errors
    assert said in line
    assert "[job 2 of 2" in line
