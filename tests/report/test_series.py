"""Which runs a figure is of, and what they are called side by side, from stores made by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from qexp.report.catalogue import Request
from qexp.report.series import (
    MOST_LETTERS,
    commits_note,
    groups_of,
    name_of,
    selected_run,
    selected_runs,
    series_of,
    series_over_bits,
    subject_of,
)
from qexp.runs.query import Entry, entries
from qexp.utils.errors import UsageError
from support.stored_runs import make

ROOT = Path("runs")


def request(*words: str) -> Request:
    return Request(words, {}, ROOT)


def changed(path: Path, old: str, new: str) -> Path:
    config = (path / "config.yaml").read_text()
    assert old in config
    (path / "config.yaml").write_text(config.replace(old, new))
    return path


def labels(found: list[Entry]) -> dict[str, list[str]]:
    return {one.label: [run.entry.seed for run in one.runs] for one in series_of(found)}


def test_runs_that_differ_in_the_seed_alone_are_one_series(workspace: Path) -> None:
    for name in ("daq-w2a2/s0-aaaaaaaa", "daq-w2a2/s1-aaaaaaab", "ste-w2a2/s0-aaaaaaac", "ste-w2a2/s1-aaaaaaad"):
        make(name)
    assert labels(entries(ROOT)) == {"daq W2A2": ["0", "1"], "ste W2A2": ["0", "1"]}


def test_seeds_are_told_where_series_have_not_the_same(workspace: Path) -> None:
    for name in ("daq-w2a2/s0-aaaaaaaa", "daq-w2a2/s1-aaaaaaab", "ste-w2a2/s3-aaaaaaac"):
        make(name)
    assert labels(entries(ROOT)) == {"daq W2A2, 2 seeds": ["0", "1"], "ste W2A2, seed 3": ["3"]}


def test_what_varies_besides_is_in_the_label(workspace: Path) -> None:
    make("daq-w2a2/s0-aaaaaaaa")
    changed(make("daq-w2a2/s0-aaaaaaab"), "batch_size: 64", "batch_size: 32")
    assert labels(entries(ROOT)) == {"daq W2A2 batch_size=64": ["0"], "daq W2A2 batch_size=32": ["0"]}


def test_copies_of_a_run_are_one_and_the_one_with_a_result_is_taken(workspace: Path) -> None:
    make("daq-w2a2/s1-bbbbbbbb")
    make("another/s0-aaaaaaaa", "interrupted")
    make("daq-w2a2/s0-aaaaaaaa")
    Path("runs/digits/resnet18/loop").symlink_to("daq-w2a2")
    assert [str(entry.path)[21:] for entry in selected_runs(request("digits"))] == [
        "daq-w2a2/s0-aaaaaaaa",
        "daq-w2a2/s1-bbbbbbbb",
    ]


def test_two_runs_of_one_seed_that_no_option_tells_apart_are_two_series(workspace: Path) -> None:
    make("daq-w2a2/s0-aaaaaaaa")
    make("daq-w2a2/s0-aaaaaaab")
    assert labels(entries(ROOT)) == {"daq W2A2 aaaaaaaa": ["0"], "daq W2A2 aaaaaaab": ["0"]}


def test_labels_are_short_can_be_drawn_and_differ(workspace: Path) -> None:
    """What others called their runs may hold anything."""
    long = "x" * 200
    for name in ("a\x1b[31m\u202eb", "<b>$x^2$", "=cmd()", "a\x1b[31m?b", f"{long}1", f"{long}2"):
        make(f"{name}-w2a2/s0-aaaaaaaa")
    found = [one.label for one in series_of(entries(ROOT))]
    assert len(set(found)) == 6
    assert all(label.isprintable() and len(label) <= MOST_LETTERS + 21 for label in found)


def test_series_over_bits_join_bits_and_tell_other_inputs(workspace: Path) -> None:
    for name in ("daq-w2a2/s0-aaaaaaaa", "daq-w2a2/s1-aaaaaaab", "daq-w4a4/s0-aaaaaaac", "daq-w2a32/s0-aaaaaaad"):
        path = make(name)
        weight, inputs = path.parent.name.removeprefix("daq-w").split("a")
        changed(path, "weight_bits: 2", f"weight_bits: {weight}\nactivation_bits: {inputs}")
    found = {
        one.label: [[run.entry.key for run in own] for own in groups_of(one)] for one in series_over_bits(entries(ROOT))
    }
    assert found == {"daq A32": [["aaaaaaad"]], "daq": [["aaaaaaaa", "aaaaaaab"], ["aaaaaaac"]]}


def test_a_request_names_runs_as_the_list_does(store: dict[str, Path]) -> None:
    assert [entry.key for entry in selected_runs(request("daq"))] == ["abcdefgh"]
    assert [entry.key for entry in selected_runs(request("seed=1,2"))] == ["dddddddd", "bbbbbbbb"]
    assert len(selected_runs(request())) == 4
    for words, says in ((["daq", "dqa"], "no run in runs fits all of daq, dqa"), (["sed=1"], "did you mean 'seed'?")):
        with pytest.raises(UsageError, match=says.replace("?", r"\?")):
            selected_runs(request(*words))


def test_an_empty_store_is_told(workspace: Path) -> None:
    with pytest.raises(UsageError, match="no runs in runs"):
        selected_runs(request())


@pytest.mark.parametrize(
    "words", [["abcd"], ["runs/digits/resnet18/daq-w2a2/s0-abcdefgh"], ["quantizer=daq"], ["resnet18", "daq"]]
)
def test_one_run_is_named_by_hash_directory_or_filters(store: dict[str, Path], words: list[str]) -> None:
    assert selected_run(request(*words)).key == "abcdefgh"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "which run"),
        (["xyz"], "no run 'xyz'"),
        ([""], "no run ''"),
        (["digits", "seed=0"], "one run is drawn, and these are 2: abcdefgh, cccccccc"),
    ],
)
def test_what_names_no_run_or_several_is_refused(store: dict[str, Path], words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        selected_run(request(*words))


def test_what_runs_have_in_common_is_told(workspace: Path, store: dict[str, Path]) -> None:
    found = entries(ROOT)
    assert subject_of(found) == "resnet18 x0.25 on digits"
    assert name_of(found[1]) == "daq W2A2, resnet18 x0.25 on digits, seed 0, abcdefgh"
    other = Path("runs/mnist/lenet5/daq-w2a2/s0-eeeeeeee")
    other.mkdir(parents=True)
    (other / "config.yaml").write_text("seed: 0\n")
    assert subject_of(entries(ROOT)) == "2 networks on 2 data sets"


@pytest.fixture
def with_commits(store: dict[str, Path]) -> Callable[..., list[str]]:
    def note(*commits: object) -> list[str]:
        for path, commit in zip(store.values(), commits, strict=False):
            (path / "env.json").write_text(json.dumps({"git": {"commit": commit}}))
        return commits_note(entries(ROOT))

    return note


def test_commits_of_runs_are_told_where_they_are_known(with_commits: Callable[..., list[str]]) -> None:
    assert with_commits() == []
    assert with_commits("a" * 40, "a" * 40, None, 3) == ["Trained with commit aaaaaaaaa of qexp."]
    assert with_commits("a" * 40, "\x1b[31m" * 9) == ["Trained with commits aaaaaaaaa, ?[31m?[31 of qexp."]
