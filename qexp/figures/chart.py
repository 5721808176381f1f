"""A chart as data: what is drawn, and the numbers behind it. Nothing here draws, and nothing needs matplotlib."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from qexp.utils.text import printable

Scale = Literal["linear", "log"]
Numbers = Sequence[float]


@dataclass(frozen=True)
class Curve:
    """Points joined by a line; with `is_steps` each value holds until the next x.

    Attributes:
        note: what it is where several curves have one label, such as a layer; in the numbers, not drawn.
    """

    label: str
    x: Numbers
    y: Numbers
    is_steps: bool = False
    note: str = ""


@dataclass(frozen=True)
class Band:
    """The region between two curves: a spread, drawn behind the line that has the same label."""

    label: str
    x: Numbers
    low: Numbers
    high: Numbers


@dataclass(frozen=True)
class Dots:
    """Single points, where `low` and `high` are given with an interval each.

    Attributes:
        notes: what each point is, such as the run it comes from; in the numbers and under the pointer, not drawn.
        is_hollow: drawn as rings: what others published beside what was measured, a mean beside its runs.
    """

    label: str
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    notes: Sequence[str] = ()
    is_hollow: bool = False


@dataclass(frozen=True)
class Bars:
    """A histogram: n heights between n + 1 edges."""

    label: str
    edges: Numbers
    heights: Numbers


@dataclass(frozen=True)
class Surface:
    """A function of two variables: z[i][j] at (x[j], y[i]), as shades and contours.

    Attributes:
        limits: the values of the darkest and the lightest shade, None for what this surface needs; surfaces that are
            to be compared have the same.
    """

    label: str
    x: Numbers
    y: Numbers
    z: Sequence[Numbers]
    limits: tuple[float, float] | None = None


Mark = Curve | Band | Dots | Bars | Surface


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above it.
        x_label: with the unit.
        y_label: with the unit.
        marks: in the order of drawing. What has the same label has the same style in all panels of a chart.
        x_scale: of the x axis.
        y_scale: of the y axis.
        x_limits: of the x axis, None for what the marks need.
        y_limits: of the y axis, likewise.
        x_names: names at places of the x axis, instead of numbers.
        y_names: likewise of the y axis.
        x_is_whole: whether x counts something, so that the axis has whole numbers alone.
        guides: x values at which a thin vertical line stands, such as levels or thresholds.
    """

    title: str
    x_label: str
    y_label: str
    marks: Sequence[Mark]
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None
    x_names: Mapping[float, str] = field(default_factory=dict)
    y_names: Mapping[float, str] = field(default_factory=dict)
    x_is_whole: bool = False
    guides: Numbers = ()


@dataclass(frozen=True)
class Chart:
    """Panels under one title.

    Attributes:
        title: above them.
        panels: row by row.
        columns: how many lie side by side.
        caption: lines under the picture: how it was made, what is not known.
    """

    title: str
    panels: Sequence[Panel]
    columns: int = 1
    caption: Sequence[str] = ()

    @property
    def labels(self) -> list[str]:
        """The labels of all marks that have a style of their own, each once, in the order of their first panels."""
        found = (mark.label for panel in self.panels for mark in panel.marks if not isinstance(mark, Surface))
        return list(dict.fromkeys(found))


COLUMNS = ("panel", "series", "x", "y", "low", "high", "note")


def numbers_csv(chart: Chart) -> str:
    """Return the numbers behind a chart: one row per point, each number in full.

    What runs are called may be written by others: a text that a spreadsheet would take for a formula has a ' before it.

    Of a histogram x is a bin's lower edge, low and high are both of its edges, y is its height. Of a surface low is
    the second coordinate and y the value.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for panel in chart.panels:
        for mark in panel.marks:
            names = (_as_text(panel.title), _as_text(mark.label))
            writer.writerows((*names, *row[:-1], _as_text(str(row[-1]))) for row in _rows(mark))
    return text.getvalue()


def is_numbers(content: bytes) -> bool:
    """Whether a file's content is the numbers of a chart, as `numbers_csv` writes them."""
    return content.startswith(",".join(COLUMNS).encode() + b"\n")


def _as_text(text: str) -> str:
    shown = printable(text)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown


def _rows(mark: Mark) -> Iterator[tuple[float | str, ...]]:
    match mark:
        case Curve():
            yield from ((x, y, "", "", mark.note) for x, y in zip(mark.x, mark.y, strict=True))
        case Band():
            yield from ((x, "", low, high, "") for x, low, high in zip(mark.x, mark.low, mark.high, strict=True))
        case Dots():
            nothing = [""] * len(mark.x)
            spread = (mark.low or nothing, mark.high or nothing, mark.notes or nothing)
            yield from zip(mark.x, mark.y, *spread, strict=True)
        case Bars():
            bins = zip(mark.edges[:-1], mark.heights, mark.edges[:-1], mark.edges[1:], strict=True)
            yield from ((*row, "") for row in bins)
        case Surface():
            for y, row in zip(mark.y, mark.z, strict=True):
                yield from ((x, z, y, "", "") for x, z in zip(mark.x, row, strict=True))
