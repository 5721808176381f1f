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
    assert [line["before_norm"] for line in lines] == [None, None]
    assert lines[0]["oscillation"] is None
    assert 0 <= lines[1]["oscillation"]["turned_back"] <= lines[1]["oscillation"]["changed"] < 100
    (fp, last) = [json.loads(line) for line in (sweep.run("fp") / "metrics.jsonl").read_text().splitlines()]
    assert fp["oscillation"] is last["oscillation"] is None
    assert lines[-1]["learning_rates"]["weight"] < lines[0]["learning_rates"]["weight"]
