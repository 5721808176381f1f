"""The page of a paper's table: the published numbers, ours beside them, and the runs behind these."""

import shlex
from collections.abc import Sequence

from qexp.figures import Chart, Dots
from qexp.figures.chart import Panel
from qexp.report.page_charts import figures_of
from qexp.report.page_content import (
    Cell,
    Commands,
    Content,
    Facts,
    Folded,
    Lines,
    PageSection,
    PageTable,
    Part,
    Picture,
    Tone,
)
from qexp.report.page_rows import environment_part, means_table, runs_table
from qexp.report.page_runs import Origin, in_common
from qexp.report.page_warnings import warned
from qexp.runs.query import Entry, is_run
from qexp.runs.run_values import listed_runs
from qexp.runs.stored_trees import StoredTrees
from qexp.tables.format import cells, missing_runs, notes
from qexp.tables.join import JoinedTable, Line
from qexp.utils.text import plural

_PLACES = ("runs_dir=", "data_dir=")  # words that another machine has no use for
_TONES: dict[str, Tone] = {"done": "soft", "not run": "soft", "failed": "bad", "diverged": "bad", "cannot run": "bad"}


def page_of_table(joined: JoinedTable, command: Sequence[str], origin: Origin) -> Content:
    """Return the page of a table.

    Args:
        joined: the table with its runs.
        command: that trains what is missing.
        origin: of the page.
    """
    runs = listed_runs(_entries(joined))
    told = {heading: [origin.clean(line) for line in lines] for heading, lines in notes(joined).items()}
    result: list[Part] = [_rows(joined), *([Lines(told.pop("notes"))] if "notes" in told else [])]
    figures = [*_overview(joined), *(figures_of(runs, means_table(runs)[1]) if runs else [])]
    sections = [
        PageSection("Results", result),
        *([PageSection("Figures", figures)] if figures else []),
        *([PageSection("Problems", [Lines(told.pop("problems"))])] if "problems" in told else []),
        *(PageSection(f"{heading[0].upper()}{heading[1:]}", [_as_facts(lines)]) for heading, lines in told.items()),
        PageSection("What was run", [*_commands(joined, command, origin), *(in_common(runs) if runs else [])]),
        *(
            [PageSection("Runs", [runs_table(runs)]), PageSection("Environment", [environment_part(runs)])]
            if runs
            else []
        ),
    ]
    subtitle = f"{joined.table.citation}, protocol {joined.protocol}"
    title = f"{joined.name}: {joined.table.title}"
    return Content(title, subtitle, _key_numbers(joined), warned(runs, origin.clean), sections, origin.source)


def _entries(joined: JoinedTable) -> list[Entry]:
    paths = dict.fromkeys(run.path for line in joined.lines for run in line.runs)
    trees = StoredTrees()
    return [Entry(path, trees) for path in paths if is_run(path)]


def _key_numbers(joined: JoinedTable) -> list[tuple[str, str]]:
    lines = [line for line in joined.lines if line.runs]
    found = [("rows", str(len(joined.lines))), ("with a number", str(sum(line.mean is not None for line in lines)))]
    missing = sum(len(line.missing) for line in lines)
    found += [("runs", str(sum(len(line.runs) for line in lines))), *([("missing", str(missing))] if missing else [])]
    points = [points for line in lines if (points := joined.difference(line)) is not None]
    if points and joined.is_own:
        found.append(("ours − paper", f"{min(points):+.2f} to {max(points):+.2f}"))
    return found


def _rows(joined: JoinedTable) -> PageTable:
    """Return the table as `qexp table` prints it, with the numbers that it is sorted by."""
    headers, texts, _ = cells(joined)
    rows = []
    for line, own in zip(joined.lines, texts, strict=True):
        values = {
            "paper": line.row.reported.top1,
            "ours": line.mean,
            "n": len(line.accuracies) if line.runs else None,
            headers[-2]: joined.difference(line),
        }
        row = [Cell(text, values.get(name)) for name, text in zip(headers, own, strict=True)]
        rows.append([*row[:-1], Cell(own[-1], tone=_TONES.get(own[-1], ""))])
    return PageTable("rows", ["row", "method", *headers[2:]], rows)


def _overview(joined: JoinedTable) -> list[Part]:
    """Return our numbers beside the published ones, row by row, where both are of the same protocol."""
    lines = [line for line in joined.lines if line.mean is not None]
    if not lines:
        return []
    places = [float(at) for at in range(len(lines))]
    marks = _ours(lines, places)
    if joined.is_own:
        known = [(at, line.row.reported.top1) for at, line in zip(places, lines, strict=True)]
        shown = [(at, top1) for at, top1 in known if top1 is not None]
        marks.insert(0, Dots("paper", [at for at, _ in shown], [top1 for _, top1 in shown], is_hollow=True))
    names = {at: line.row.id for at, line in zip(places, lines, strict=True)}
    panel = Panel("top-1 of each row", "row", "percent", marks, x_names=names)
    said = [] if joined.is_own else [f"Protocol {joined.protocol}: the paper's numbers are not beside them."]
    return [Picture(Chart("Ours and the paper's" if joined.is_own else "Ours", [panel]), said)]


def _ours(lines: Sequence[Line], places: Sequence[float]) -> list[Dots]:
    """Return a dot for each row, and around means of several runs a standard deviation on either side."""
    marks = []
    for at, line in zip(places, lines, strict=True):
        if line.mean is not None:
            low, high = (None if line.std is None else [line.mean + sign * line.std] for sign in (-1, 1))
            marks.append(Dots("ours", [at], [line.mean], low, high, [line.row.label]))
    return marks


def _as_facts(lines: Sequence[str]) -> Part:
    """Return lines of the form `epochs: 150` as names and values, others as they are."""
    pairs = [line.partition(": ") for line in lines]
    is_named = all(sign and len(name) < 24 for name, sign, _ in pairs)
    return Facts([(name, value) for name, _, value in pairs]) if is_named else Lines(lines)


def _commands(joined: JoinedTable, command: Sequence[str], origin: Origin) -> list[Part]:
    own = [word for word in command if not word.startswith(_PLACES)]
    parts: list[Part] = [Commands([("trains what is missing, and prints the table", shlex.join(own))])]
    if joined.missing():
        lines = [_without_places(line) for line in missing_runs(joined).split("\n")]
        title = f"the command of each row with {plural(len(joined.missing()), 'missing run')}"
        parts.append(Folded(title, origin.clean("\n".join(lines))))
    return parts


def _without_places(line: str) -> str:
    """Return a command without the folders of this machine, any other line as it is."""
    if not line.startswith("qexp train "):
        return line
    return shlex.join(word for word in shlex.split(line) if not word.startswith(_PLACES))
