"""`qexp table`: the papers' tables with our numbers in them."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from qexp.cli.board import showing
from qexp.cli.checks import check_jobs
from qexp.cli.parser import Parser
from qexp.cli.progress import plan_of
from qexp.cli.text import folded, grid
from qexp.config.compose import composing
from qexp.config.places import conf_dir
from qexp.config.schema import Invalid
from qexp.config.trust import trust_words
from qexp.experiment.runner import FAILED, RunOutcome, run_experiment
from qexp.tables import (
    OWN,
    JoinedTable,
    TableRequest,
    around,
    as_csv,
    as_markdown,
    cells,
    find_table,
    join,
    missing_runs,
    protocol_named,
    seeds_named,
    table_names,
    time_needed,
)
from qexp.utils.errors import Interrupted, QexpError, UsageError
from qexp.utils.formats import comma_separated, markdown
from qexp.utils.printing import say
from qexp.utils.text import suggest

DESCRIPTION = "Print a paper's table with our numbers beside the published ones, and train what is missing."
EXAMPLES = """\
examples:
  qexp table                                       the tables
  qexp table dqa/1                                 one of them; ours are the finished runs in the run store
  qexp table dqa/1 --dry-run                       what is missing, how long it takes, and the command of each row
  qexp table dqa/1 --run --protocol short --rows 'c10_fp,c10_minmax*' --seeds 0,1,2
  qexp table dqa/1 --format md > table.md
  qexp table --config-dir conf trust=my_package mine/1 --run     conf/paper/mine/1.yaml, of methods of your own
"""
FORMATS = ("text", "md", "csv")


def main(words: Sequence[str], *, debug: bool = False, folder: Path | None = None) -> int:
    """Print, or train and print; return the exit code. `folder` holds the tables, by default those of qexp."""
    arguments = _arguments(words)
    folders = [folder or conf_dir() / "paper"]
    if arguments.config_dir is not None:
        folders.append(Path(arguments.config_dir) / "paper")
    names = [word for word in arguments.words if "=" not in word]
    overrides = tuple(word for word in arguments.words if "=" in word)
    request = TableRequest(arguments.rows, seeds_named(arguments.seeds), protocol_named(arguments.protocol), overrides)
    if len(names) > 1:
        raise UsageError(f"{' '.join(names)}: one table at a time; options have the form key=value")
    if not names and (arguments.run or arguments.dry_run or arguments.rows):
        raise UsageError(f"which table? there are {', '.join(known for one in folders for known in table_names(one))}")
    try:
        return _one(folders, names[0], request, arguments, debug) if names else _all(folders, request, arguments)
    except Invalid as error:
        return _refuse(map(str, error.problems))


def _one(folders: Sequence[Path], name: str, request: TableRequest, arguments: argparse.Namespace, debug: bool) -> int:
    joined, failures = _joined(folders, name, request, arguments.config_dir), 0
    if (arguments.run or arguments.dry_run) and (problems := _check(joined, fetch=not arguments.dry_run)):
        return _refuse(problems)
    if arguments.dry_run:
        own = [] if arguments.config_dir is None else ["--config-dir", arguments.config_dir]
        return _dry_run(joined, [*own, *trust_words()])
    if arguments.run:
        failures = _run(joined, arguments.format, debug=debug)
        print(end="\n" if arguments.format == "text" else "")
        joined = _joined(folders, name, request, arguments.config_dir)
    _print(joined, arguments.format)
    return 3 if failures else 0


def _dry_run(joined: JoinedTable, flags: Sequence[str]) -> int:
    """Print what is missing; the commands too where somebody does not wait until all speeds are measured."""

    def tell(line: str) -> None:
        if sys.stderr.isatty():
            print(f"qexp table: {line}", file=sys.stderr, flush=True)

    try:
        times = time_needed(joined, tell)
    except (KeyboardInterrupt, Interrupted):
        print(missing_runs(joined, flags))
        raise
    print(missing_runs(joined, flags, times))
    return 0


def _joined(folders: Sequence[Path], name: str, request: TableRequest, config_dir: str | None) -> JoinedTable:
    with composing(config_dir) as composer:
        return join(find_table(folders, name), name, request, composer)


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
    parser.add_argument("--config-dir", metavar="DIR", help="tables, methods, models, data sets of your own: DIR/paper")
    parser.add_argument("--run", action="store_true", help="train what is missing, one run after another")
    parser.add_argument("--dry-run", action="store_true", help="print what is missing, how long it takes, the commands")
    arguments = parser.parse(words)
    if arguments.format not in FORMATS:
        hint = suggest(arguments.format, FORMATS)
        raise UsageError(f"--format {arguments.format}: must be {', '.join(FORMATS)}{hint}")
    if arguments.config_dir == "":
        raise UsageError("--config-dir: names nothing")
    return arguments


# Training what is missing


def _check(joined: JoinedTable, *, fetch: bool) -> list[str]:
    """Return everything that would stop a run, one line each."""
    reasons: dict[str, list[str]] = {}
    for line in joined.lines:
        if line.reason:
            reasons.setdefault(line.reason, []).append(line.row.id)
    problems = [f"{reason}  [{', '.join(ids)}; --rows can leave them out]" for reason, ids in reasons.items()]
    jobs = [run.job for _, run in joined.missing()]
    return problems + (check_jobs(jobs, fetch=fetch, wrong=False)[1] if jobs else [])


def _run(joined: JoinedTable, format: str, *, debug: bool) -> int:
    """Train what is missing and return how many runs failed."""
    missing, failures = joined.missing(), 0
    plan = plan_of([run.config for _, run in missing], [line.row.id for line, _ in missing])
    names = [f"{line.row.id} seed {run.config.seed}" for line, run in missing]
    with showing(plan, names, stderr=format != "text") as shown:  # stdout is for the table
        for number, (line, run) in enumerate(missing):
            shown.begin(number, run.config)
            try:
                outcome = run_experiment(run.config, shown.console, debug=debug)
            except QexpError as error:
                outcome = RunOutcome("failed", str(run.path), message=str(error))
            if outcome.state in FAILED:
                failures += 1
                message = f"{line.row.id}, seed {run.config.seed}, {outcome.state}: {outcome.message}"
                print(f"qexp table: {message}  ({outcome.path})", file=sys.stderr, flush=True)
            elif outcome.state == "locked":
                say(shown.console, outcome.message)
            shown.end(outcome)
    return failures


# Printing


def _all(folders: Sequence[Path], request: TableRequest, arguments: argparse.Namespace) -> int:
    """Print the names of all tables and how many of their rows are done."""
    headers, numeric = ["table", "title", "rows", "done", "citation"], ["rows", "done"]
    rows, format = [], arguments.format
    with composing(arguments.config_dir) as composer:
        for folder, name in [(one, name) for one in folders for name in table_names(one)]:
            joined = join(folder, name, request, composer)
            done = sum(line.state == "done" for line in joined.lines)
            rows.append([name, joined.table.title, str(len(joined.lines)), str(done), joined.table.citation])
    if format == "csv":
        print(comma_separated(headers, rows))
    elif format == "md":
        print(markdown(headers, rows, numeric))
    else:
        print(grid(headers, rows, numeric))
    return 0


def _print(joined: JoinedTable, format: str) -> None:
    if format == "csv":
        print(as_csv(joined))
    elif format == "md":
        print(as_markdown(joined))
    else:
        above, below = around(joined)
        above, below = ("\n".join(folded(line, 4) for line in text.split("\n")) for text in (above, below))
        print("\n".join((above, grid(*cells(joined)), below)))
