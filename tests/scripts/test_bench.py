"""`make bench`: its arithmetic, and one section of it from the command line."""

import importlib.util
import json
import math
import subprocess
import sys

import pytest

from support.crashes import run_child
from support.scripts import SCRIPTS, script

BENCH = SCRIPTS / "bench"


@pytest.fixture(scope="module")
def measure():
    spec = importlib.util.spec_from_file_location("bench_measure", BENCH / "measure.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_a_ratio_is_that_of_medians(measure):
    """One slow repeat of either side changes nothing."""
    times = {"ours": [3.0, 3.0, 90.0], "base": [2.0, 50.0, 2.0]}
    value, detail = measure.ratio(times, "ours", "base")
    assert value == 1.5
    assert detail.startswith("3000.0 / 2000.0 ms")


@pytest.mark.parametrize(
    ("value", "goal", "more", "met"),
    [(1.2, 1.2, False, True), (1.21, 1.2, False, False), (5.0, 5, True, True), (4.9, 5, True, False)],
)
def test_a_goal_is_a_bound(measure, value, goal, more, met):
    row = measure.Row("section", "name", value, goal, more)
    assert row.met is met
    assert measure.Row("section", "name", value).met is None
    assert measure.Row("section", "name", math.nan, goal, more).met is None


def test_actions_take_turns(measure):
    """a b c a b c, after as many rounds that are not counted."""
    calls = []
    actions = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = measure.interleaved(actions, repeats=3, warmup=2)
    assert calls == list("abc") * 5
    assert {name: len(own) for name, own in times.items()} == {"a": 3, "b": 3, "c": 3}


@pytest.mark.process
def test_sections_from_the_command_line(tmp_path):
    """Once over next to nothing: figures with their goals, as JSON and as a table."""
    files = tmp_path / "b.json", tmp_path / "b.md"
    words = ["--smallest", "--only", "engine", "input", "--json", str(files[0]), "--markdown", str(files[1])]
    assert run_child(script("bench", *words), tmp_path) == 0, (tmp_path / "log").read_text()
    rows = json.loads(files[0].read_text())["rows"]
    assert [row["section"] for row in rows] == ["engine", "engine", "input"]
    assert [row["goal"] for row in rows] == [0.95, 0.95, 5]
    assert all(row["value"] > 0 and row["name"] in files[1].read_text() for row in rows)


@pytest.mark.slow
def test_a_section_from_the_command_line(tmp_path):
    """Figures of this machine, with their goals, as JSON and as a table."""
    files = tmp_path / "b.json", tmp_path / "b.md"
    words = ["--only", "input", "--repeats", "2", "--json", str(files[0]), "--markdown", str(files[1])]
    subprocess.run([sys.executable, str(BENCH), *words], check=True, capture_output=True)
    (row,) = json.loads(files[0].read_text())["rows"]
    assert row["goal"] == 5
    assert row["value"] > 1
    assert row["name"] in files[1].read_text()
