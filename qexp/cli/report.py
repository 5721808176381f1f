"""`qexp report`: one HTML file for a run, for a selection of runs, for a sweep, for a table."""

import argparse
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import qexp
from qexp.cli.parser import Parser
from qexp.cli.targets import check_replaceable, target_of
from qexp.config.compose import composing
from qexp.config.places import check_config_dir, conf_dir, store_root
from qexp.config.schema import Invalid
from qexp.config.trust import trust_words
from qexp.experiment.checkout import git_state
from qexp.report.page_content import Content
from qexp.report.page_html import as_html, is_page
from qexp.report.page_runs import Origin, page_of_runs
from qexp.report.page_table import page_of_table
from qexp.report.page_words import spelled
from qexp.runs import query
from qexp.runs.query import Entry
from qexp.runs.run_values import named_states
from qexp.tables import OWN, TableRequest, find_table, join, protocol_named, seeds_named, table_names
from qexp.utils import atomic
from qexp.utils.errors import UsageError
from qexp.utils.text import plural, printable, size

DESCRIPTION = (
    "Write one HTML file about a run, a selection of runs, or a table: for a reader without qexp or a network."
)
EXAMPLES = """\
examples:
  qexp report ihlhmgdn                            a run, by its hash or directory: report-ihlhmgdn.html
  qexp report digits bits=2,4 --to sweep.html     all that `qexp runs digits bits=2,4` lists
  qexp report cifar10 --state done,diverged
  qexp report dqa/1                               a paper's table, with its runs: report-dqa-1.html
  qexp report dqa/1 --protocol short --seeds 0,1,2 --rows 'c10_*'

The page loads nothing and runs nothing but its own script. A file that is no such page is not overwritten.
"""
OF_PLACES = ("--to", "--runs-dir")
MOST_RUNS = 1000  # on a page


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Write the page and say where it is; return the exit code."""
    arguments = _arguments(words)
    stores = [word.removeprefix("runs_dir=") for word in arguments.words if word.startswith("runs_dir=")]
    root = store_root((stores or [arguments.runs_dir])[-1])
    folders = [conf_dir() / "paper"]
    if arguments.config_dir is not None:
        folders.append(Path(arguments.config_dir) / "paper")
    table = _table_in(arguments.words, folders, root)
    _check_flags(arguments, is_table=table is not None)
    if arguments.to is not None:
        _target(arguments.to)
    origin = Origin(root, _made(words), arguments.config_dir)
    if table is not None:
        content, name = _of_table(table, folders, arguments, origin), table.replace("/", "-")
    else:
        content, name = _of_runs(arguments, origin)
    path = _target(arguments.to or f"report{name and f'-{name}'}.html")
    page = as_html(content)
    atomic.write(path, page)
    print(f"{printable(str(path))}: {printable(content.title)}, {size(len(page))}")
    return 0


def _target(text: str) -> Path:
    """Return where a page is to lie; raise UsageError where it cannot."""
    path = target_of(text, ("html",))
    check_replaceable(path, is_page, "qexp report")
    return path


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = Parser("qexp report", DESCRIPTION, epilog=EXAMPLES)
    what = "a run, words and filters as `qexp runs` takes them, or a table with options of qexp train"
    parser.add_argument("words", nargs="*", metavar="WHAT", help=what)
    parser.add_argument(
        "--to", metavar="FILE.html", help="the file (default: report.html, with a run's or table's name)"
    )
    parser.add_argument("--state", metavar="STATE", help="runs in any of these states, with commas")
    parser.add_argument("--runs-dir", metavar="DIR", help="the run store (default: $QEXP_RUNS, else ./runs)")
    parser.add_argument("--protocol", metavar="NAME", help="of a table: paper (default), short or smoke")
    parser.add_argument("--rows", metavar="IDS", help="of a table: rows by id or pattern, comma-separated")
    parser.add_argument("--seeds", metavar="N,N", help="of a table: seeds of the runs (default: its own)")
    parser.add_argument("--config-dir", metavar="DIR", help="tables, methods, models, data sets of your own")
    arguments = parser.parse(words)
    check_config_dir(arguments.config_dir)
    if not arguments.words and arguments.state is None:
        parser.error("of what? a run, words as `qexp runs` takes them, or a table")
    return arguments


def _table_in(words: Sequence[str], folders: Sequence[Path], root: Path) -> str | None:
    """Return the table among the words, None where there is none.

    Raises:
        UsageError: there are several, or its name names runs as well, or another word stands beside it.
    """
    known = {name for folder in folders for name in table_names(folder)}
    found = [word for word in words if word in known]
    if not found:
        return None
    if others := [word for word in words if word not in found[:1] and "=" not in word]:
        raise UsageError(f"{found[0]} is a table, and stands alone with options of the form key=value; not {others[0]}")
    name = found[0]
    if query.is_run(Path(name)) or any(name in entry.name or name == entry.key for entry in query.entries(root)):
        raise UsageError(f"'{name}' is a table, and names runs in {root} as well; a run's hash or directory tells it")
    return name


def _check_flags(arguments: argparse.Namespace, *, is_table: bool) -> None:
    for flag in ("state",) if is_table else ("protocol", "rows", "seeds"):
        if getattr(arguments, flag) is not None:
            raise UsageError(f"--{flag} goes with {'runs, not with a table' if is_table else 'a table, not with runs'}")


def _made(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return what a page says of its making: the command without the places of this machine, version, commit, time."""
    told = [word for word in without_flags(words, OF_PLACES) if not word.startswith("runs_dir=")]
    state = git_state(Path(qexp.__file__).parent)
    commit = f", commit {state['commit']}{' with uncommitted changes' * bool(state['changes'])}" if state else ""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [
        ("command", shlex.join(["qexp", "report", *told])),
        ("made with", f"qexp {qexp.__version__}{commit}"),
        ("on", now),
    ]


def without_flags(words: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return words without some flags and what stands behind each."""
    found, skip = [], False
    for word in words:
        if skip or word in flags:
            skip = word in flags and not skip
        elif not word.startswith(tuple(f"{flag}=" for flag in flags)):
            found.append(word)
    return found


# Runs


def _of_runs(arguments: argparse.Namespace, origin: Origin) -> tuple[Content, str]:
    """Return the page of the runs that are asked for, and the name of a single one.

    Raises:
        UsageError: there are none, or too many.
    """
    found = _selected(origin.root, arguments.words, named_states(arguments.state))
    if not found:
        raise UsageError(f"no such runs in {origin.root} (qexp runs lists them)")
    if len(found) > MOST_RUNS:
        raise UsageError(f"{plural(len(found), 'run')}: a page takes at most {MOST_RUNS:,}; add words or filters")
    return page_of_runs(found, origin), found[0].key if len(found) == 1 else ""


def _selected(root: Path, words: Sequence[str], states: Sequence[str]) -> list[Entry]:
    """Return runs of the store; directories that hold runs may lie elsewhere."""
    if words and not states and all(query.is_run(Path(word)) for word in words):
        return [Entry(path) for path in dict.fromkeys(map(Path, words))]
    return query.select(root, words, states)[0]


# Tables


def _of_table(name: str, folders: Sequence[Path], arguments: argparse.Namespace, origin: Origin) -> Content:
    own = [] if arguments.config_dir is None else ["--config-dir", arguments.config_dir]
    overrides = tuple(word for word in arguments.words if word != name)
    if arguments.runs_dir is not None:
        overrides = (*overrides, f"runs_dir={spelled(arguments.runs_dir)}")
    request = TableRequest(
        arguments.rows, seeds_named(arguments.seeds), protocol_named(arguments.protocol or OWN), overrides
    )
    try:
        with composing(arguments.config_dir) as composer:
            joined = join(find_table(folders, name), name, request, composer)
    except Invalid as error:
        raise UsageError("; ".join(map(str, error.problems))) from error
    flags = [
        word
        for flag in ("protocol", "rows", "seeds")
        if (text := getattr(arguments, flag))
        for word in (f"--{flag}", text)
    ]
    return page_of_table(joined, ["qexp", "table", *own, *trust_words(), name, *overrides, *flags, "--run"], origin)
