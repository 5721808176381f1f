"""How a paper's table looks with our numbers in it: as text, as a table for GitHub, as CSV."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from qexp import runs
from qexp.config.config import Config, float_parent_of
from qexp.runs.measured_bits import MEANS
from qexp.tables.join import FIRM, JoinedTable, Line
from qexp.tables.published import OWN, Row, protocol_values
from qexp.utils.formats import comma_separated, markdown
from qexp.utils.text import NOT_CONVERGED, plural, time_span

if TYPE_CHECKING:  # imports torch
    from qexp.tables.duration import Estimate

UNFIRM = "†"
OTHER_RECIPE = "‡"


def cells(joined: JoinedTable) -> tuple[list[str], list[list[str]], list[str]]:
    """Return (headers, rows, numeric headers) for people."""
    difference = "ours - paper" if joined.is_own else "ours - float"
    own_bits = ["bits"] if any(line.bits for line in joined.lines) else []  # of networks with layers of several widths
    headers = ["row", "", *own_bits, "paper", "ours", "n", difference, "state"]
    rows = []
    for line in joined.lines:
        points = joined.difference(line)
        marks = "*" * line.is_unconverged + UNFIRM * joined.hangs_on_rounding(line)
        marks += OTHER_RECIPE * bool(line.float_changes)
        ours = "-" if line.mean is None else _with_std(f"{line.mean:.2f}", line.std) + marks
        count = str(len(line.accuracies)) if line.runs else "-"
        shown = "-" if points is None else f"{round(points, 2) + 0.0:+.2f}"  # + 0.0: no negative zero
        bits = [line.bits.label if line.bits else "-"] if own_bits else []
        rows.append([line.row.id, line.row.label, *bits, _paper(line.row), ours, count, shown, line.state])
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


def records(joined: JoinedTable) -> tuple[list[str], list[list[object]]]:
    """Return (headers, rows) for programs: numbers unrounded, None where there is none."""
    headers = ["table", "row", "label", "paper_top1", "paper_top5", "paper_std", "paper_runs"]
    headers += [
        "top1",
        "std",
        "runs",
        "difference",
        "difference_to",
        "unsettled",
        "spread",
        "unfirm",
        *MEANS,
        "state",
        "protocol",
        "note",
        "source",
    ]
    rows: list[list[object]] = []
    for line in joined.lines:
        row, points = line.row, joined.difference(line)
        to = None if points is None else "paper" if joined.is_own else "float"
        reported = row.reported
        paper = [reported.top1, reported.top5, reported.std, reported.runs]
        ours = [line.mean, line.std, len(line.accuracies), points, to, int(line.is_unconverged)]
        firmness = [line.spread, int(joined.hangs_on_rounding(line)), *(line.bits.means if line.bits else (None, None))]
        state = f"{line.state}: {line.reason}" if line.reason else line.state
        words = [state, joined.protocol, row.note, row.source or joined.table.source]
        rows.append([joined.name, row.id, row.label, *paper, *ours, *firmness, *words])
    return headers, rows


def notes(joined: JoinedTable) -> Mapping[str, list[str]]:
    """Return heading -> lines of what belongs below the table."""
    rows = [line.row for line in joined.lines]
    remarks = (
        [f"* in a run some quantizers did not end at the lowest bit-width; {NOT_CONVERGED}"]
        if any(line.is_unconverged for line in joined.lines)
        else []
    )
    remarks += _unfirm(joined) + _of_other_recipes(joined)
    remarks += [f"{row.id}: {row.note}" for row in rows if row.note]
    remarks += [f"{row.id}: from {row.source}" for row in rows if row.source]
    protocol = [f"{key.replace('_', ' ')}: {value}" for key, value in asdict(joined.table.protocol).items()]
    sections = {
        "notes": remarks,
        "problems": _problems(joined.lines),
        "the paper's protocol": [*protocol, f"numbers from: {joined.table.source}"],
        "our runs": [*_ours(joined), *joined.table.differences],
    }
    return {heading: lines for heading, lines in sections.items() if lines}


def _unfirm(joined: JoinedTable) -> list[str]:
    spreads = {line.row.id: line.spread for line in joined.lines if joined.hangs_on_rounding(line)}
    if not spreads:
        return []
    listed = ", ".join(f"{key} {spread:.2f}" for key, spread in spreads.items())
    return [
        f"{UNFIRM} hangs on rounding: by the sides that weights on a threshold take, the accuracy of a run moves by "
        f"more than {FIRM} points, or than the difference in the row ({listed} points); qexp runs show tells more"
    ]


def _of_other_recipes(joined: JoinedTable) -> list[str]:
    changes = {change: None for line in joined.lines for change in line.float_changes}
    return [f"{OTHER_RECIPE} started from a float net of another recipe: {', '.join(changes)}"] if changes else []


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


def _ours(joined: JoinedTable) -> list[str]:
    seeds = ", ".join(map(str, joined.seeds))
    lines = [
        f"top-1 of the last epoch in percent, evaluated hard; mean ± sample standard deviation of n; seeds {seeds}"
    ]
    values = {} if joined.protocol == OWN else protocol_values(joined.protocol)
    changes = [*(f"{key}={value}" for key, value in values.items()), *joined.changes]
    if not joined.is_own:
        lines.append(f"protocol {joined.protocol}: {' '.join(changes)}; these numbers compare with each other only")
    return lines + [f"trained with {machine}" for machine in _machines(joined.lines)]


def _machines(lines: Sequence[Line]) -> list[str]:
    """Return on what the finished runs were obtained, each once."""
    found: dict[str, None] = {}
    for run in (run for line in lines for run in line.runs if run.summary):
        known = runs.read_json(run.path / "env.json")
        if known:
            torch = known.get("versions", {}).get("torch", "?")
            found[f"qexp {known.get('qexp', '?')}, torch {torch} on {known.get('device_name', '?')}"] = None
    return list(found)


def as_csv(joined: JoinedTable) -> str:
    """Return the table for programs."""
    return comma_separated(*records(joined))


def as_markdown(joined: JoinedTable) -> str:
    """Return the table and what belongs below it, for a file in a repository."""
    parts = [f"### {joined.name}: {joined.table.title}", joined.table.citation, markdown(*cells(joined))]
    for heading, lines in notes(joined).items():
        parts.append("\n".join([f"{heading[0].upper()}{heading[1:]}:", "", *(f"- {_escaped(line)}" for line in lines)]))
    return "\n\n".join(parts)


def _escaped(line: str) -> str:
    return line.replace("*", "\\*")


def around(joined: JoinedTable) -> tuple[str, str]:
    """Return what comes before the table on a terminal, and what comes after it."""
    below = []
    for heading, lines in notes(joined).items():
        below += [heading, *(f"  {line}" for line in lines)]
    return f"{joined.name}  {joined.table.title}\n{joined.table.citation}", "\n".join(below)


def missing_runs(joined: JoinedTable, flags: Sequence[str] = (), times: "Sequence[Estimate] | None" = None) -> str:
    """Return how many runs of a table are missing, about how long they take, and the command of each row.

    Args:
        joined: the table.
        flags: that each command needs, such as --config-dir.
        times: what `time_needed` returns; None where that is not known.
    """
    runs_of, parents = joined.missing(), _missing_parents([run.config for _, run in joined.missing()])
    if not (count := len(runs_of) + len(parents)):
        return f"{joined.name}: nothing is missing"
    floats = f", {len(parents)} of them float nets that others start from" if parents else ""
    total = "the time they take was not measured"
    if times is not None:
        total = f"about {time_span(sum(one.seconds for one in times))} one after another"
    lines = [f"{joined.name}: {plural(count, 'run')} missing{floats}; {total}"]
    for one in times or ():
        speed = f"{one.speed.images_per_second:,.0f} images/s, {one.speed.origin}"
        lines.append(f"  {one.what}: {plural(one.count, 'run')}, about {time_span(one.seconds)} ({speed})")
    lines += [f"  {line}: --run downloads it, or stops" for line in _absent([run.config for _, run in runs_of])]
    for line in joined.lines:
        if own := [run for other, run in runs_of if other is line]:
            command = _command([*flags, *own[0].job.overrides], [run.config.seed for run in own])
            lines.append(f"\n# {line.row.id}: {line.row.label}\n{command}")
    return "\n".join(lines)


def time_needed(joined: JoinedTable, tell: Callable[[str], None]) -> "list[Estimate]":
    """Return how long the missing runs of a table take, and the float nets that these need."""
    missing = [run.config for _, run in joined.missing()]
    if not missing:
        return []
    from qexp.tables.duration import estimates  # imports torch

    return estimates([*_missing_parents(missing), *missing], tell)


def _absent(configs: Sequence[Config]) -> list[str]:
    from qexp.tables.duration import absent_data  # imports torch

    return absent_data(configs)


def _missing_parents(configs: Sequence[Config]) -> list[Config]:
    """Return the float runs that have to be trained besides `configs`, each once."""
    known = {runs.run_directory(config) for config in configs}
    parents = {}
    for config in configs:
        if config.init == "fp" and not config.is_float:
            parent = float_parent_of(config)
            path = runs.run_directory(parent)
            if path not in known and runs.state_of(path) != "done":
                parents[path] = parent
    return list(parents.values())


def _command(words: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the `qexp train` that does one row, to be pasted into a shell."""
    kept = [word for word in words if not word.startswith("seed=")]
    flag = ["-m"] if len(seeds) > 1 else []
    return shlex.join(["qexp", "train", *flag, *kept, f"seed={','.join(map(str, seeds))}"])
