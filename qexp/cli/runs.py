"""`qexp runs`: list, show, compare and remove the runs in the store, and their curves in TensorBoard."""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qexp.cli.compare import compare_json, compare_page
from qexp.cli.curves import show_curves
from qexp.cli.grouping import as_listing, group_rows
from qexp.cli.listing import (
    FORMATS,
    Listing,
    as_lines,
    columns_for_programs,
    for_programs,
    listing,
    named_columns,
    printed,
    rows_of,
)
from qexp.cli.parser import Parser
from qexp.cli.show import page
from qexp.config.places import store_root
from qexp.runs import query
from qexp.runs.groups import MEASURED, grouped, in_order_of, mixture_notes
from qexp.runs.query import STATES, Entry
from qexp.runs.run_values import ListedRun, check_names, in_order, listed_runs, named_states
from qexp.utils.errors import QexpError, UsageError
from qexp.utils.text import plural, printable, size, suggest

ACTIONS = ("list", "show", "compare", "tensorboard", "rm")
USAGE = """\
qexp runs [list] [TEXT ...] [key=value ...] [--state STATE] [--sort NAME] [--columns NAMES] [--format NAME] [--json]
       qexp runs [list] [TEXT ...] [key=value ...] [--state STATE] --group NAMES [--sort NAME] [--format NAME]
       qexp runs show RUN [--json]
       qexp runs compare RUN RUN [--json]
       qexp runs tensorboard [TEXT ...] [key=value ...] [--state STATE] [--links DIR] [-- words for tensorboard]
       qexp runs rm RUN or TEXT ... [key=value ...] [--state STATE] [--yes]"""
_GOES_WITH = {
    "json": ("list", "show", "compare"),
    "yes": ("rm",),
    "all": ("rm",),
    "links": ("tensorboard",),
    **dict.fromkeys(("sort", "columns", "group", "format"), ("list",)),
}
EXAMPLES = """\
examples:
  qexp runs                                    everything in the store
  qexp runs digits daq seed=0,1                whose path holds both words, and that have one of these seeds
  qexp runs recipe.epochs=20 dataset=cifar10   by the configuration, or by what is in the summary
  qexp runs --state failed,diverged
  qexp runs --sort -top-1 --columns hash,quantizer,bits,recipe.optimizer.weight.lr,top-1
  qexp runs digits --group quantizer,bits      mean, standard deviation (n - 1) and number of runs, of hard top-1
  qexp runs --group quantizer --format latex   for a paper; md, csv and json for others
  qexp runs show ihlhmgdn                      one run: all that is known of it
  qexp runs compare ihlhmgdn mpcd              two: what differs in configuration, result and curve
  qexp runs tensorboard digits -- --port 6007  their curves, each called by what varies: daq W2A2 lr=0.01 seed 0
  qexp runs rm --state interrupted             asks before it removes anything; a run that is running stays

The list has a column for every option that varies in what is listed, unless it follows from others that are shown.
NAMES, with commas, are options (recipe.epochs), what summary.json has (top1_hard, oscillation.changed) or one of
hash, run, state, dataset, model, quantizer, bits, seed, size, top-1, float, gap, kB, time; --sort -NAME: falling.

A run is named by its directory or its hash; show and compare take the beginning of a hash. Exit codes: 0 also where
nothing fits or the answer is no; 1 something that was to be removed stays; 2 a wrong word: a filter by what no run has,
or a text that is in the path of none.
"""


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Do what is asked; return the exit code."""
    arguments = _arguments(words)
    root, states = store_root(arguments.runs_dir), named_states(arguments.state)
    if arguments.action == "show":
        return _show(root, arguments)
    if arguments.action == "compare":
        return _compare(root, arguments)
    if arguments.action == "tensorboard":
        select = partial(query.select, root, arguments.words, states)
        return show_curves(root, select, arguments.further, arguments.links)
    if arguments.action == "rm":
        return _rm(root, arguments, states)
    return _list(root, arguments, states)


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    """Return the words without that of the action, and the options.

    Raises:
        UsageError: an option that is unknown, or goes with another action.
    """
    parser = Parser("qexp runs", "List, show, compare and remove the runs in the store.", usage=USAGE, epilog=EXAMPLES)
    parser.add_argument("words", nargs="*", metavar="TEXT or key=value", help="what the runs have in common")
    parser.add_argument("--state", metavar="STATE", help=f"{', '.join(STATES)}; several with commas")
    parser.add_argument("--runs-dir", metavar="DIR", help="the run store (default: $QEXP_RUNS, else ./runs)")
    parser.add_argument("--sort", metavar="NAME", help="list: in the order of this; -NAME: falling")
    parser.add_argument("--columns", metavar="NAMES", help="list: these columns and no others")
    parser.add_argument("--group", metavar="NAMES", help="list: means over the runs that have the same under these")
    parser.add_argument("--format", metavar="NAME", help=f"list: {', '.join(FORMATS)} (default: text)")
    parser.add_argument("--json", action="store_true", help="list, show, compare: print all there is as JSON")
    parser.add_argument("--yes", action="store_true", help="rm: do not ask")
    parser.add_argument("--all", action="store_true", help="rm: every run of the store")
    parser.add_argument("--links", metavar="DIR", help="tensorboard: only make a folder of links for it, which stays")
    own = words[: words.index("--")] if "--" in words else words
    arguments = parser.parse(_joined(own))
    named = bool(arguments.words) and arguments.words[0] in ACTIONS
    arguments.action = arguments.words.pop(0) if named else "list"
    if (further := words[len(own) + 1 :]) and arguments.action != "tensorboard":
        parser.error(f"words behind -- do not go with {arguments.action}")
    arguments.further = further
    for option, actions in _GOES_WITH.items():
        if getattr(arguments, option) and arguments.action not in actions:
            parser.error(f"--{option} does not go with {arguments.action}")
    for option, other in (("columns", "group"), ("json", "group"), ("json", "columns"), ("json", "format")):
        if getattr(arguments, option) and getattr(arguments, other):
            parser.error(f"--{option} does not go with --{other}")
    for option in ("sort", "columns", "group"):
        text = getattr(arguments, option)
        if text is not None and "" in text.removeprefix("-").split(","):
            parser.error(f"--{option} {text}: a name is empty")
    arguments.format = arguments.format or "text"
    if arguments.format not in FORMATS:
        hint = suggest(arguments.format, FORMATS)
        raise UsageError(f"--format {arguments.format}: must be {', '.join(FORMATS)}{hint}")
    return arguments


def _joined(words: Sequence[str]) -> list[str]:
    """Return words with `--sort -NAME` as one, which argparse would take for two options."""
    found: list[str] = []
    for word in words:
        if found[-1:] == ["--sort"] and word.startswith("-") and not word.startswith("--"):
            found[-1] = f"--sort={word}"
        else:
            found.append(word)
    return found


# list


def _list(root: Path, arguments: argparse.Namespace, states: Sequence[str]) -> int:
    entries, every = query.select(root, arguments.words, states, also=ACTIONS)
    if arguments.json:
        print(json.dumps([_brief(entry) for entry in entries], indent=2))
        return 0
    names, by = _names(arguments.columns), _names(arguments.group)
    sort = (arguments.sort or "").removeprefix("-")
    for flag, asked in (("columns", names), ("group", by), ("sort", [sort] if sort else [])):
        check_names(root, every, [name for name in asked if flag != "sort" or name not in MEASURED], flag)
    runs = listed_runs(entries)
    if by:
        return _print_groups(root, runs, by, arguments)
    if sort:
        runs = in_order(runs, sort, falling=arguments.sort.startswith("-"))
    if arguments.format in ("csv", "json"):
        shown = names or columns_for_programs(runs)
        print(for_programs(shown, rows_of(runs, shown), arguments.format))
    elif not runs:
        print(f"no such runs in {root}")
    else:
        _print(named_columns(runs, names) if names else listing(runs), plural(len(runs), "run"), arguments.format)
    return 0


def _names(text: str | None) -> list[str]:
    return [] if text is None else text.split(",")


def _print(found: Listing, title: str, style: str) -> None:
    print(as_lines(found, title) if style == "text" else printed(found, title, style))


def _print_groups(root: Path, runs: Sequence[ListedRun], by: Sequence[str], arguments: argparse.Namespace) -> int:
    groups, notes = grouped(runs, by)
    if name := (arguments.sort or "").removeprefix("-"):
        if name not in (*by, *MEASURED):
            raise UsageError(f"--sort {arguments.sort}: must be {', '.join((*by, *MEASURED))} with this --group")
        groups = in_order_of(groups, by, name, falling=arguments.sort.startswith("-"))
    if arguments.format in ("csv", "json"):
        print(for_programs([*by, *MEASURED], group_rows(groups), arguments.format))
        for note in [*notes, *mixture_notes(groups, marked=False)] if groups else []:
            print(f"qexp runs: {note}", file=sys.stderr)
    elif not groups:
        print(f"no such runs in {root}" if not runs else f"none of {plural(len(runs), 'run')} has a result")
    else:
        _print(as_listing(groups, by, notes), plural(len(groups), "group"), arguments.format)
    return 0


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


# compare


def _compare(root: Path, arguments: argparse.Namespace) -> int:
    if len(arguments.words) != 2 or arguments.state:
        raise UsageError("compare takes two runs: their directories, or the beginnings of their hashes")
    first, second = (query.find(root, word) for word in arguments.words)
    print(compare_json(first, second) if arguments.json else compare_page(first, second))
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
