"""Where a sweep says that it is, and how long it says that the rest takes."""

import re
from pathlib import Path

import pytest

from qexp import runs
from qexp.cli.progress import Plan, job_names, plan_of, read_plan
from support.commands import STE, TINY, Configure, Train

PLAN = Plan(["a", "b", "c", "d", "e"], [1], 1000.0)


def test_the_head_of_a_job_says_where_the_sweep_is() -> None:
    assert PLAN.head(2, seconds=None) == "3 of 5  c"
    assert PLAN.head(4, seconds=600.0) == "5 of 5  e  (about 10 min left)"


def test_what_is_left_is_the_mean_of_what_was_trained_times_the_jobs_that_need_training() -> None:
    """Job 1 was done before the sweep, and takes no time."""
    assert PLAN.seconds_left([], range(0)) is None
    assert PLAN.seconds_left([10.0], range(1)) == 30.0
    assert PLAN.seconds_left([10.0], range(2)) == 30.0
    assert PLAN.seconds_left([10.0, 20.0], range(3)) == 30.0
    assert PLAN.seconds_left([10.0, 20.0], range(5)) == 0.0


def test_jobs_side_by_side_go_on_at_the_pace_so_far() -> None:
    assert PLAN.seconds_left_together(0, [], 1100.0) is None
    assert PLAN.seconds_left_together(2, [0, 1, 2], 1100.0) == 100.0


def test_a_plan_comes_back_from_its_folder(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    PLAN.leave(tmp_path)
    assert read_plan(tmp_path) == PLAN


def test_a_job_is_called_by_method_bits_seed_and_what_varies(configure: Configure) -> None:
    lr = "recipe.optimizer.weight.lr"
    words = [("quantizer=daq", "bits=2", f"{lr}=0.1"), ("quantizer=ste", "bits=2", "activation_bits=4", f"{lr}=0.3")]
    assert job_names([configure(*own) for own in words]) == [
        f"daq W2A2  seed 0  {lr}=0.1",
        f"ste W2A4  seed 0  {lr}=0.3",
    ]
    several = [("dataset=cifar10", "protocol=short"), ("model=resnet20", "quantizer=fp", "seed=2")]
    assert job_names([configure(*own) for own in several]) == [
        "daq W2A2  resnet18 x0.25  on cifar10  seed 0  protocol short",
        "fp W32A32  resnet20 x0.25  on digits  seed 2  protocol paper",
    ]


def test_finished_runs_need_no_training_unless_they_are_repeated(workspace: Path, configure: Configure) -> None:
    configs = [configure(*TINY, *STE, f"seed={seed}") for seed in range(3)]
    path = runs.run_directory(configs[1])
    path.mkdir(parents=True)
    runs.write_status(path, "done")
    assert plan_of(configs).done_before == [1]
    assert plan_of([configure(*TINY, *STE, "overwrite=true", "seed=1")]).done_before == []


HEAD = re.compile(r"^\d of \d  .*$", re.MULTILINE)


@pytest.mark.training
def test_a_sweep_tells_its_jobs_and_the_time_once_one_has_trained(train: Train) -> None:
    assert train(*STE, "seed=0").code == 0
    out = train("-m", *STE, "seed=0,1,2").out
    heads = HEAD.findall(out)
    assert heads[:2] == ["1 of 3  ste W2A2  seed 0", "2 of 3  ste W2A2  seed 1"]
    assert re.fullmatch(r"3 of 3  ste W2A2  seed 2  \(about \d+ s left\)", heads[2])


@pytest.mark.process
def test_jobs_of_another_launcher_say_the_same(train: Train) -> None:
    """With one process joblib runs them in this one."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1", *STE)
    heads = HEAD.findall(train("-m", *words, "bits=2,3,4").out)
    assert [head.split("  (")[0] for head in heads] == [
        f"{at + 1} of 3  ste W{bits}A{bits}  seed 0" for at, bits in enumerate((2, 3, 4))
    ]
    assert "left)" not in heads[0]
    assert all("left)" in head for head in heads[1:])
    assert not Path("runs/.jobs").exists()
