"""`qexp runs rm`: what is removed, what stays and why, and the question before."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qexp.runs import query
from qexp.runs.query import Entry
from qexp.utils.errors import QexpError, UsageError
from qexp.utils.text import plural, printable, size


def remove_fitting(root: Path, arguments: argparse.Namespace, states: Sequence[str]) -> int:
    """Remove the runs that fit, once somebody agrees; return the exit code.

    Args:
        root: the store.
        arguments: of the command: its words, `all` and `yes`.
        states: of the runs, empty for all.
    """
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
