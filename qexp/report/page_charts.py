"""Which figures are on a page, and of which runs: what would be hidden under a hundred curves is left out, and told."""

from collections.abc import Sequence
from pathlib import Path

from qexp.figures import Chart, Curve
from qexp.figures.chart import Panel
from qexp.report.page_content import Picture
from qexp.runs.epoch_records import epoch_records
from qexp.runs.groups import Group
from qexp.runs.query import number
from qexp.runs.run_names import short_names
from qexp.runs.run_values import ListedRun
from qexp.utils.text import plural

MOST_CURVES = 12


def drawn_runs(runs: Sequence[ListedRun], groups: Sequence[Group]) -> tuple[list[ListedRun], list[str]]:
    """Return those runs whose curves are drawn, and what is said of that: of too many, the middle one of each row."""
    if len(runs) <= MOST_CURVES:
        return list(runs), []
    middles = [_middle(group) for group in groups]
    best = sorted(range(len(groups)), key=lambda at: -groups[at].mean)[:MOST_CURVES]
    chosen = [middles[at] for at in sorted(best)]
    rows = f" of the best {len(chosen)} rows" if len(groups) > MOST_CURVES else ""
    return chosen, [f"Drawn: {plural(len(chosen), 'run')} of {len(runs)}, the middle one of each row{rows}."]


def _middle(group: Group) -> ListedRun:
    order = sorted(range(len(group.runs)), key=lambda at: group.top1[at])
    return group.runs[order[(len(order) - 1) // 2]]


def pictures(runs: Sequence[ListedRun], notes: Sequence[str], root: Path) -> list[Picture]:
    """Return the figures of runs that have what they need; what cannot be drawn is left out."""
    found = [(run, list(epoch_records(run.entry.path).values())) for run in runs]
    found = [(run, records) for run, records in found if records]
    if not found:
        return []
    names = short_names([run.options for run, _ in found], [run.entry.label for run, _ in found])
    marks: dict[str, list[Curve]] = {"top1": [], "loss": []}
    for name, (_, records) in zip(names, found, strict=True):
        for key, side, value in (("top1", "hard", "top1"), ("loss", "train", "loss")):
            points = [(one["epoch"], number(one.get(side) or {}, value)) for one in records]
            kept = [(x, y) for x, y in points if y is not None]
            marks[key].append(Curve(name, [x for x, _ in kept], [y for _, y in kept]))
    panels = [
        Panel("hard top-1, test images", "epoch", "percent", marks["top1"]),
        Panel("loss, training images", "epoch", "loss", marks["loss"], y_scale="log"),
    ]
    return [Picture(Chart("Curves", panels, columns=2), notes)]
