"""`qexp runs --group`: means over runs, compared with those that numpy finds."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from support.commands import Qexp
from support.stored_runs import make, rows

TOP1 = {"daq-w2a2": [90.0, 91.5, 95.25], "daq-w4a4": [97.0], "ste-w2a2": [88.0, 80.0]}


@pytest.fixture
def _store(workspace: Path) -> None:
    for method, accuracies in TOP1.items():
        for seed, top1 in enumerate(accuracies):
            path = make(f"{method}/s{seed}-{method[:3]}{method[-1]}aaa{'abc'[seed]}", summary={"top1_hard": top1})
            config = (path / "config.yaml").read_text()
            (path / "config.yaml").write_text(config.replace("weight_bits: 2", f"weight_bits: {method[-1]}"))
    make("ste-w2a2/s5-ffffffff", "failed")
    make("ste-w2a2/s6-eeeeeeee", "interrupted")


@pytest.mark.usefixtures("_store")
def test_means_deviations_and_numbers_are_those_of_the_finished_runs(qexp: Qexp) -> None:
    found = json.loads(qexp("runs", "--group", "quantizer,bits", "--format", "json").out)
    assert [(one["quantizer"], one["bits"]) for one in found] == [("daq", "W2A2"), ("daq", "W4A4"), ("ste", "W2A2")]
    for one, accuracies in zip(found, TOP1.values(), strict=True):
        assert one["mean"] == pytest.approx(np.mean(accuracies))
        assert one["n"] == len(accuracies)
        expected = np.std(accuracies, ddof=1) if len(accuracies) > 1 else None
        assert one["std"] == (None if expected is None else pytest.approx(expected))


@pytest.mark.usefixtures("_store")
def test_a_single_run_has_no_deviation_and_what_is_left_out_is_counted(qexp: Qexp) -> None:
    result = qexp("runs", "--group", "quantizer,bits")
    assert rows(result.out)[:3] == [
        ["daq", "W2A2", "92.25", "2.70", "3"],
        ["daq", "W4A4", "97.00", "-", "1"],
        ["ste", "W2A2", "84.00", "5.66", "2"],
    ]
    assert "in percent, over 6 runs; without a result, and left out: 2" in result.out
    assert "runs of one row differ in seed\n" in result.out
    assert result.err == ""


@pytest.mark.usefixtures("_store")
def test_what_a_mean_is_taken_over_is_told(qexp: Qexp) -> None:
    """A mean over bit-widths is no mean over seeds."""
    assert "runs of one row differ in seed\n" in qexp("runs", "--group", "quantizer,bits").out
    out = qexp("runs", "w4a4", "--group", "quantizer").out
    assert "differ in" not in out


@pytest.mark.usefixtures("_store")
@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("mean", "ste daq daq"),
        ("-mean", "daq daq ste"),
        ("std", "daq ste daq"),
        ("n", "daq ste daq"),
        ("-n", "daq ste"),
    ],
)
def test_groups_are_sorted_by_what_was_measured(qexp: Qexp, sort: str, order: str) -> None:
    out = qexp("runs", "--group", "quantizer,bits", "--sort", sort).out
    assert [row[0] for row in rows(out)][: len(order.split())] == order.split()


def test_groups_stand_in_the_order_of_their_values(workspace: Path, qexp: Qexp) -> None:
    """Numbers as numbers, the first name first; where runs lie does not matter."""
    for at, (method, seed) in enumerate([("ste-w2a2", 10), ("daq-w2a2", 10), ("ste-w2a2", 2), ("daq-w2a2", 9)]):
        make(f"{method}/s{seed}-{method[:3]}{chr(122 - at) * 5}", summary={"top1_hard": 90.0 + at})
    out = qexp("runs", "--group", "quantizer,seed").out
    assert [row[:2] for row in rows(out)[:4]] == [["daq", "9"], ["daq", "10"], ["ste", "2"], ["ste", "10"]]


@pytest.mark.usefixtures("_store")
def test_a_copy_of_a_run_and_a_link_to_it_count_once(qexp: Qexp) -> None:
    before = qexp("runs", "--group", "quantizer").out
    store = Path("runs/digits/resnet18")
    run = next(store.glob("ste-w2a2/*/summary.json")).parent
    shutil.copytree(run, store / "zz-copy" / run.name)
    (store / "loop").symlink_to("ste-w2a2")
    count = len(list(store.glob("ste-w2a2/*/summary.json"))) + 1
    out = qexp("runs", "--group", "quantizer").out
    assert rows(out) == rows(before)
    assert f"{count} runs of the store are copies of another" in out


@pytest.mark.usefixtures("_store")
def test_groups_as_csv_keep_what_is_said_apart(qexp: Qexp) -> None:
    result = qexp("runs", "--group", "seed", "--format", "csv")
    assert result.out.splitlines()[0] == "seed,mean,std,n"
    assert result.out.splitlines()[3] == "2,95.25,,1"
    assert "left out: 2" in result.err


def test_without_a_result_there_is_no_group(qexp: Qexp, workspace: Path) -> None:
    assert qexp("runs", "--group", "quantizer").out == "no such runs in runs\n"
    make("ste-w2a2/s5-ffffffff", "failed")
    assert qexp("runs", "--group", "quantizer").out == "none of 1 run has a result\n"


@pytest.mark.usefixtures("_store")
@pytest.mark.parametrize(
    ("style", "marked", "plain"),
    [("text", "4*", "2"), ("md", "| 4\\* |", "| 2 |"), ("latex", " & 4* ", " & 2 ")],
)
def test_a_mean_over_runs_that_are_not_alike_is_marked(qexp: Qexp, style: str, marked: str, plain: str) -> None:
    """Those of daq have two bit-widths; those of ste differ in the seed alone."""
    out = qexp("runs", "--group", "quantizer", "--format", style).out
    first, second = (next(line for line in out.splitlines() if name in line) for name in ("daq", "ste"))
    assert marked in first
    assert plain in second
    assert second.count("*") == 0
    assert "* runs of this row differ in weight_bits, seed" in out.replace("\\", "")


@pytest.mark.usefixtures("_store")
@pytest.mark.parametrize("style", ["csv", "json"])
def test_programs_get_plain_numbers_of_runs(qexp: Qexp, style: str) -> None:
    result = qexp("runs", "--group", "quantizer", "--format", style)
    assert "*" not in result.out
    assert "qexp runs: runs of one row differ in weight_bits, seed\n" in result.err


@pytest.mark.usefixtures("_store")
def test_runs_that_learned_their_widths_are_a_group_of_their_own(qexp: Qexp) -> None:
    """Seeds that ended at different widths belong together, under the mean; runs of one width for all do not."""
    for seed, mean in enumerate((1.5, 1.7)):
        widths = {"mean_weight_bits": mean, "mean_activation_bits": 2.0, "layers": {"bits": {"a": [1, 2], "b": [2, 2]}}}
        make(f"daq-w2a2/s{seed}-learned{'ab'[seed]}", summary={"top1_hard": 80.0 + seed, **widths})
    assert rows(qexp("runs", "daq-w2a2", "--group", "quantizer,bits").out) == [
        ["daq", "W1.6A2", "80.50", "0.71", "2"],
        ["daq", "W2A2", "92.25", "2.70", "3"],
    ]
    found = json.loads(qexp("runs", "daq-w2a2", "--group", "bits", "--format", "json").out)
    assert [one["bits"] for one in found] == ["W1.6A2", "W2A2"]


@pytest.mark.usefixtures("_store")
def test_an_option_may_be_a_number_larger_than_any_float(qexp: Qexp) -> None:
    path = next(Path("runs").rglob("s0-steaaaaa".replace("aaaaa", "2aaaa")))
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace("batch_size: 64", f"batch_size: {10**400}"))
    found = rows(qexp("runs", "--group", "recipe.batch_size").out)
    assert [row[0] for row in found[:2]] == ["64", str(10**400)]
