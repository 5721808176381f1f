"""Stores whose runs hold what no run wrote: odd values, links, pipes, folders, and names that are none."""

import random
import re
from collections.abc import Mapping

from support.malice_case import Case, Content
from support.malice_runs import CHANGES
from support.malice_store import ROWS, TABLE, Store

COMMANDS = (
    *("list", "list", "list", "show", "show", "show", "rm", "rm", "rm", "eval", "eval", "table", "table"),
    *("train", "train", "train", "train", "train", "sweep", "widths", "widths"),
)
RUN = re.compile(r"runs/[^/]+/[^/]+/[^/]+-w\d+a\d+/s\d+-[^/]+", re.DOTALL)


def case(draw: random.Random, store: Store) -> Case:
    """A store in which one to four things are wrong, and a command on it."""
    files, command = dict[str, Content](store.files), draw.choice(COMMANDS)
    run = draw.choice(store.rows if command == "table" else store.runs)
    if command == "table":  # its rows have to be done
        for row in draw.choice((store.rows, (run,))):
            records = {name: content for name, content in store.of(store.done).items() if name.endswith(".json")}
            files |= {f"{row}/{name}": content for name, content in records.items()}
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        draw.choice(CHANGES)(draw, files, run if draw.random() < 0.8 else draw.choice(store.runs))
    words, own = _command(draw, store, command, run, files)
    return Case(f"{' '.join(words[:2])} on a store", words, files, frozenset(own))


def _command(
    draw: random.Random, store: Store, command: str, run: str, files: Mapping[str, Content]
) -> tuple[tuple[str, ...], set[str]]:
    """The words, and the runs that may change."""
    key, as_data = run.rpartition("-")[2], draw.choice(((), (), ("--json",)))
    if command == "list":
        filters = ((), (), ("seed=0",), ("epochs=1,2",), ("recipe.epochs=1",), ("state=done",), ("--state=damaged",))
        return ("runs", *draw.choice(filters), *as_data), set()
    if command == "show":
        return ("runs", "show", draw.choice((key, run)), *as_data), set()
    if command == "rm":
        word = draw.choice((key, run, "--all", "synthetic", "ste", "seed=0", "--state=done,damaged,failed"))
        return ("runs", "rm", "--yes", word), {run} if word in (key, run) else _may_go(store, files)
    if command == "eval":
        return ("eval", draw.choice((key, run)), *draw.choice(((), ("checkpoint=best",))), *as_data), set()
    if command == "table":
        return ("table", TABLE, "--rows", ROWS, "--seeds=0", f"--format={draw.choice(('text', 'md', 'csv'))}"), set()
    if command == "widths":
        return (*store.words[store.done], f"layer_bits={draw.choice((key, run))}", "--dry-run"), set()
    words = (*store.words.get(run, store.words[store.done]), *draw.choice(((), (), ("overwrite=true",))))
    if command == "sweep":
        words = ("train", "-m", *words[1:], "seed=0,1")
    return words, {run} if run == store.stopped else {store.done, store.parent}


def _may_go(store: Store, files: Mapping[str, Content]) -> set[str]:
    """The runs, and what has a name of a run and no record that says otherwise."""
    folders = {path.rpartition("/")[0] for path in files}
    records = {content for path, content in store.files.items() if path.endswith("/config.yaml")}
    named = {folder for folder in folders if RUN.fullmatch(folder)}
    return {*store.runs, *(folder for folder in named if files.get(f"{folder}/config.yaml") not in records)}
