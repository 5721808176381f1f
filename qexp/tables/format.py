"""How a paper's table looks with our numbers in it: as text, as a table for GitHub, as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich import box
from rich.table import Table as Grid

from qexp import runs
from qexp.tables.data import OWN, Row, protocol_values
from qexp.tables.join import Line, View

UNSETTLED = (
    "* in a run the attention of some quantizers did not end at the lowest bit-width; the hard accuracy is of a "
    "network that training did not converge to"
)


def grid(headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str]) -> Grid:
    """Return a table for the terminal; columns that `numeric` names are aligned to the right."""
    table = Grid(box=box.SIMPLE_HEAD)
    for name in headers:
        table.add_column(name, justify="right" if name in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str]) -> str:
    """Return a table as GitHub reads it."""
    rules = ["---:" if name in numeric else "---" for name in headers]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in row) + " |"
        for row in (headers, rules, *rows)
    )


def comma_separated(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as CSV; None is an empty cell."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([headers, *rows])
    return out.getvalue().rstrip("\n")


def cells(view: View) -> tuple[list[str], list[list[str]], list[str]]:
    """Return (headers, rows, numeric headers) for people."""
    difference = "ours - paper" if view.is_own else "ours - float"
    headers = ["row", "", "paper", "ours", "n", difference, "state"]
    rows = []
    for line in view.lines:
        points = view.difference(line)
        ours = "-" if line.mean is None else _with_std(f"{line.mean:.2f}", line.std) + "*" * line.unsettled
        count = str(len(line.accuracies)) if line.runs else "-"
        shown = "-" if points is None else f"{round(points, 2) + 0.0:+.2f}"  # + 0.0: no negative zero
        rows.append([line.row.id, line.row.label, _paper(line.row), ours, count, shown, line.state])
    return headers, rows, ["paper", "ours", "n", difference]


def _paper(row: Row) -> str:
    """Return a published number as printed: `69.9 (89.1)` has a top-5."""
    reported = row.reported
    if reported.top1 is None:
        return "unknown"
    top1 = str(reported.top1) + ("" if reported.std is None else f" ± {reported.std}")
    return top1 + ("" if reported.top5 is None else f" ({reported.top5})")


def _with_std(mean: str, std: float | None) -> str:
    return mean if std is None else f"{mean} ± {std:.2f}"


def records(view: View) -> tuple[list[str], list[list[object]]]:
    """Return (headers, rows) for programs: numbers unrounded, None where there is none."""
    headers = ["table", "row", "label", "paper_top1", "paper_top5", "paper_std", "paper_runs"]
    headers += [
        "top1",
        "std",
        "runs",
        "difference",
        "difference_to",
        "unsettled",
        "state",
        "protocol",
        "note",
        "source",
    ]
    rows: list[list[object]] = []
    for line in view.lines:
        row, points = line.row, view.difference(line)
        to = None if points is None else "paper" if view.is_own else "float"
        reported = row.reported
        paper = [reported.top1, reported.top5, reported.std, reported.runs]
        ours = [line.mean, line.std, len(line.accuracies), points, to, int(line.unsettled)]
        state = f"{line.state}: {line.reason}" if line.reason else line.state
        words = [state, view.protocol, row.note, row.source or view.table.source]
        rows.append([view.name, row.id, row.label, *paper, *ours, *words])
    return headers, rows


def notes(view: View) -> Mapping[str, list[str]]:
    """Return heading -> lines of what belongs below the table."""
    rows = [line.row for line in view.lines]
    remarks = [UNSETTLED] if any(line.unsettled for line in view.lines) else []
    remarks += [f"{row.id}: {row.note}" for row in rows if row.note]
    remarks += [f"{row.id}: from {row.source}" for row in rows if row.source]
    protocol = [f"{key.replace('_', ' ')}: {value}" for key, value in asdict(view.table.protocol).items()]
    sections = {
        "notes": remarks,
        "problems": _problems(view.lines),
        "the paper's protocol": [*protocol, f"numbers from: {view.table.source}"],
        "our runs": [*_ours(view), *view.table.differences],
    }
    return {heading: lines for heading, lines in sections.items() if lines}


def _problems(lines: Sequence[Line]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for line in lines:
        if line.reason:
            reasons.setdefault(line.reason, []).append(line.row.id)
    found = [f"cannot run: {reason}  ({', '.join(ids)})" for reason, ids in reasons.items()]
    for line in lines:
        for run in line.runs:
            if run.state in ("failed", "diverged"):
                found.append(f"{line.row.id}, seed {run.config.seed}, {run.state}: {run.message}  ({run.path})")
    return found


def _ours(view: View) -> list[str]:
    seeds = ", ".join(map(str, view.seeds))
    lines = [
        f"top-1 of the last epoch in percent, evaluated hard; mean ± sample standard deviation of n; seeds {seeds}"
    ]
    values = {} if view.protocol == OWN else protocol_values(view.protocol)
    changes = [*(f"{key}={value}" for key, value in values.items()), *view.changes]
    if not view.is_own:
        lines.append(f"protocol {view.protocol}: {' '.join(changes)}; these numbers compare with each other only")
    return lines + [f"trained with {machine}" for machine in _machines(view.lines)]


def _machines(lines: Sequence[Line]) -> list[str]:
    """Return on what the finished runs were obtained, each once."""
    found: dict[str, None] = {}
    for run in (run for line in lines for run in line.runs if run.summary):
        known = runs.read_json(run.path / "env.json")
        if known:
            torch = known.get("versions", {}).get("torch", "?")
            found[f"qexp {known.get('qexp', '?')}, torch {torch} on {known.get('device_name', '?')}"] = None
    return list(found)


def as_csv(view: View) -> str:
    """Return the table for programs."""
    return comma_separated(*records(view))


def as_markdown(view: View) -> str:
    """Return the table and what belongs below it, for a file in a repository."""
    parts = [f"### {view.name}: {view.table.title}", view.table.citation, markdown(*cells(view))]
    for heading, lines in notes(view).items():
        parts.append("\n".join([f"{heading[0].upper()}{heading[1:]}:", "", *(f"- {_escaped(line)}" for line in lines)]))
    return "\n\n".join(parts)


def _escaped(line: str) -> str:
    return line.replace("*", "\\*")


def as_text(view: View) -> tuple[str, Grid, str]:
    """Return what comes before the table, the table, and what comes after it."""
    below = []
    for heading, lines in notes(view).items():
        below += [heading, *(f"  {line}" for line in lines)]
    return f"{view.name}  {view.table.title}\n{view.table.citation}", grid(*cells(view)), "\n".join(below)
