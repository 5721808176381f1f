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
from qexp.cli.removal import remove_fitting
from qexp.cli.show import page
from qexp.cli.watch import watch
from qexp.config.places import store_root
from qexp.runs import query
from qexp.runs.groups import MEASURED, grouped, in_order_of, mixture_notes
from qexp.runs.query import STATES, Entry
from qexp.runs.run_values import ListedRun, check_names, in_order, listed_runs, named_states
from qexp.utils.errors import UsageError
from qexp.utils.text import plural, suggest

ACTIONS = ("list", "show", "compare", "tensorboard", "rm")
USAGE = """\
qexp runs [list] [TEXT ...] [key=value ...] [--state STATE] [--sort NAME] [--columns NAMES] [--format NAME] [--json]
       qexp runs [list] [TEXT ...] [key=value ...] [--state STATE] --group NAMES [--sort NAME] [--format NAME]
       qexp runs [list] [TEXT ...] [key=value ...] [--state STATE] --watch
       qexp runs show RUN [--json]
       qexp runs compare RUN RUN [--json]
       qexp runs tensorboard [TEXT ...] [key=value ...] [--state STATE] [--links DIR] [-- words for tensorboard]
       qexp runs rm RUN or TEXT ... [key=value ...] [--state STATE] [--yes]"""
_GOES_WITH = {
    "json": ("list", "show", "compare"),
    "yes": ("rm",),
    "all": ("rm",),
    "links": ("tensorboard",),
    **dict.fromkeys(("sort", "columns", "group", "format", "watch"), ("list",)),
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
  qexp runs digits --watch                     a table of what trains now, here or on another machine
  qexp runs show ihlhmgdn                      one run: all that is known of it
  qexp runs compare ihlhmgdn mpcd              two: what differs in configuration, result and curve
  qexp runs tensorboard digits -- --port 6007  their curves, each called by what varies: daq W2A2 lr=0.01 seed 0
  qexp runs rm --state interrupted             asks before it removes anything; a run that is running stays

The list has a column for every option that varies in what is listed, unless it follows from others that are shown.
NAMES, with commas, are options (recipe.epochs), what summary.json has (top1_hard, oscillation.changed) or one of
hash, run, state, dataset, model, quantizer, bits, seed, size, top-1, float, gap, kB, time; --sort -NAME: falling.

--watch reads the store, and locks nothing: once a second the runs that are running (epochs, top-1 of the last
evaluation, the time that is left at the pace of the last epochs), and every five seconds what there is besides. It
needs a terminal, and stays until Ctrl-C, which is its ordinary end: exit code 0.

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
    if arguments.watch:
        return watch(root, arguments.words, states)
    if arguments.action == "rm":
        return remove_fitting(root, arguments, states)
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
    parser.add_argument("--watch", action="store_true", help="list: a table that follows what trains; Ctrl-C ends it")
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
    others = [("watch", option) for option in ("sort", "columns", "group", "format", "json")]
    for option, other in (("columns", "group"), ("json", "group"), ("json", "columns"), ("json", "format"), *others):
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
