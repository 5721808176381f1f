"""`qexp runs`: list, show and remove the runs in the store."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qexp.cli.course_rows import epochs_of
from qexp.cli.parser import Parser
from qexp.cli.show import page
from qexp.cli.text import grid
from qexp.config.places import store_root
from qexp.runs import query
from qexp.runs.query import STATES, Entry, number
from qexp.utils.errors import QexpError, UsageError
from qexp.utils.text import percent, plural, printable, size, suggest

ACTIONS = ("list", "show", "rm")
USAGE = """\
qexp runs [list] [TEXT ...] [key=value ...] [--state STATE] [--json]
       qexp runs show RUN [--json]
       qexp runs rm RUN or TEXT ... [key=value ...] [--state STATE] [--yes]"""
EXAMPLES = """\
examples:
  qexp runs                                    everything in the store
  qexp runs digits daq seed=0,1                whose path holds both words, and that have one of these seeds
  qexp runs recipe.epochs=20 dataset=cifar10   by the configuration, or by what is in the summary
  qexp runs --state failed,diverged
  qexp runs show ihlhmgdn                      one run: all that is known of it
  qexp runs rm --state interrupted             asks before it removes anything; a run that is running stays

A run is named by its directory or its hash; show takes the beginning of a hash. Exit codes: 0 also where nothing fits
or the answer is no; 1 something that was to be removed stays; 2 a wrong word.
"""


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Do what is asked; return the exit code."""
    arguments = _arguments(words)
    root, states = store_root(arguments.runs_dir), _states(arguments.state)
    if arguments.action == "show":
        return _show(root, arguments)
    if arguments.action == "rm":
        return _rm(root, arguments, states)
    found, _ = query.select(root, arguments.words, states)
    if arguments.json:
        print(json.dumps([_brief(entry) for entry in found], indent=2))
    elif found:
        print(_table(found))
    else:
        print(f"no such runs in {root}{suggest(arguments.words[0], ACTIONS) if arguments.words else ''}")
    return 0


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    """Return the words without that of the action, and the options.

    Raises:
        UsageError: an option that is unknown, or goes with another action.
    """
    parser = Parser("qexp runs", "List, show and remove the runs in the store.", usage=USAGE, epilog=EXAMPLES)
    parser.add_argument("words", nargs="*", metavar="TEXT or key=value", help="what the runs have in common")
    parser.add_argument("--state", metavar="STATE", help=f"{', '.join(STATES)}; several with commas")
    parser.add_argument("--runs-dir", metavar="DIR", help="the run store (default: $QEXP_RUNS, else ./runs)")
    parser.add_argument("--json", action="store_true", help="list, show: print JSON")
    parser.add_argument("--yes", action="store_true", help="rm: do not ask")
    parser.add_argument("--all", action="store_true", help="rm: every run of the store")
    arguments = parser.parse(words)
    named = bool(arguments.words) and arguments.words[0] in ACTIONS
    arguments.action = arguments.words.pop(0) if named else "list"
    for option, actions in (("json", ("list", "show")), ("yes", ("rm",)), ("all", ("rm",))):
        if getattr(arguments, option) and arguments.action not in actions:
            parser.error(f"--{option} does not go with {arguments.action}")
    return arguments


def _states(text: str | None) -> tuple[str, ...]:
    states = tuple(text.split(",")) if text is not None else ()
    for state in states:
        if state not in STATES:
            raise UsageError(f"--state {state}: must be {', '.join(STATES)}{suggest(state, STATES)}")
    return states


# list


def _table(found: Sequence[Entry]) -> str:
    numeric = ("top-1", "float", "difference", "epochs", "time")
    headers = ("dataset", "model", "quantizer", "seed", *numeric, "protocol", "state", "hash")
    return grid(headers, (list(map(printable, _row(entry))) for entry in found), numeric)


def _row(entry: Entry) -> list[str]:
    summary = entry.result
    top1, difference, seconds = (number(summary, key) for key in ("top1_hard", "difference", "time_seconds"))
    return [
        entry.dataset,
        entry.model_label,
        entry.method,
        entry.seed,
        "-" if top1 is None else percent(top1),
        percent(number(summary, "float_top1")) if "float_top1" in summary else "-",
        "-" if difference is None else percent(difference, signed=True),
        epochs_of(summary, "/") if "epochs" in summary else entry.progress or "-",
        "-" if seconds is None else f"{seconds:.0f} s",
        str(summary.get("protocol", "-")),
        entry.state,
        entry.key,
    ]


def _brief(entry: Entry) -> dict[str, Any]:
    """Return what a list has for programs."""
    return {
        "run": str(entry.path),
        "dataset": entry.dataset,
        "model": entry.model,
        "quantizer": entry.method,
        "seed": int(entry.seed) if entry.seed.isdigit() else None,
        "key": entry.key,
        "state": entry.state,
        "message": entry.status.get("message", ""),
        "time": entry.status.get("time"),
        "epoch": entry.last_epoch.get("epoch"),
        "epochs": entry.last_epoch.get("epochs"),
        "summary": entry.summary or None,
    }


# show


def _show(root: Path, arguments: argparse.Namespace) -> int:
    if len(arguments.words) != 1 or arguments.state:
        raise UsageError("show takes one run: its directory, or the beginning of its hash (qexp runs lists them)")
    entry = query.find(root, arguments.words[0])
    if arguments.json:
        more = {"status": entry.status, "config": entry.config or None, "environment": entry.environment or None}
        print(json.dumps({**_brief(entry), **more, "files": entry.files}, indent=2, default=str))
    else:
        print(page(entry))
    return 0


# rm


def _rm(root: Path, arguments: argparse.Namespace, states: Sequence[str]) -> int:
    has_filter = bool(arguments.words or states)
    if has_filter == arguments.all:
        problem = "--all goes without filters" if has_filter else "which runs? name some, or all with --all"
        raise UsageError(f"{problem} (qexp runs --help)")
    if {"", f"{root}/"} & set(arguments.words):  # a variable of the shell that is not set, behind the store or alone
        raise UsageError("an empty word would fit every run")
    found, every = query.select(root, arguments.words, states)
    running = [entry for entry in found if entry.state == "running"]
    going = [entry for entry in found if entry not in running]
    if going and not (arguments.yes or (sys.stdin and sys.stdin.isatty())):
        raise UsageError(f"{_count(going)} would be removed, and there is nobody to ask: add --yes")
    for entry in running:
        print(f"qexp runs: stays, because it is running: {printable(str(entry.path))}", file=sys.stderr)
    if not going:
        print(f"no such runs in {root}" if not running else "nothing was removed")
        return 1 if running else 0
    _announce(going, [entry for entry in every if entry not in going])
    if not arguments.yes and not _agreed(f"remove {_count(going)}? [y/N] "):
        print("nothing was removed")
        return 0
    gone = [entry for entry in going if _removed(root, entry)]
    print(f"removed {_count(gone)}")
    return 0 if len(gone) == len(found) else 1


def _announce(going: Sequence[Entry], others: Sequence[Entry]) -> None:
    for entry in going:
        print(f"  {size(entry.bytes):>9}  {entry.state:<11}  {printable(entry.name)}")
    if children := query.trained_from(going, others):
        print(f"others were trained from these float nets, and stay with their results: {len(children)}")


def _count(entries: Sequence[Entry]) -> str:
    return f"{plural(len(entries), 'run')} ({size(sum(entry.bytes for entry in entries))})"


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def _removed(root: Path, entry: Entry) -> bool:
    try:
        query.remove_run(root, entry)
    except QexpError as error:
        print(f"qexp runs: {printable(str(error))}", file=sys.stderr)
        return False
    return True
