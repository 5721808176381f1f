"""How long a table takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qexp import runs
from qexp.tables.duration import Speed, estimates, recorded, run_seconds
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
    assert estimate.speed.origin == "measured now on 16 random images at a time"
    assert 10 < estimate.speed.images_per_second < 1e6
    assert estimate.seconds == pytest.approx(2 * run_seconds(configs[0], estimate.speed, 64, 32))
    assert list(workspace.iterdir()) == []


def test_run_seconds(configure: Callable[..., Any]) -> None:
    config = configure(*TINY, "recipe.epochs=10", "tracking.eval_interval=3")
    assert run_seconds(config, Speed(50.0, 0.5, ""), 100, 20) == 10 * 100 / 50 + 4 * 20 * 0.5
