"""`qexp table`: the papers' tables with our numbers in them."""

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from qexp import runs
from qexp.cli.parser import Parser
from qexp.cli.train import inspect
from qexp.config.config import Config, conf_dir, is_float
from qexp.config.schema import Invalid, suggest
from qexp.config.variants import Variants
from qexp.experiment.runner import Outcome, float_config, perform
from qexp.tables import data as tables
from qexp.tables.data import OWN
from qexp.tables.format import as_csv, as_markdown, as_text, comma_separated, grid, markdown
from qexp.tables.join import Request, View, view
from qexp.utils.errors import QexpError, UsageError

DESCRIPTION = "Print a paper's table with our numbers beside the published ones, and train what is missing."
EXAMPLES = """\
examples:
  qexp table                                       the tables
  qexp table dqa/1                                 one of them; ours are the finished runs in the run store
  qexp table dqa/1 --dry-run                       what is missing, how long it takes, and the command of each row
  qexp table dqa/1 --run --protocol short --rows 'c10_fp,c10_minmax*' --seeds 0,1,2
  qexp table dqa/1 --format md > table.md
"""
FORMATS = ("text", "md", "csv")


def main(words: Sequence[str], *, debug: bool = False, folder: Path | None = None) -> int:
    """Print, or train and print; return the exit code. `folder` holds the tables, by default those of qexp."""
    arguments = _arguments(words)
    folder = folder or conf_dir() / "paper"
    names = [word for word in arguments.words if "=" not in word]
    overrides = tuple(word for word in arguments.words if "=" in word)
    request = Request(arguments.rows, _seeds(arguments.seeds), _protocol(arguments.protocol), overrides)
    if len(names) > 1:
        raise UsageError(f"{' '.join(names)}: one table at a time; options have the form key=value")
    if not names and (arguments.run or arguments.dry_run or arguments.rows):
        raise UsageError(f"which table? there are {', '.join(tables.names(folder))}")
    try:
        return _one(folder, names[0], request, arguments, debug) if names else _all(folder, request, arguments.format)
    except Invalid as error:
        return _refuse(map(str, error.problems))


def _one(folder: Path, name: str, request: Request, arguments: argparse.Namespace, debug: bool) -> int:
    joined, failures = view(folder, name, request, Variants()), 0
    if (arguments.run or arguments.dry_run) and (problems := _check(joined, fetch=not arguments.dry_run)):
        return _refuse(problems)
    if arguments.dry_run:
        return _print_missing(joined)
    if arguments.run:
        failures = _run(joined, arguments.format, debug=debug)
        joined = view(folder, name, request, Variants())
    _print(joined, arguments.format)
    return 3 if failures else 0


def _refuse(problems: Iterable[str]) -> int:
    for problem in problems:
        print(f"qexp table: error: {problem}", file=sys.stderr)
    return UsageError.exit_code


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = Parser("qexp table", DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("words", nargs="*", metavar="TABLE or key=value", help="options of qexp train for every row")
    parser.add_argument("--rows", metavar="IDS", help="rows by id or pattern, comma-separated, such as 'c10_*'")
    parser.add_argument("--seeds", metavar="N,N", help="seeds of the runs (default: those of the table)")
    parser.add_argument("--protocol", default=OWN, metavar="NAME", help="paper (default), short or smoke")
    parser.add_argument("--format", default="text", metavar="NAME", help="text (default), md or csv")
    parser.add_argument("--run", action="store_true", help="train what is missing, one run after another")
    parser.add_argument("--dry-run", action="store_true", help="print what is missing, how long it takes, the commands")
    arguments = parser.parse(words)
    if arguments.format not in FORMATS:
        hint = suggest(arguments.format, FORMATS)
        raise UsageError(f"--format {arguments.format}: must be {', '.join(FORMATS)}{hint}")
    return arguments


def _seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    words = text.split(",")
    if not all(word.isascii() and word.isdigit() for word in words) or len(set(map(int, words))) < len(words):
        raise UsageError(f"--seeds {text}: must be different whole numbers, such as 0,1,2")
    return tuple(map(int, words))


def _protocol(name: str) -> str:
    known = tables.protocols()
    if name not in known:
        raise UsageError(f"--protocol {name}: no such protocol{suggest(name, known)}; there are {', '.join(known)}")
    return name


# Training what is missing


def _check(joined: View, *, fetch: bool) -> list[str]:
    """Return everything that would stop a run, one line each."""
    reasons: dict[str, list[str]] = {}
    for line in joined.lines:
        if line.reason:
            reasons.setdefault(line.reason, []).append(line.row.id)
    problems = [f"{reason}  [{', '.join(ids)}; --rows can leave them out]" for reason, ids in reasons.items()]
    jobs = [run.job for _, run in joined.missing()]
    return problems + (inspect(jobs, fetch=fetch, wrong=False) if jobs else [])


def _run(joined: View, format: str, *, debug: bool) -> int:
    """Train what is missing and return how many runs failed."""
    console = Console(stderr=format != "text")  # stdout is for the table
    missing, failures = joined.missing(), 0
    for number, (line, run) in enumerate(missing, start=1):
        console.print(f"\n{number}/{len(missing)}  {line.row.id}  {line.row.label}", highlight=False, markup=False)
        try:
            outcome = perform(run.config, console, debug=debug)
        except QexpError as error:
            outcome = Outcome("failed", str(run.path), message=str(error))
        if outcome.state in ("failed", "diverged"):
            failures += 1
            message = f"{line.row.id}, seed {run.config.seed}, {outcome.state}: {outcome.message}"
            print(f"qexp table: {message}  ({outcome.path})", file=sys.stderr, flush=True)
        elif outcome.state == "elsewhere":
            console.print(outcome.message, highlight=False, markup=False, soft_wrap=True)
    return failures


# Printing


def _print_missing(joined: View) -> int:
    """Print how many runs are missing, how long they take, and the command of each row."""
    missing = [run.config for _, run in joined.missing()]
    parents = _missing_parents(missing)
    count = len(missing) + len(parents)
    if not count:
        print(f"{joined.name}: nothing is missing")
        return 0
    from qexp.tables.estimate import duration, estimates  # imports torch

    found = estimates([*parents, *missing])
    floats = f", {len(parents)} of them float nets that others start from" if parents else ""
    total = duration(sum(one.seconds for one in found))
    print(f"{joined.name}: {_runs(count)} missing{floats}; about {total} one after another")
    for one in found:
        speed = f"{one.speed.images_per_second:,.0f} images/s, {one.speed.origin}"
        print(f"  {one.what}: {_runs(one.count)}, about {duration(one.seconds)} ({speed})")
    for line in joined.lines:
        if own := [run for other, run in joined.missing() if other is line]:
            print(f"\n# {line.row.id}: {line.row.label}")
            print(_command(own[0].job.overrides, [run.config.seed for run in own]))
    return 0


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _missing_parents(configs: Sequence[Config]) -> list[Config]:
    """Return the float runs that have to be trained besides `configs`, each once."""
    known = {runs.run_directory(config) for config in configs}
    parents = {}
    for config in configs:
        if config.init == "fp" and not is_float(config.raw):
            parent = float_config(config)
            path = runs.run_directory(parent)
            if path not in known and runs.state_of(path) != "done":
                parents[path] = parent
    return list(parents.values())


def _command(words: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the `qexp train` that does one row, to be pasted into a shell."""
    kept = [word for word in words if not word.startswith("seed=")]
    flag = ["-m"] if len(seeds) > 1 else []
    return shlex.join(["qexp", "train", *flag, *kept, f"seed={','.join(map(str, seeds))}"])


def _all(folder: Path, request: Request, format: str) -> int:
    """Print the names of all tables and how many of their rows are done."""
    headers, numeric = ["table", "title", "rows", "done", "citation"], ["rows", "done"]
    rows, variants = [], Variants()
    for name in tables.names(folder):
        joined = view(folder, name, request, variants)
        done = sum(line.state == "done" for line in joined.lines)
        rows.append([name, joined.table.title, str(len(joined.lines)), str(done), joined.table.citation])
    if format == "csv":
        print(comma_separated(headers, rows))
    elif format == "md":
        print(markdown(headers, rows, numeric))
    else:
        _console().print(grid(headers, rows, numeric))
    return 0


def _print(joined: View, format: str) -> None:
    if format == "csv":
        print(as_csv(joined))
    elif format == "md":
        print(as_markdown(joined))
    else:
        above, table, below = as_text(joined)
        print(above)
        _console().print(table)
        print(below)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False)
