"""What a page warns of: each warning where it holds and, at its edge, not where it does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from qexp.report.page_warnings import FAR, FIRM, MOST_NAMED, warned
from qexp.runs.query import entries
from qexp.runs.run_values import listed_runs
from support.stored_runs import make

KEYS = ["aaaaaaaa", "bbbbbbbb", "cccccccc"]


def shown(clean: Any = lambda text: text) -> list[tuple[str, str, list[str]]]:
    """(word, text, keys) of all runs in the store."""
    return [(one.word, one.text, list(one.runs)) for one in warned(listed_runs(entries(Path("runs"))), clean)]


def of_summaries(*summaries: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    """The warnings of finished runs with such results, not those of the protocol of the runs in tests."""
    for at, summary in enumerate(summaries):
        make(f"daq-w2a2/s{at}-{KEYS[at]}", summary={"protocol": "paper", **summary})
    return shown()


def of_environments(*environments: Any) -> list[tuple[str, str, list[str]]]:
    for at, environment in enumerate(environments):
        path = make(f"daq-w2a2/s{at}-{KEYS[at]}", summary={"protocol": "paper"})
        (path / "env.json").write_text(json.dumps(environment))
    return shown()


def test_of_a_run_without_anything_wrong_nothing_is_said(workspace: Path) -> None:
    assert of_summaries({}) == []


@pytest.mark.parametrize(
    ("summary", "word"),
    [
        ({"unsettled": ["layer1"]}, "unconverged"),
        ({"top1_hard": 90.0, "best_top1_hard": 90.0 + FAR + 0.01}, "best and last"),
        ({"quantizer_gap": FAR + 0.01}, "soft and hard"),
        ({"quantizer_gap": -FAR - 0.01}, "soft and hard"),
        ({"firmness": {"spread": FIRM + 0.01}}, "not firm"),
        ({"stopped_early": True}, "stopped early"),
        ({"float_net": {"changes": ["recipe.epochs=30"]}}, "float net"),
    ],
)
def test_a_result_that_needs_a_word_gets_it(workspace: Path, summary: dict[str, Any], word: str) -> None:
    """One run of two: it is named, and where it is counted it is one."""
    (found,) = of_summaries({}, summary)
    assert (found[0], found[2]) == (word, [KEYS[1]])
    assert found[1].startswith(("1 run: ", "after ", "was trained otherwise: recipe.epochs=30"))


@pytest.mark.parametrize(
    "summary",
    [
        {"top1_hard": 90.0, "best_top1_hard": 90.0 + FAR},
        {"quantizer_gap": FAR},
        {"quantizer_gap": "wide"},
        {"quantizer_gap": None, "best_top1_hard": None},
        {"firmness": {"spread": FIRM}},
        {"firmness": [9.0]},
        {"stopped_early": False},
        {"stopped_early": "yes"},
        {"float_net": {"changes": []}},
        {"float_net": "x"},
    ],
)
def test_at_the_edge_and_in_a_record_that_is_damaged_there_is_none(workspace: Path, summary: dict[str, Any]) -> None:
    assert of_summaries(summary) == []


def test_states_come_first_with_their_messages_and_no_place_of_the_machine(workspace: Path) -> None:
    make("daq-w2a2/s0-aaaaaaaa", "failed", message="no space on /home/me/x")
    make("daq-w2a2/s1-bbbbbbbb", "diverged")
    make("daq-w2a2/s2-cccccccc", "failed", message="no space on /home/me/x")
    make("ste-w2a2/s0-dddddddd", "interrupted", epochs=3)
    make("ste-w2a2/s1-eeeeeeee", summary={"unsettled": ["x"], "protocol": "paper"})
    found = shown(lambda text: text.replace("/home/me/", ""))
    assert found[:2] == [("failed", "no space on x", [KEYS[0], KEYS[2]]), ("diverged", "no word of why", [KEYS[1]])]
    assert found[2] == ("interrupted", "1 run without a result, in no mean: dddddddd at 3/20", [])
    assert [word for word, _, _ in found[3:]] == ["unconverged"]


def test_of_many_runs_some_are_named_and_all_are_counted(workspace: Path) -> None:
    for at in range(MOST_NAMED + 3):
        make(f"daq-w2a2/s{at}-{chr(97 + at) * 8}", summary={"protocol": "paper", "quantizer_gap": 3.0})
    ((_, text, keys),) = shown()
    assert text.startswith(f"{MOST_NAMED + 3} runs: ")
    assert len(keys) == MOST_NAMED


@pytest.mark.parametrize(
    ("key", "values", "word"),
    [
        ("protocol", ("paper", "smoke"), "mixed protocols"),
        ("epochs", (20, 30), "mixed epochs"),
        ("train_images", (1000, 500), "mixed training images"),
        ("test_images", (360, 100), "mixed test images"),
    ],
)
def test_what_does_not_compare_is_said_of_each_data_set_alone(
    workspace: Path, key: str, values: tuple[Any, Any], word: str
) -> None:
    found = of_summaries({key: values[0]}, {key: values[1]}, {key: values[0]})
    assert found[0][0] == word
    assert f"2 with {values[0]}, 1 with {values[1]}; they do not compare" in found[0][1]
    assert [one[0] for one in found[1:]] == (["protocol smoke"] if key == "protocol" else [])
    (Path("runs/digits")).rename("runs/cifar10")  # the same runs of two data sets are no mixture
    moved = Path("runs/digits/resnet18/daq-w2a2")
    moved.mkdir(parents=True)
    Path("runs/cifar10/resnet18/daq-w2a2", f"s1-{KEYS[1]}").rename(moved / f"s1-{KEYS[1]}")
    summary = moved / f"s1-{KEYS[1]}" / "summary.json"
    text = json.loads(summary.read_text())
    for path, data in ((p, p.parts[1]) for p in Path("runs").glob("*/*/*/*/summary.json")):
        path.write_text(json.dumps({**json.loads(path.read_text()), "dataset": data}))
    assert text[key] == values[1]
    assert word not in [one[0] for one in shown()]


def test_commits_changes_and_own_code_are_told(workspace: Path) -> None:
    clean = {"git": {"commit": "a" * 40, "dirty": False, "changes": None}}
    other = {"git": {"commit": "b" * 40, "dirty": True, "changes": "x"}, "own": {"mine": {"digest": "1"}}}
    third = {**other, "own": {"mine": {"digest": "2"}}}
    told = "the runs are of different versions of qexp: 1 run with aaaaaaaaaa, 2 runs with bbbbbbbbbb"
    first, second, last = of_environments(clean, other, third)
    assert first == ("several commits", told, [])
    assert (second[0], second[2]) == ("changed code", KEYS[1:])
    assert last == ("own code", "mine was changed between these runs: 2 versions of it", [])


def test_a_run_that_went_on_elsewhere_is_told(workspace: Path) -> None:
    here = {"device": "cpu", "threads": 2, "git": {"commit": "a" * 40}}
    (found,) = of_environments({**here, "earlier": [{**here, "threads": 4}]}, {**here, "earlier": [here]})
    assert (found[0], found[2]) == ("resumed elsewhere", [KEYS[0]])
    for damaged in ({"earlier": 3}, {"earlier": ["x"]}, {"git": "x", "own": []}):
        Path("runs/digits/resnet18/daq-w2a2", f"s0-{KEYS[0]}", "env.json").write_text(json.dumps({**here, **damaged}))
        assert "resumed elsewhere" not in [one[0] for one in shown()]
