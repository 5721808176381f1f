"""Trainings over their epochs: loss and accuracy, soft minus hard, weights that change level."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from qexp.figures.chart import Band, Chart, Curve, Dots, Mark, Panel, Scale
from qexp.utils.text import is_number, plural

Records = Mapping[int, Mapping[str, Any]]  # epoch -> what metrics.jsonl has of it
Measure = Callable[[Mapping[str, Any]], float | None]
MOST_NAMED = 16  # series that a legend has room for


@dataclass(frozen=True)
class Series:
    """Trainings that differ in nothing but the seed.

    Attributes:
        label: what they are called.
        runs: the records of each.
    """

    label: str
    runs: Sequence[Records]


def measure(*keys: str) -> Measure:
    """Return what finds the number under nested keys of a record; it gives None where there is none, NaN included."""

    def found(record: Mapping[str, Any]) -> float | None:
        node: Any = record
        for key in keys:
            node = node.get(key) if isinstance(node, Mapping) else None
        return float(node) if is_number(node) else None

    return found


def course_panel(
    title: str, y_label: str, series: Sequence[Series], measured: Measure, *, y_scale: Scale = "linear"
) -> Panel:
    """Return one number over the epochs: a line for each series, with a band where it has several runs.

    A line is the mean over the runs of a series, at the epochs at which all of them have the number; a band reaches
    from the mean minus to the mean plus the sample standard deviation, over n - 1.

    Args:
        title: of the panel.
        y_label: what is measured, with its unit.
        series: what is drawn; those that nowhere have the number are left out.
        measured: finds the number in the record of an epoch.
        y_scale: of the number.
    """
    marks: list[Mark] = []
    for one in series:
        values = [_values(records, measured) for records in one.runs]
        epochs = sorted(set[int].intersection(*map(set, values))) if values else []
        if not epochs:
            continue
        means = [fmean(own[epoch] for own in values) for epoch in epochs]
        if len(values) > 1:
            spread = [stdev(own[epoch] for own in values) for epoch in epochs]
            low, high = ([mean + sign * s for mean, s in zip(means, spread, strict=True)] for sign in (-1, 1))
            marks.append(Band(one.label, epochs, low, high))
        marks.append(Curve(one.label, epochs, means) if len(epochs) > 1 else Dots(one.label, epochs, means))
    return Panel(title, "epoch", y_label, marks, y_scale=y_scale, x_is_whole=True)


def _values(records: Records, measured: Measure) -> dict[int, float]:
    found = {epoch: measured(record) for epoch, record in records.items() if is_number(epoch)}
    return {epoch: value for epoch, value in found.items() if value is not None}


def course_notes(series: Sequence[Series]) -> list[str]:
    """Return what is to be said under panels of courses: what lines and bands are, and that names are missing."""
    counts = sorted({len(one.runs) for one in series})
    notes = []
    if counts[-1:] > [1]:
        told = " or ".join(map(str, [count for count in counts if count > 1]))
        notes.append(f"Lines: mean over {told} seeds, where all have a value; bands: ± sample standard deviation.")
    if len(series) > MOST_NAMED:
        notes.append(f"{plural(len(series), 'line')} are more than a legend has room for; the numbers name each.")
    return notes


def curves_chart(title: str, series: Sequence[Series], caption: Sequence[str] = ()) -> Chart:
    """Return loss and top-1 over epochs, in training and hard on the test images.

    Args:
        title: of the chart.
        series: what is drawn.
        caption: lines to be said besides.
    """
    panels = [
        course_panel("loss in training", "cross-entropy", series, measure("train", "loss"), y_scale="log"),
        course_panel("top-1 in training", "%", series, measure("train", "top1")),
        course_panel("loss on test images, hard", "cross-entropy", series, measure("hard", "loss"), y_scale="log"),
        course_panel("top-1 on test images, hard", "%", series, measure("hard", "top1")),
    ]
    return Chart(title, panels, 2, [*course_notes(series), *caption])


def gap_chart(title: str, series: Sequence[Series], caption: Sequence[str] = ()) -> Chart:
    """Return the quantizer gap over epochs: top-1 of the soft network minus that of the hard one, in points.

    Args:
        title: of the chart.
        series: what is drawn.
        caption: lines to be said besides.
    """
    told = "Above 0 the relaxed network is better than the one that would be deployed."
    panels = [
        course_panel("soft minus hard", "points of top-1", series, measure("gap")),
        course_panel("soft", "top-1, %", series, measure("soft", "top1")),
    ]
    return Chart(title, panels, 2, [*course_notes(series), told, *caption])


def flips_chart(title: str, series: Sequence[Series], caption: Sequence[str] = ()) -> Chart:
    """Return the share of weights that change level, and that turn back, per step and from epoch to epoch, in percent.

    The panels per step are left out where no run has the numbers: those of versions before count epochs alone.

    Args:
        title: of the chart.
        series: what is drawn.
        caption: lines to be said besides.
    """
    told = ["Per epoch: codes at the ends of epochs are compared; who changes and returns within one is not seen."]
    if per_step := [panel for panel in _flips("per step", "_per_step", series) if panel.marks]:
        told.insert(0, "Per step: codes after each of the last 10 steps of an epoch, mean of these steps.")
    return Chart(title, [*per_step, *_flips("per epoch", "", series)], 2, [*course_notes(series), *told, *caption])


def _flips(per: str, key: str, series: Sequence[Series]) -> list[Panel]:
    """Return two panels: weights that changed level, and of these those that went back."""
    shown = ((f"changed level, {per}", "changed"), (f"of these: against their last change, {per}", "turned_back"))
    y_label = "% of quantized weights"
    return [course_panel(title, y_label, series, measure("oscillation", f"{name}{key}")) for title, name in shown]
