"""Accuracy against what it costs: dots for single runs, the mean of what differs in the seed alone, float as a line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, lgamma, log, pi, sqrt
from statistics import fmean, stdev
from typing import Literal

from qexp.figures.chart import Band, Chart, Curve, Dots, Mark, Panel, Scale

Interval = Literal["s", "t"]
INTERVALS = {
    "s": "± the sample standard deviation (n - 1) of the runs",
    "t": "95 % intervals of the mean by Student's t",
}
_STEPS = 4000  # of an integral


@dataclass(frozen=True)
class Measured:
    """A run: what it costs, what it reaches.

    Attributes:
        cost: on the horizontal axis.
        top1: in percent.
        note: which run it is.
    """

    cost: float
    top1: float
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A method: groups of runs, each of which differs in the seed alone.

    Attributes:
        label: of the method.
        groups: at least one run in each.
    """

    label: str
    groups: Sequence[Sequence[Measured]]


@dataclass(frozen=True)
class Subject:
    """A network on a data set, which has a panel of its own.

    Attributes:
        title: of the panel.
        lines: one for each method.
        floats: label -> top-1 of float networks, in percent, that differ in the seed alone.
    """

    title: str
    lines: Sequence[Line]
    floats: Mapping[str, Sequence[float]] = field(default_factory=dict)


def t_factor(count: int) -> float:
    """Return the 97.5 % point of Student's t with `count` - 1 degrees of freedom; raise ValueError below 2.

    The density is summed by Simpson's rule, and the point found by halving; to six digits.
    """
    if count < 2:
        raise ValueError("a single value has no interval")
    freedom = count - 1
    scale = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(freedom * pi)

    def beyond_middle(t: float) -> float:
        heights = [exp(-(freedom + 1) / 2 * log(1 + (t * at / _STEPS) ** 2 / freedom)) for at in range(_STEPS + 1)]
        return scale * t / _STEPS / 3 * (heights[0] + 4 * sum(heights[1::2]) + 2 * sum(heights[2:-1:2]) + heights[-1])

    low, high = 1.9, 13.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if beyond_middle(middle) < 0.475 else (low, middle)
    return (low + high) / 2


def half_width(values: Sequence[float], interval: Interval) -> float:
    """Return half of the interval around the mean of values: the sample standard deviation, or t * s / sqrt(n).

    Args:
        values: at least two.
        interval: `s` or `t`.
    """
    spread = stdev(values)
    return spread if interval == "s" else t_factor(len(values)) * spread / sqrt(len(values))


def accuracy_chart(
    title: str,
    subjects: Sequence[Subject],
    x_label: str,
    *,
    interval: Interval = "s",
    x_scale: Scale = "log",
    caption: Sequence[str] = (),
) -> Chart:
    """Return top-1 against a cost: a dot for each run, a ring with an interval for each mean, float as a line.

    Args:
        title: of the chart.
        subjects: a panel each, at least one.
        x_label: the cost, with its unit.
        interval: around a mean.
        x_scale: of the cost.
        caption: lines to be said besides.
    """
    panels = [
        Panel(one.title, x_label, "top-1 of the last epoch, hard, %", marks, x_scale=x_scale, x_names=_names(one))
        for one in subjects
        if (marks := _marks(one, interval))
    ]
    counts = {len(group) for one in subjects for line in one.lines for group in line.groups}
    told = [f"Dots: runs; rings and bars: means, {INTERVALS[interval]}."] if counts - {1} else []
    return Chart(title, panels, min(2, len(panels)), [*told, *caption])


def _marks(subject: Subject, interval: Interval) -> list[Mark]:
    marks: list[Mark] = []
    costs = [run.cost for line in subject.lines for group in line.groups for run in group]
    ends = [min(costs) / 1.15, max(costs) * 1.15]
    for label, values in subject.floats.items():
        mean = fmean(values)
        if len(values) > 1:
            half = half_width(values, interval)
            marks.append(Band(label, ends, [mean - half] * 2, [mean + half] * 2))
        marks.append(Curve(label, ends, [mean] * 2))
    for line in subject.lines:
        marks += _line(line, interval)
    return marks


def _line(line: Line, interval: Interval) -> list[Mark]:
    groups = sorted(line.groups, key=lambda group: fmean(run.cost for run in group))
    costs, means = ([fmean(getattr(run, key) for run in group) for group in groups] for key in ("cost", "top1"))
    marks: list[Mark] = [Curve(line.label, costs, means)] if len(groups) > 1 else []
    several = [at for at, group in enumerate(groups) if len(group) > 1]
    if several:
        halves = {at: half_width([run.top1 for run in groups[at]], interval) for at in several}
        marks.append(
            Dots(
                line.label,
                [costs[at] for at in several],
                [means[at] for at in several],
                [means[at] - halves[at] for at in several],
                [means[at] + halves[at] for at in several],
                [f"mean of {len(groups[at])} runs" for at in several],
                is_hollow=True,
            )
        )
    runs = [run for group in groups for run in group]
    marks.append(
        Dots(line.label, [run.cost for run in runs], [run.top1 for run in runs], notes=[run.note for run in runs])
    )
    return marks


def _names(subject: Subject) -> Mapping[float, str]:
    """Return the whole numbers that are costs, where all costs are few whole numbers, such as bits."""
    costs = sorted({run.cost for line in subject.lines for group in line.groups for run in group})
    is_few = len(costs) <= 8 and all(cost == int(cost) and cost <= 32 for cost in costs)
    return {cost: f"{cost:g}" for cost in costs} if is_few else {}
