"""A chart drawn by matplotlib: the same bytes each time, in a style that survives greyscale and colour blindness."""

import io
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from qexp.figures.chart import Band, Bars, Chart, Curve, Dots, Panel, Surface
from qexp.figures.style import COLOURS, DASHES, MARKERS, in_our_style
from qexp.utils.text import printable

FORMATS = ("svg", "pdf", "png")
# What a file that was drawn here holds, by which it is known again.
_MARKS = {"svg": b"<dc:description>command: qexp ", "pdf": b"/Creator (qexp)", "png": b"tEXtSoftware\0qexp"}

PANEL_INCHES = (3.3, 2.5)
AXES_INCHES = 2.7  # of their width in a panel, beside what is written there
LEAST_INCHES = 4.2  # of a picture's width, so that a legend has room
LINE_INCHES, LEGEND_INCHES = 0.12, 0.17  # of a line of a caption, and of a legend
MOST_LABELS, MOST_FLAT = 16, 6  # of a legend; names at an axis that lie, of which more stand


@dataclass(frozen=True)
class AxesBox:
    """Where a panel's axes lie in a drawing, in fractions of its width and height from the upper left corner.

    Attributes:
        left: of the axes.
        top: of the axes.
        width: of the axes.
        height: of the axes.
        x_limits: the values at the left and right end.
        y_limits: the values at the lower and upper end.
        x_scale: linear or log.
        y_scale: likewise.
    """

    left: float
    top: float
    width: float
    height: float
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    x_scale: str
    y_scale: str


@dataclass(frozen=True)
class Drawing:
    """A file's content, and where each panel's axes lie in it."""

    content: bytes
    boxes: tuple[AxesBox, ...]


def render(
    chart: Chart,
    kind: Literal["svg", "pdf", "png"] = "svg",
    *,
    source: Mapping[str, str] | None = None,
    is_text: bool = False,
    width: float | None = None,
) -> Drawing:
    """Return a chart as the content of a file; equal charts give equal bytes.

    Args:
        chart: what is drawn.
        kind: of file.
        source: what the file says of itself: its command, the commit.
        is_text: of SVG: letters stay letters, in whatever font a page has; else they are outlines.
        width: of the picture in inches, None for what the panels need.

    Raises:
        UsageError: matplotlib is not installed.
    """
    with in_our_style(is_text) as figure_class:
        rows = -(-len(chart.panels) // chart.columns)
        usual = max(PANEL_INCHES[0] * chart.columns, LEAST_INCHES)
        wide = usual if width is None else width
        figure = figure_class(figsize=(wide, 1))
        axes = figure.subplots(rows, chart.columns, squeeze=False)
        styles = {label: index for index, label in enumerate(chart.labels)}
        for index, one in enumerate(axes.flat):
            if index < len(chart.panels):
                _draw_panel(figure, one, chart.panels[index], styles)
            else:
                one.set_axis_off()
        _write_around(figure, axes.flat, chart, PANEL_INCHES[1] * rows * wide / usual)
        return _saved(figure, list(axes.flat)[: len(chart.panels)], kind, source or {})


def is_drawn(content: bytes, kind: str) -> bool:
    """Whether a file's content was drawn here, with a source that tells its command.

    Args:
        content: of the file.
        kind: one of FORMATS.
    """
    return _MARKS[kind] in content


def _draw_panel(figure: Any, axes: Any, panel: Panel, styles: Mapping[str, int]) -> None:
    for mark in panel.marks:
        _draw_mark(figure, axes, mark, styles.get(mark.label, 0))
    for place in panel.guides:
        axes.axvline(place, color="#8a8a8a", linewidth=0.8, linestyle=(0, (3, 2)), zorder=3)
    axes.set(title="\n".join(_wrapped(panel.title, AXES_INCHES, 9)), xscale=panel.x_scale, yscale=panel.y_scale)
    axes.set(xlabel="\n".join(_wrapped(panel.x_label, PANEL_INCHES[0], 8.5)))
    axes.set(ylabel="\n".join(_wrapped(panel.y_label, PANEL_INCHES[1], 8.5)))
    for axis, scale, names in ((axes.xaxis, panel.x_scale, panel.x_names), (axes.yaxis, panel.y_scale, panel.y_names)):
        if names:
            axis.set_ticks(list(names), [_wrapped(name, 1.8, 7.5)[0] for name in names.values()])
            axis.set_ticks([], minor=True)
        elif scale == "log":
            _name_ticks(axis)
    if panel.x_is_whole and not panel.x_names:
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if len(panel.x_names) > MOST_FLAT:
        axes.tick_params("x", rotation=90)
    if panel.x_limits:
        axes.set_xlim(*panel.x_limits)
    if panel.y_limits:
        axes.set_ylim(*panel.y_limits)


def _name_ticks(axis: Any) -> None:
    """Write the numbers at a logarithmic axis as they are; those between powers of ten where it shows few of these."""
    from matplotlib.ticker import FuncFormatter

    def named(value: float) -> str:
        return f"{value:,.0f}" if 1000 <= value < 1e7 else f"{value:g}"

    def between(value: float, _: object) -> str:
        low, high = axis.get_view_interval()
        name, digits = named(value), f"{value:e}"
        is_apart = digits[0] in "2357" or digits[2:8] != "000000" or len(name) == 1  # else names meet
        is_shown = (is_apart or high < 2 * low) if high < 10 * low else high < 50 * low and digits[0] in "25"
        return name if is_shown else ""

    axis.set_major_formatter(FuncFormatter(lambda value, _: named(value)))
    axis.set_minor_formatter(FuncFormatter(between))


def _draw_mark(figure: Any, axes: Any, mark: Any, index: int) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    label = str(index)  # matplotlib has rules for what labels begin with
    match mark:
        case Curve():
            drawstyle = "steps-post" if mark.is_steps else "default"
            dash = DASHES[index % len(DASHES)]
            axes.plot(mark.x, mark.y, color=colour, linestyle=dash, drawstyle=drawstyle, label=label)
        case Band():
            axes.fill_between(mark.x, mark.low, mark.high, color=colour, alpha=0.2, linewidth=0)
        case Dots():
            if mark.low is not None and mark.high is not None:
                spread = [
                    [y - low for y, low in zip(mark.y, mark.low, strict=True)],
                    [high - y for y, high in zip(mark.y, mark.high, strict=True)],
                ]
                axes.errorbar(mark.x, mark.y, spread, fmt="none", ecolor=colour, elinewidth=0.9, capsize=2.5)
            face = "none" if mark.is_hollow else colour
            axes.plot(
                *(mark.x, mark.y, marker),
                **{"color": colour, "markerfacecolor": face, "markersize": 4, "label": label},
            )
        case Bars():
            axes.stairs(mark.heights, mark.edges, fill=True, color=colour, alpha=0.75, label=label)
        case Surface():
            levels = 14 if mark.limits is None else _steps(*mark.limits)
            shades = axes.contourf(mark.x, mark.y, mark.z, levels=levels, cmap="cividis")
            axes.contour(mark.x, mark.y, mark.z, levels=levels, colors="#000000", linewidths=0.3)
            beside = axes.inset_axes((1.04, 0.0, 0.05, 0.88))  # a part of its panel, so that panels keep one size
            figure.colorbar(shades, cax=beside).ax.set_title(printable(mark.label), fontsize=7)


def _steps(low: float, high: float) -> list[float]:
    """Return the round values that shades between two values end at, about 14 of them."""
    from matplotlib.ticker import MaxNLocator

    return [float(value) for value in MaxNLocator(15, min_n_ticks=2).tick_values(low, high)]


def _write_around(figure: Any, axes: Any, chart: Chart, panels: float) -> None:
    """Write the title, a legend where there is more than one label, and the caption; make the figure as tall as needed.

    Args:
        figure: with its panels.
        axes: of the panels.
        chart: what is drawn.
        panels: how tall they are, in inches.
    """
    wide = figure.get_figwidth()
    title = _wrapped(chart.title, wide, 10.5)
    caption = [line for one in chart.caption for line in _wrapped(one, wide, 6.5)]
    found = {label: handle for one in axes for handle, label in zip(*one.get_legend_handles_labels(), strict=True)}
    handles = {printable(label): found[str(at)] for at, label in enumerate(chart.labels) if str(at) in found}
    columns = max(1, min(len(handles), 3 * chart.columns, int(6 * wide / max(map(len, handles), default=1))))
    lines = -(-len(handles) // columns) if 1 < len(handles) <= MOST_LABELS else 0
    below = LINE_INCHES * len(caption) + LEGEND_INCHES * (lines + 0.5) * bool(lines)
    tall = panels + 0.2 + 0.2 * len(title) + below
    figure.set_figheight(tall)
    figure.set_layout_engine("constrained", rect=(0, below / tall, 1, 1 - below / tall))
    figure.suptitle("\n".join(title))
    if lines:
        below_panels = (0.5, LINE_INCHES * len(caption) / tall)
        place = {"loc": "lower center", "bbox_to_anchor": below_panels, "borderaxespad": 0.3}
        figure.legend(list(handles.values()), list(handles), ncols=columns, **place).set_in_layout(False)
    note = figure.text(0.01, 0.3 * LINE_INCHES / tall, "\n".join(caption), fontsize=6.5, color="#555555", va="bottom")
    note.set_in_layout(False)


def _wrapped(text: str, inches: float, points: float) -> list[str]:
    """Return a text that can be drawn, in lines that are no wider than so many inches."""
    return textwrap.wrap(printable(text), max(16, int(inches * 72 / (0.56 * points)))) or [""]


def _saved(figure: Any, axes: list[Any], kind: str, source: Mapping[str, str]) -> Drawing:
    told = "; ".join(f"{key}: {value}" for key, value in source.items())
    metadata: dict[str, Mapping[str, str | None]] = {
        "svg": {"Date": None, "Creator": "qexp", "Description": told},
        "pdf": {"CreationDate": None, "Creator": "qexp", "Producer": None, "Subject": told},
        "png": {"Software": "qexp", "Description": told},
    }
    _settle(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata[kind])
    return Drawing(buffer.getvalue(), tuple(_box(one) for one in axes))


def _settle(figure: Any) -> None:
    """Lay the axes out, and round where they lie: the last digits of the layout are others each time."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position([round(value, 5) for value in axes.get_position().bounds])


def _box(axes: Any) -> AxesBox:
    place = axes.get_position()
    limits = cast(tuple[tuple[float, float], tuple[float, float]], (axes.get_xlim(), axes.get_ylim()))
    (x0, x1), (y0, y1) = ((float(low), float(high)) for low, high in limits)
    return AxesBox(
        *(float(place.x0), float(1 - place.y1), float(place.width), float(place.height)),
        *((x0, x1), (y0, y1), axes.get_xscale(), axes.get_yscale()),
    )
