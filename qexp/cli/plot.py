"""`qexp plot`: one figure as SVG, PDF or PNG, with the numbers behind it as CSV beside it."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Literal, cast

import qexp
from qexp.cli.parser import Parser
from qexp.cli.targets import check_replaceable, end_of, target_of
from qexp.config.places import store_root
from qexp.experiment.checkout import git_state
from qexp.figures import FORMATS, check_installed, is_drawn, is_numbers, numbers_csv, render
from qexp.report.catalogue import FIGURES, Figure, Request, figure, make_chart
from qexp.runs.query import entries
from qexp.utils import atomic
from qexp.utils.errors import UsageError
from qexp.utils.text import few, one_line, printable, suggest

USAGE = "qexp plot FIGURE [WORD ...] [key=value ...] [--to FILE] [--runs-dir DIR] [--data-dir DIR] [--config-dir DIR]"
EXAMPLES = """\
WORDS are those that the figure takes: RUNS are selected as by `qexp runs` (words of their path, hashes, key=value), a
RUN is named by its directory or the beginning of its hash. A key that is an option of the figure is one; any other
key=value selects runs. The end of FILE says what is drawn: .svg, .pdf or .png; beside it is written FILE.csv with all
numbers. Without --to it is FIGURE-WORDS.svg in this folder. A file that is no figure of qexp's is never replaced.

examples:
  qexp plot curves digits bits=2                 one line per method, with a band where there are several seeds
  qexp plot bits digits x=size --to size.pdf     accuracy against the size of the weights
  qexp plot layers ihlhmgdn --to layers.png
"""
MOST_LETTERS = 80  # of a name that is made of words


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Draw what is asked for; return the exit code."""
    parser = Parser("qexp plot", "Draw a figure.", usage=USAGE, epilog=f"{_listed()}\n\n{EXAMPLES}")
    parser.add_argument("words", nargs="*", metavar="FIGURE", help="one of those below, and what it takes")
    parser.add_argument("--to", metavar="FILE", help="the file, whose end says the format: .svg, .pdf, .png")
    parser.add_argument("--runs-dir", metavar="DIR", help="the run store (default: $QEXP_RUNS, else ./runs)")
    parser.add_argument("--data-dir", metavar="DIR", help="the data sets (default: $QEXP_DATA, else ./data)")
    parser.add_argument("--config-dir", metavar="DIR", help="your own options, for the methods of transfer")
    arguments = parser.parse(words)
    if not arguments.words:
        raise UsageError(f"which figure? {', '.join(one.name for one in FIGURES)} (qexp plot --help)")
    name, *rest = arguments.words
    asked = figure(name)
    root = store_root(arguments.runs_dir)
    request = replace(_request(asked, rest, root, arguments.data_dir), config_dir=arguments.config_dir)
    target = _target(arguments.to, arguments.words)
    check_installed()
    made = make_chart(name, request)
    kind = cast(Literal["svg", "pdf", "png"], end_of(target))
    own = [] if arguments.config_dir is None else ["--config-dir", arguments.config_dir]
    content = render(made, kind, source=figure_source([*arguments.words, *own])).content
    numbers = target.with_suffix(".csv")
    atomic.write_together({target: content, numbers: numbers_csv(made).encode()})
    print(f"drawn: {printable(str(target))}, its numbers: {printable(str(numbers))}")
    return 0


def _listed() -> str:
    """Return a line for each figure, and one for each of their options."""
    lines = ["figures:"]
    for one in FIGURES:
        takes = "" if one.takes == "nothing" else one.takes
        lines.append(f"  {f'{one.name} {takes}':<22} {one.summary}")
        lines += [f"  {'':<22}   {key}=  {meaning}" for key, meaning in one.options.items()]
    return "\n".join(lines)


def _request(asked: Figure, words: Sequence[str], root: Path, data_dir: str | None) -> Request:
    """Return what is to be drawn: the options of the figure among the words, and the rest."""
    options, rest = dict[str, str](), list[str]()
    for word in words:
        key, sign, value = word.partition("=")
        if sign and key in asked.options:
            if key in options:
                raise UsageError(f"{one_line(word)}: {key} is given twice")
            options[key] = value
        else:
            rest.append(word)
            if sign:
                _check_filter(asked, key, root)
    if asked.takes == "nothing" and rest:
        raise UsageError(f"{asked.name} takes no words, but was given {few(map(one_line, rest))}")
    return Request(rest, options, root, data_dir)


def _check_filter(asked: Figure, key: str, root: Path) -> None:
    """Raise UsageError where a key is no option, and cannot be a filter of runs: a misspelt option for one."""
    hint = suggest(key, asked.options)
    if asked.takes in ("RUN", "RUNS", "RUN or random"):
        if not hint or any(entry.values(key) for entry in entries(root)):
            return  # what is wrong with a filter is told where runs are selected
        raise UsageError(f"'{one_line(key)}': is no option of {asked.name}, and no run in {root} has it{hint}")
    known = f"; it has {', '.join(asked.options)}" if asked.options else "; it has none"
    raise UsageError(f"'{one_line(key)}': is no option of {asked.name}{hint or known}")


def figure_source(words: Sequence[str]) -> dict[str, str]:
    """Return what a figure says of itself: the command without the places of this machine, and the commit of qexp.

    Args:
        words: behind `qexp plot`.
    """
    state = git_state(Path(qexp.__file__).parent)
    commit = f"qexp {qexp.__version__}, commit not known"
    if state:
        commit = state["commit"] + (" with uncommitted changes" if state["changes"] else "")
    return {"command": printable(shlex.join(["qexp", "plot", *words])), "commit": commit}


# Where it is written


def _target(text: str | None, words: Sequence[str]) -> Path:
    """Return where a figure is to lie; raise UsageError where it, or its numbers, cannot lie there."""
    target = target_of(f"{file_name(words)}.svg" if text is None else text, FORMATS)
    check_replaceable(target, lambda content: is_drawn(content, end_of(target)), "qexp plot")
    check_replaceable(target.with_suffix(".csv"), is_numbers, "qexp plot")
    return target


def file_name(words: Sequence[str]) -> str:
    """Return a name for a file that is made of words, which may hold anything: `curves-digits-bits=2`.

    Of a path the last part is taken; what is no plain letter, digit or one of . _ + = , - becomes a -.
    """
    parts = [re.sub(r"[^A-Za-z0-9._+=,-]+", "-", word.rstrip("/").rpartition("/")[2]).strip("-") for word in words]
    name = "-".join(filter(None, parts))
    if len(name) <= MOST_LETTERS:
        return name
    digest = sha256("\0".join(words).encode(errors="replace")).hexdigest()[:8]
    return f"{name[:MOST_LETTERS]}-{digest}"
