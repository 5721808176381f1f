"""How long a table takes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qexp import runs
from qexp.tables.duration import Speed, absent_data, estimates, measured, recorded, run_seconds
from support.commands import TINY


def test_speed_is_that_of_finished_runs_or_measured_now(
    configure: Callable[..., Any], sweep: Any, workspace: Path
) -> None:
    store = f"runs_dir={sweep.store}"
    config = configure(*TINY, store, "quantizer=daq", "bits=4", "recipe.epochs=9")
    found = recorded(config)
    summary = runs.read_json(sweep.run("daq") / "summary.json")
    assert found is not None
    assert found.images_per_second == summary["time_images_per_second"]
    assert found.origin == f"as in {sweep.run('daq')}"
    trained = 2 * 64 / summary["time_images_per_second"]
    assert 2 * 32 * found.evaluation_seconds == pytest.approx(max(summary["time_seconds"] - trained, 0))
    others = ("quantizer=ste bits=2", "quantizer=daq bits=2 model.width=0.5", "quantizer=daq bits=2 activation_bits=32")
    configs = [configure(*TINY, store, *words.split()) for words in others]
    assert [recorded(other) for other in configs] == [None] * 3
    (estimate,) = estimates([configs[0], configure(*TINY, store, "quantizer=ste", "bits=3", "seed=1")])
    assert (estimate.count, estimate.what) == (2, "ste of weights and activations, resnet20 x0.25 on synthetic")
    assert re.fullmatch(r"measured now on ([2-9]|1[0-6]) random images at a time", estimate.speed.origin)
    assert 10 < estimate.speed.images_per_second < 1e6
    assert estimate.seconds == pytest.approx(2 * run_seconds(configs[0], estimate.speed, 64, 32))
    assert list(workspace.iterdir()) == []


def test_run_seconds(configure: Callable[..., Any]) -> None:
    config = configure(*TINY, "recipe.epochs=10", "tracking.eval_interval=3")
    assert run_seconds(config, Speed(50.0, 0.5, ""), 100, 20) == 10 * 100 / 50 + 4 * 20 * 0.5


def test_data_sets_of_one_size_are_measured_once_and_each_measurement_is_told(
    configure: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def measured(config: Any) -> Speed:
        done.append(f"{config.quantizer.name} {config.dataset.name}")
        return Speed(100.0, 0.0, "")

    monkeypatch.setattr("qexp.tables.duration.measured", measured)
    words = [f"dataset={name} quantizer={method}" for method in ("ste", "dqa") for name in ("cifar10", "cifar100")]
    words += ["dataset=mnist quantizer=ste", "dataset=cifar10 quantizer=ste recipe.batch_size=7"]
    configs = [configure(*one.split(), "model=resnet18", "activation_bits=32") for one in words]
    told: list[str] = []
    found = estimates(configs[:5], told.append)
    assert done == ["ste cifar10", "dqa cifar10", "ste mnist"]
    assert told[1] == "measuring 2 of 3: dqa of weights, resnet18 on cifar10"
    assert [one.what for one in found][1] == "ste of weights, resnet18 on cifar100"
    assert {one.speed.images_per_second for one in found} == {100.0}
    estimates([configs[1], configs[5]])
    assert done[3:] == ["ste cifar100", "ste cifar10"]  # of another batch


def test_slow_steps_are_measured_with_fewer_images(
    configure: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qexp.tables.duration.STEP_SECONDS", 0.0)
    assert measured(configure(*TINY, "quantizer=ste")).origin == "measured now on 2 random images at a time"


def test_data_that_are_not_there_are_named_once(configure: Callable[..., Any], workspace: Path) -> None:
    configs = [configure(f"dataset={name}", "bits=2") for name in ("cifar10", "cifar10", "digits", "mnist")]
    found = absent_data(configs)
    assert [line.partition(":")[0] for line in found] == ["cifar10", "mnist"]
    assert found[0].endswith("/cifar10/{train,test}.npz nor data/cifar-10-batches-py is there")
