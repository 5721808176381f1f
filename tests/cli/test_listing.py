"""Tables of runs: every run can be told from the others, on 80 columns too."""

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from qexp import runs
from qexp.cli.closing import run_report
from qexp.cli.listing import Column, drawn, fitted
from qexp.cli.progress import job_names
from qexp.config.yaml_files import to_yaml
from qexp.experiment.runner import RunOutcome
from support.commands import Configure, Qexp
from support.stored_runs import SUMMARY, make, rows

LR = "recipe.optimizer.weight.lr"


def stored(configure: Configure, *words: str, state: str = "done", top1: float = 90.0) -> str:
    """A run of the store with a whole configuration; returns its hash."""
    config = configure(*words)
    path = runs.run_directory(config)
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(to_yaml(config.tree))
    runs.write_status(path, state)  # type: ignore[arg-type]
    if state == "done":
        named = {"key": config.key, "width": config.width, "protocol": config.protocol, "epochs": config.recipe.epochs}
        runs.write_json(path / "summary.json", {**SUMMARY, **named, "top1_hard": top1})
    return config.key


@pytest.fixture
def swept(workspace: Path, configure: Configure) -> dict[str, str]:
    """Runs that differ in what has no column of its own: learning rate, penalty, recipe."""
    return {
        "one": stored(configure, "quantizer=dqa", f"{LR}=0.1", top1=91.0),
        "two": stored(configure, "quantizer=dqa", f"{LR}=0.03", top1=92.0),
        "three": stored(configure, "quantizer=dqa", "quantizer.penalty=1", top1=93.0),
        "four": stored(configure, "quantizer=ste", "recipe=daq", top1=94.0),
        "five": stored(configure, "quantizer=ste", state="interrupted"),
    }


def test_every_option_that_varies_has_a_column(qexp: Qexp, swept: dict[str, str]) -> None:
    out = qexp("runs").out
    (head,) = [line for line in out.splitlines() if "hash" in line]
    assert head.split()[:7] == ["hash", "model", "quantizer", "seed", "quantizer.penalty", "recipe", LR]
    found = {row[0]: row[3:] for row in ([w for w in row if w != "x0.25"] for row in rows(out))}
    assert found[swept["one"]][1:5] == ["0", "5.0", "digits", "0.1"]
    assert found[swept["two"]][1:5] == ["0", "5.0", "digits", "0.03"]
    assert found[swept["three"]][1:5] == ["0", "1", "digits", "0.1"]
    assert found[swept["four"]][1:6] == ["0", "-", "daq", "0.1", "94.00"]
    assert found[swept["five"]][-1] == "interrupted"


def test_values_that_are_apart_by_little_are_told_apart(qexp: Qexp, workspace: Path, configure: Configure) -> None:
    one = stored(configure, f"{LR}=0.1", top1=90.0)
    other = stored(configure, f"{LR}=0.10000001", top1=80.0)
    found = {row[0]: row[4] for row in rows(qexp("runs").out)}
    assert found == {one: "0.1", other: "0.10000001"}
    groups = json.loads(qexp("runs", "--group", LR, "--format", "json").out)
    assert {group[LR]: (group["mean"], group["n"]) for group in groups} == {0.1: (90.0, 1), 0.10000001: (80.0, 1)}
    assert [LR, "0.1", "0.10000001"] in rows(qexp("runs", "compare", one, other).out)


def test_layers_with_bits_of_their_own_are_told_wherever_a_run_is_called(
    qexp: Qexp, workspace: Path, configure: Configure
) -> None:
    """Its directory keeps its name."""
    words = ("quantizer=ste", "bits=32", 'layer_bits=["layer1.*:4"]')
    key, config = stored(configure, *words), configure(*words)
    assert runs.run_directory(config).parent.name == "ste-w32a32"
    assert config.label.startswith("ste W32A32+  ")
    assert rows(qexp("runs").out)[0][:3] == [key, "ste", "W32A32+"]
    assert qexp("runs", "show", key).out.startswith("ste W32A32+  ")
    assert job_names([config]) == ["ste W32A32+  seed 0"]
    own = {"conv1": [32, 32], "layer1.0.conv1": [4, 4], "layer2.0.conv1": [32, 32]}
    measured = {**SUMMARY, "quantizer": "ste", "weight_bits": 32, "activation_bits": 32, "top1_hard": 1.0}
    usual = {"weight_kilobytes": 1.0, "float_weight_kilobytes": 2.0, "top1_soft": 1.0}
    for bits, label in ((own, "ste W32A32+  "), ({"conv1": [32, 32]}, "ste W32A32  ")):
        summary = {**measured, **usual, "layers": {"bits": bits}}
        assert run_report(RunOutcome("done", "runs/x", summary)).startswith(label)
    for damaged in ({"conv1": 3}, {"conv1": [3.5, None]}, [3], None):  # others may have written it
        summary = {**measured, **usual, "layers": {"bits": damaged}, "mean_weight_bits": -5}
        assert run_report(RunOutcome("done", "runs/x", summary)).startswith("ste W32A32  ")


def test_a_protocol_that_changed_is_shown_as_changed(qexp: Qexp, workspace: Path, configure: Configure) -> None:
    keys = [stored(configure, "dataset=cifar10", f"protocol={name}") for name in ("short", "smoke")]
    out = qexp("runs").out
    assert out.startswith("2 runs: cifar10\n")
    assert sorted((row[0], row[6]) for row in rows(out)) == sorted(zip(keys, ("short", "smoke"), strict=True))


COLUMNS = [
    Column("hash", ["abcdefgh", "bbbbbbbb"]),
    Column("model", ["resnet18 x0.25", "resnet20"], may_gather=True),
    Column("quantizer", ["daq W2A2", "fp W32A32"]),
    Column("seed", ["0", "12"]),
    Column(LR, ["0.1", "0.03"], True, may_gather=True),
    Column("keep_float", ["[first,last,layer1.0.conv1,layer1.0.conv2]", "-"], may_gather=True),
    Column("top-1", ["98.61 %", "-"], True),
    Column("difference", ["-0.50", "-"], True),
    Column("time", ["12 s", "-"], True),
    Column("state", ["done", "interrupted"]),
]


@pytest.mark.parametrize("width", [200, 160, 120, 100, 80, 77])
@pytest.mark.parametrize("count", range(5, len(COLUMNS) + 1))
def test_a_table_fits_its_terminal_and_loses_nothing_that_identifies(width: int, count: int) -> None:
    columns, left_out = fitted(COLUMNS[:count], width)
    lines = drawn(columns).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert set(left_out) <= {"difference", "time"}
    # What was folded is whole when its pieces are put together again.
    text = "".join("".join(lines).split())
    for column in COLUMNS[:count]:
        if column.header not in left_out:
            pieces = (column.header, *column.cells)
            letters = {letter for piece in pieces for letter in piece if letter not in "- "}
            assert letters <= set(text)
    for word in ("abcdefgh", "bbbbbbbb", "daq W2A2", "fp W32A32", "98.61 %" if count > 6 else "seed"):
        assert word in drawn(columns)


def test_what_is_gathered_names_every_value() -> None:
    columns, left_out = fitted(COLUMNS, 80)
    assert left_out == ["time", "difference"]
    assert [column.header for column in columns] == ["hash", "quantizer", "seed", "top-1", "state", "differs in"]
    first, second = ("".join(cell.split()) for cell in columns[-1].cells)
    assert first == f"model=resnet18x0.25{LR}=0.1keep_float=[first,last,layer1.0.conv1,layer1.0.conv2]"
    assert second == f"model=resnet20{LR}=0.03"


@pytest.mark.parametrize("width", [60, 50, 40, 31])
def test_on_a_narrow_terminal_all_stands_beside_the_hash(width: int) -> None:
    """A path and a list of layers among them; what has a name of its own needs no header."""
    columns, left_out = fitted(COLUMNS, width)
    assert left_out == ["time", "difference"]
    assert max(map(cell_len, drawn(columns).splitlines())) <= width
    assert [column.header for column in columns] == ["hash", "run"]
    assert columns[0].cells == COLUMNS[0].cells
    first = "".join(columns[1].cells[0].split())
    assert first.startswith("resnet18x0.25daqW2A2seed=0")
    assert f"{LR}=0.1keep_float=[first,last,layer1.0.conv1,layer1.0.conv2]" in first
    assert "top-1=98.61%" in first


def test_headers_are_folded_before_anything_is_left_out() -> None:
    columns, left_out = fitted([COLUMNS[0], COLUMNS[4], COLUMNS[8]], 40)
    assert (left_out, columns[1].header) == ([], "recipe.\noptimizer.\nweight.\nlr")
    lines = drawn(columns).splitlines()
    assert [line.split() for line in lines[1:5]] == [
        ["recipe."],
        ["optimizer."],
        ["weight."],
        ["hash", "lr", "time"],
    ]


def test_a_terminal_is_told_what_it_has_no_room_for(
    qexp: Qexp, swept: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    out = qexp("runs").out
    assert max(map(cell_len, out.splitlines())) <= 80
    assert all(key in out for key in swept.values())
    assert "no room for kB, gap, time, epochs, float, difference; --columns or a wider" in out


@pytest.mark.usefixtures("swept")
def test_what_has_no_room_can_be_named_as_a_column(qexp: Qexp) -> None:
    names = "kB,gap,time,epochs,float,difference"
    assert qexp("runs", "--columns", names, "--sort", "gap").out.split("\n")[2].split() == names.split(",")


# Other formats, order, columns


def test_csv_and_json_hold_numbers_and_every_option_that_varies(qexp: Qexp, swept: dict[str, str]) -> None:
    objects = {one["key"]: one for one in json.loads(qexp("runs", "--format", "json").out)}
    assert objects[swept["two"]][LR] == 0.03
    assert objects[swept["four"]]["recipe"] == "daq"
    assert objects[swept["four"]]["quantizer.penalty"] is None
    assert (objects[swept["two"]]["top1_hard"], objects[swept["five"]]["top1_hard"]) == (92.0, None)
    table = {row["key"]: row for row in csv.DictReader(io.StringIO(qexp("runs", "--format", "csv").out))}
    assert table[swept["two"]][LR] == "0.03"
    assert table[swept["five"]]["top1_hard"] == ""
    assert list(next(iter(table.values()))) == list(next(iter(objects.values())))


def test_an_empty_list_is_empty_in_every_format(qexp: Qexp, swept: dict[str, str]) -> None:
    assert json.loads(qexp("runs", "seed=9", "--format", "json").out) == []
    assert len(qexp("runs", "seed=9", "--format", "csv").out.splitlines()) == 1
    for style in ("text", "md", "latex"):
        assert qexp("runs", "seed=9", "--format", style).out == "no such runs in runs\n"


@pytest.mark.parametrize("style", ["text", "md", "latex"])
def test_columns_that_are_named_look_as_in_the_list(qexp: Qexp, swept: dict[str, str], style: str) -> None:
    out = qexp("runs", "--columns", "hash,top-1", "--format", style, swept["one"]).out
    assert re.search(r"\b91\.00 \\?%", out)
    assert '"top-1": 91.0\n' in qexp("runs", "--columns", "top-1", "--format", "json", swept["one"]).out


def test_on_a_narrow_terminal_the_most_frequent_values_are_said_once(
    workspace: Path, qexp: Qexp, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`norm_batches=0` in each row but one hides what differs; a pipe has the whole table."""
    own = (["recipe.norm_batches=3"], ["model.width=0.5"], ["recipe.label_smoothing=0.1"], [], [])
    for seed, words in enumerate(own):
        stored(configure, "dataset=digits", "quantizer=daq", "bits=2", "model.width=0.25", f"seed={seed}", *words)
    assert "not said" not in qexp("runs").out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    table, _, note = qexp("runs").out.partition("not said: the most frequent value, ")
    assert [table.count(word) for word in ("norm_batches=3", "x0.5", "=0.1", "=0", "x0.25")] == [1, 1, 1, 1, 0]
    assert " ".join(note.split()).startswith(
        "model=resnet18 x0.25, recipe.label_smoothing=0.0, recipe.norm_batches=0 no room"
    )


def test_columns_are_those_that_are_named(qexp: Qexp, swept: dict[str, str]) -> None:
    names = f"top-1,{LR},keep_float,threads,bits,hash"
    out = qexp("runs", "--sort", "-top-1", "--columns", names, "--format", "csv").out
    assert list(csv.reader(io.StringIO(out)))[:2] == [
        names.split(","),
        ["94.0", "0.1", "[first,last]", "0", "W2A2", swept["four"]],
    ]
    found = json.loads(qexp("runs", "--columns", "keep_float,best_epoch", "--format", "json", swept["one"]).out)
    assert found == [{"keep_float": ["first", "last"], "best_epoch": 15}]


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("top-1", "one two three four five"),
        ("-top-1", "four three two one five"),
        (LR, "two"),
        ("quantizer.penalty", "three"),
        ("state", "one"),
    ],
)
def test_runs_are_sorted_and_those_without_a_value_come_last(
    qexp: Qexp, swept: dict[str, str], name: str, order: str
) -> None:
    out = qexp("runs", "--sort", name, "--columns", "hash").out
    found = [row[0] for row in rows(out)]
    if name == "state":
        assert found[-1] == swept["five"]
    else:
        assert found[: len(order.split())] == [swept[one] for one in order.split()]


def test_latex_and_markdown_are_tables_of_their_kinds(qexp: Qexp, swept: dict[str, str]) -> None:
    text = qexp("runs", "quantizer=dqa", "--format", "latex").out
    assert r"\begin{tabular}{lllrrrrrrrrr}" in text
    assert r"weight.lr" in text
    assert r"92.00 \%" in text
    lines = qexp("runs", "quantizer=dqa", "--format", "md").out.splitlines()
    assert lines[0] == "3 runs: digits, resnet18 x0.25, protocol paper"
    assert {line.count("|") for line in lines[2:]} == {13}


def test_odd_values_stay_on_their_line(qexp: Qexp, workspace: Path) -> None:
    for key, name in (("aaaaaaaa", "a\\u202eb"), ("bbbbbbbb", "日本")):
        path = make(f"daq-w2a2/s0-{key}")
        text = (path / "config.yaml").read_text()
        (path / "config.yaml").write_text(f'{text}note: "{name}"\n')
    found = rows(qexp("runs").out)
    assert [row[4] for row in found] == ["a?b", "日本"]
