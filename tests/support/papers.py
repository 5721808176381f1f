"""A small table of a paper, and run directories with the results that it reads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qexp import runs
from qexp.config.compose import composing
from qexp.config.places import conf_dir
from qexp.runs import store
from qexp.tables.join import JoinedTable, Line, TableRequest, join
from support.commands import TINY

# A table file

SMALL = """\
title: Two nets
citation: Somebody 2020
source: page 3
protocol: {epochs: 5, batch: unknown, optimizer: SGD, start: random, float_layers: none, best_or_last: last,
  soft_or_hard: hard, runs: one}
differences: [ours is smaller]
overrides: WORDS init=fp
seeds: [0, 1]
rows:
  - {id: fp, label: float, overrides: quantizer=fp bits=32, reported: {top1: 90.0, top5: 99.5}}
  - {id: ste, label: STE, overrides: quantizer=ste bits=2, reported: {top1: 80.5, std: 0.25, runs: 3}, note: a|b}
  - {id: dqa, label: DQA, overrides: quantizer=dqa bits=2, reported: {}, source: page 4}
  - {id: lsq, label: LSQ, overrides: null, reported: {top1: 85}}
""".replace("WORDS", " ".join(TINY))


def make_folder(parent: Path) -> Path:
    """Return a new folder of tables in `parent`, with one table, a/small."""
    place = parent / "paper"
    (place / "a").mkdir(parents=True)
    (place / "a" / "small.yaml").write_text(SMALL)
    return place


# What is printed


def columns(line: str) -> list[str]:
    """The cells of a line of the table, which two blanks or more set apart."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def rows_of(lines: list[str]) -> dict[str, list[str]]:
    """Row -> its other cells."""
    return {cells[0]: cells[1:] for cells in map(columns, lines) if cells and cells[0] in ("fp", "ste", "dqa", "lsq")}


# Rows joined with runs


def fabricate(
    path: Path, top1: float | None, *, state: str = "done", unsettled: Sequence[str] = (), firmness: Any = None
) -> None:
    """What a run leaves behind, as far as a table reads it."""
    path.mkdir(parents=True)
    runs.write_status(path, state, "it broke" if state == "failed" else "")  # type: ignore[arg-type]
    if top1 is not None:
        numbers = dict.fromkeys(store._NUMBERS, 1) | {"top1_hard": top1}
        texts = dict.fromkeys(store._TEXTS, "x")
        summary = {"key": path.name[-8:], **numbers, **texts, "float_top1": None, "difference": None}
        runs.write_json(path / "summary.json", {**summary, "unsettled": list(unsettled), "firmness": firmness})
        environment = {"qexp": "9.9", "versions": {"torch": "8.8"}, "device_name": "abacus"}
        (path / "env.json").write_text(json.dumps(environment))


PAPER = conf_dir() / "paper"


def asked(*overrides: str, rows: str | None = None, seeds: Sequence[int] = (), protocol: str = "paper") -> TableRequest:
    return TableRequest(rows, tuple(seeds) or None, protocol, overrides)


def by_id(joined: JoinedTable) -> dict[str, Line]:
    return {line.row.id: line for line in joined.lines}


def paths(joined: JoinedTable, key: str) -> list[Path]:
    return [run.path for run in by_id(joined)[key].runs]


def joined_table(folder: Path, name: str, request: TableRequest) -> JoinedTable:
    """A table joined with its runs as they are now."""
    with composing() as composer:
        return join(folder, name, request, composer)
