"""Layers of runs as tables, against what summary.json, layers.jsonl and the checkpoint say."""

import json
from pathlib import Path
from typing import Any

import pytest

from qexp.quantizers.oscillation import WATCHED_STEPS
from qexp.report.page_content import PageTable
from qexp.report.page_layers import HINTS, MOST_TABLES, layer_sections, layers_table
from qexp.runs.query import Entry, entries
from qexp.runs.run_values import listed_runs
from support.commands import Sweep
from support.stored_runs import make

BITS = {"conv1": [32, 32], "layer1.0.conv1": [2, 4], "layer1.0.conv2": [3, 32]}
LAYERS = {"bits": BITS, "float": {"conv1": "keep_float first"}}


def with_layers(name: str, bits: Any = BITS, reports: list[dict[str, float]] | None = None) -> Entry:
    """A finished run; each report is a line of layers.jsonl."""
    path = make(name, summary={"layers": {**LAYERS, "bits": bits}})
    lines = [json.dumps({"epoch": epoch, "values": values}) for epoch, values in enumerate(reports or [])]
    (path / "layers.jsonl").write_text("\n".join(lines))
    return Entry(path)


def texts(table: PageTable) -> list[list[str]]:
    return [list(table.headers), *([cell.text for cell in row] for row in table.rows)]


def test_a_row_is_what_the_run_recorded_of_a_layer_last(workspace: Path) -> None:
    first = {"layer1.0.conv1/weight/error": 0.9}
    last = {
        **{"layer1.0.conv1/weight/error": 0.25, "layer1.0.conv1/weight/changed": 1.5, "conv1/weight/error": "x"},
        **{"layer1.0.conv1/weight/turned_back": 0.5, "layer1.0.conv1/weight/changed_per_step": 0.125},
    }
    entry = with_layers("daq-w2a4/s0-aaaaaaaa", reports=[first, last])
    assert texts(layers_table([entry], {"layer1.0.conv1": 4000, "conv1": 27})) == [
        [
            *("layer", "weight bits", "input bits", "weights", "kB"),
            *("error", "changed, %", "turned back, %", "per step, %", "why float"),
        ],
        ["conv1", "float", "float", "27", "0.1", *"––––", "keep_float first"],
        ["layer1.0.conv1", "2", "4", "4,000", "1.0", "0.2500", "1.50", "0.50", "0.12", ""],
        ["layer1.0.conv2", "3", "float", *"––––––", ""],
    ]


def test_the_hint_says_over_how_many_steps() -> None:
    assert HINTS["per step, %"].endswith(f"the last {WATCHED_STEPS} steps")


def test_without_reports_and_counts_there_are_no_columns_of_them(workspace: Path) -> None:
    """As of a run of a version before."""
    entry = with_layers("daq-w2a4/s0-aaaaaaaa")
    assert texts(layers_table([entry], {}))[:2] == [
        ["layer", "weight bits", "input bits", "why float"],
        ["conv1", "float", "float", "keep_float first"],
    ]


def test_runs_whose_layers_are_alike_have_one_table_and_of_many_kinds_some(workspace: Path) -> None:
    for seed, key in enumerate(("aaaaaaaa", "bbbbbbbb")):
        values = {"layer1.0.conv1/weight/error": seed / 4, "layer1.0.conv2/weight/changed": 5.0}
        with_layers(f"daq-w2a4/s{seed}-{key}", reports=[values])
    for at in range(MOST_TABLES + 2):
        with_layers(f"ste-w2a4/s{at}-{chr(99 + at) * 8}", bits={"only": [2 + at % 7, 1 + at // 7]})
    with_layers("br-w2a2/s0-zzzzzzzz", bits="damaged")
    (section,) = layer_sections(listed_runs(entries(Path("runs"))))
    tables = [part for part in section.parts if isinstance(part, PageTable)]
    assert len(tables) == MOST_TABLES
    assert tables[0].fold == "3 layers of daq W2A4: aaaaaaaa, bbbbbbbb"
    errors = ["error of aaaaaaaa", "error of bbbbbbbb"]
    assert texts(tables[0])[0] == ["layer", "weight bits", "input bits", *errors, "why float"]
    assert texts(tables[0])[2] == ["layer1.0.conv1", "2", "4", "0.0000", "0.2500", ""]
    assert tables[1].fold == "1 layer of ste W2A4: cccccccc"


@pytest.mark.parametrize("damaged", [None, {}, [], {"bits": {"a": [2]}}, {"bits": {"a": [0, 2], "b": [2, True]}}])
def test_a_run_without_bits_of_layers_has_no_section(workspace: Path, damaged: Any) -> None:
    make("daq-w2a2/s0-aaaaaaaa", summary={"layers": damaged})
    assert layer_sections(listed_runs(entries(Path("runs")))) == []


def test_of_one_real_run_weights_and_sizes_are_those_of_its_checkpoint(sweep: Sweep) -> None:
    """ResNet-20 at a quarter of its width: 3x3 weights of layer1 are 4 x 4 x 9; DQA's lowest grid is of 2 bits."""
    run = sweep.run("dqa")
    (section,) = layer_sections(listed_runs([Entry(run)]))
    (table,) = section.parts
    assert isinstance(table, PageTable)
    rows = {row[0].text: dict(zip(table.headers, (cell.value for cell in row), strict=True)) for row in table.rows}
    values = json.loads((run / "layers.jsonl").read_text().splitlines()[-1])["values"]
    own = rows["layer1.0.conv1"]
    assert (own["weights"], own["weight bits"], own["kB"]) == (144, 2, 0.036)
    for header, key in (("error", "error"), ("changed, %", "changed"), ("per step, %", "changed_per_step")):
        assert own[header] == values[f"layer1.0.conv1/weight/{key}"]
    assert rows["linear"]["weight bits"] == 32
