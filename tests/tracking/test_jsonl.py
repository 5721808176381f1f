"""metrics.jsonl: a line for every epoch."""

import json
import math

from support.commands import Sweep


def test_metrics_have_one_line_per_epoch(sweep: Sweep) -> None:
    lines = [json.loads(line) for line in (sweep.run("dqa") / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["epochs"]) for line in lines] == [(1, 2), (2, 2)]
    for line in lines:
        assert (line["train"]["images"], line["hard"]["images"]) == (64, 32)
        assert line["gap"] == line["soft"]["top1"] - line["hard"]["top1"]
        assert math.isfinite(line["train"]["loss"] + line["penalty"])
    assert lines[0]["penalty"] > 0
    assert lines[-1]["learning_rates"]["weight"] < lines[0]["learning_rates"]["weight"]
