"""`qexp runs compare`: in what two runs differ."""

import json
from pathlib import Path
from typing import Any

from support.commands import Qexp, Sweep
from support.stored_runs import make, rows


def curve(path: Path, losses: list[float], top1: list[float]) -> None:
    records: list[Any] = [
        {"epoch": at + 1, "epochs": len(losses), "train": {"loss": loss}, "hard": {"top1": accuracy}}
        for at, (loss, accuracy) in enumerate(zip(losses, top1, strict=True))
    ]
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))


def two(workspace: Path) -> tuple[Path, Path]:
    first, second = make("daq-w2a2/s0-aaaaaaaa"), make("dqa-w2a2/s1-bbbbbbbb", summary={"top1_hard": 97.0})
    curve(first, [3.0, 2.0, 1.0, 0.5], [50.0, 60.0, 70.0, 80.0])
    curve(second, [3.0, 2.0, 1.5, 0.25], [50.0, 60.0, 65.0, 82.5])
    return first, second


def test_configuration_result_and_curve_stand_side_by_side(qexp: Qexp, workspace: Path) -> None:
    two(workspace)
    result = qexp("runs", "compare", "aaa", "bbbbbbbb")
    assert (result.code, result.err) == (0, "")
    lines = [line.split() for line in result.out.splitlines()]
    assert ["quantizer", "daq", "dqa"] in lines
    assert ["seed", "0", "1"] in lines
    assert ["top-1", "hard", "98.61", "97.00", "-1.61"] in lines
    assert ["3", "70.00", "%", "65.00", "%", "-5.00"] in lines
    assert ["4", "80.00", "%", "82.50", "%", "+2.50"] in lines
    assert "equal up to epoch 2, and apart from then on\nfurthest apart in epoch 3: -5.00 points\n" in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_programs_are_given_all_of_it(qexp: Qexp, workspace: Path) -> None:
    first, second = two(workspace)
    found = json.loads(qexp("runs", "compare", str(first), str(second), "--json").out)
    assert found["config"] == {"quantizer": ["daq", "dqa"], "seed": [0, 1]}
    assert found["result"]["top1_hard"] == [98.611, 97.0]
    assert found["curve"] == [[1, 50.0, 50.0], [2, 60.0, 60.0], [3, 70.0, 65.0], [4, 80.0, 82.5]]
    assert found["equal_until"] == 2
    assert [run["state"] for run in found["runs"]] == ["done", "done"]


def test_a_run_that_is_not_finished_says_so_and_has_no_result(qexp: Qexp, store: dict[str, Path]) -> None:
    out = qexp("runs", "compare", "abcdefgh", "bbbbbbbb").out
    assert "B is interrupted after epoch 7/20: it has no result, and its curve is not whole\n" in out
    assert ["top-1", "hard", "98.61", "-", "-"] in [line.split() for line in out.splitlines()]
    assert "equal in all of 7 common epochs" in out


def test_a_run_beside_itself_differs_in_nothing(qexp: Qexp, store: dict[str, Path]) -> None:
    out = qexp("runs", "compare", "abcdefgh", "abcdefgh").out
    assert "the same configuration\n" in out
    assert "equal in all of 20 common epochs" in out
    assert {row[-1] for row in rows(out.partition("B - A")[0])} <= {"+0.00"}


def test_how_a_run_was_done_is_told_apart_from_what_it_computes(qexp: Qexp, workspace: Path) -> None:
    first, second = two(workspace)
    text = (first / "config.yaml").read_text()
    (second / "config.yaml").write_text(text.replace("deterministic: false", "deterministic: true"))
    out = qexp("runs", "compare", "aaa", "bbb").out
    assert "the same configuration, but for how it was run\n" in out
    assert ["deterministic", "false", "true"] in [line.split() for line in out.splitlines()]


def test_damaged_runs_are_compared_as_far_as_they_go(qexp: Qexp, workspace: Path) -> None:
    first, second = two(workspace)
    (first / "config.yaml").write_text("{a: [")
    (second / "metrics.jsonl").write_bytes(b"\xff{}\n")
    (second / "summary.json").write_text("[]")
    result = qexp("runs", "compare", "aaa", "bbb")
    assert (result.code, result.err) == (0, "")
    assert "no epoch that both have evaluated" in result.out
    assert "B is damaged" in result.out
    assert "the config.yaml of A cannot be read, so that options are not compared" in result.out
    assert "recipe" not in result.out
    found = json.loads(qexp("runs", "compare", "aaa", "bbb", "--json").out)
    assert (found["config"], found["runtime"]) == (None, None)


def test_what_follows_from_the_method_is_not_repeated(qexp: Qexp, swept: Path, sweep: Sweep) -> None:
    """A float net has no optimizer of clips, and a quantizer's options at their usual values say nothing."""
    found = json.loads(qexp("runs", "compare", str(sweep.run("fp")), str(sweep.run("daq")), "--json").out)
    assert set(found["config"]) == {"quantizer", "weight_bits", "activation_bits", "init"}
