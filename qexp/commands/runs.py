"""`qexp runs`: list the runs in the store."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from qexp import runs
from qexp.report import percent


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="qexp runs", description="List the runs in the store.")
    parser.add_argument("text", nargs="*", help="show runs whose path holds all of these, such as cifar10 daq-w2a2")
    parser.add_argument("--state", choices=("done", "running", "interrupted", "failed", "diverged"))
    parser.add_argument("--runs-dir", help="the run store (default: $QEXP_RUNS, else ./runs)")
    arguments = parser.parse_args(words)
    root = runs.store_root(arguments.runs_dir)
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("dataset", "model", "quantizer", "seed"):
        table.add_column(name)
    for name in ("top-1", "float", "difference", "epochs", "time"):
        table.add_column(name, justify="right")
    for name in ("protocol", "state", "hash"):
        table.add_column(name)
    shown = 0
    for path in runs.list_runs(root):
        state = runs.state_of(path)
        name = str(path.relative_to(root))
        if all(text in name for text in arguments.text) and arguments.state in (None, state):
            table.add_row(*_row(name, state, runs.read_json(path / "summary.json") or {}))
            shown += 1
    if not shown:
        print(f"no such runs in {root}")
        return 0
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0


def _row(name: str, state: str | None, summary: dict[str, Any]) -> list[str]:
    dataset, model, method, run = name.split("/")
    seed, _, key = run.partition("-")
    if not summary:
        return [dataset, model, method, seed.lstrip("s"), *["-"] * 6, state or "?", key]
    return [
        dataset,
        model,
        method,
        seed.lstrip("s"),
        percent(summary["top1_hard"]),
        percent(summary["float_top1"]),
        "-" if summary["difference"] is None else percent(summary["difference"], signed=True),
        str(summary["epochs"]),
        f"{summary['time_seconds']:.0f} s",
        summary["protocol"],
        state or "?",
        key,
    ]
