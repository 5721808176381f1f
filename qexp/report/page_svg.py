"""A chart as SVG inside a page: under the page's colours, without styles that its security policy forbids.

matplotlib's SVG has `style="..."` attributes, ids that clash beside a second picture, and black ink on white. Here each
style becomes attributes of its own, ids are counted, and colours that the style of all figures names become classes,
whose colours the page decides, in the light and in the dark.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

from qexp.figures import Bars, Chart, Curve, Dots
from qexp.figures.chart import Panel
from qexp.figures.drawing import AxesBox, render
from qexp.figures.style import COLOURS
from qexp.utils.text import printable

MOST_POINTS = 400  # of a series under the pointer
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_OF_STYLE = {"#ffffff": "paper", "#dddddd": "grid", "#aaaaaa": "guide", "#555555": "soft"}
CLASSES = _OF_STYLE | {colour: f"c{at}" for at, colour in enumerate(COLOURS)}  # the first of COLOURS is the ink
_KEPT = {  # of the properties in a style; fonts are the page's
    *("fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray", "stroke-dashoffset"),
    *("stroke-linejoin", "stroke-linecap", "stroke-miterlimit", "opacity", "font-size", "text-anchor"),
}
_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def inline_svg(chart: Chart, prefix: str) -> tuple[str, dict[str, Any]]:
    """Return a chart as an SVG element, and what is shown under the pointer.

    Args:
        chart: what is drawn.
        prefix: of all ids in it; other pictures of the page have others.

    Returns:
        The element, and for JSON: `panels`, each with its box in fractions, limits and scales, labels of its axes, and
        its series of [x, y, note].
    """
    clean = _printable(chart)
    with warnings.catch_warnings(action="ignore"):  # of names too long for a picture, which nobody here can change
        drawing = render(clean, "svg", is_text=True)
    root = ElementTree.fromstring(drawing.content)
    _take_out(root)
    names: dict[str, str] = {}
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        _restyle(element)
        _rename(element, names, prefix)
    width, height = root.get("viewBox", "0 0 1 1").split()[2:]
    root.attrib.clear()
    label = printable(f"{chart.title}: {', '.join(dict.fromkeys(panel.title for panel in chart.panels))}")
    root.attrib |= {"viewBox": f"0 0 {width} {height}", "class": "chart", "role": "img", "aria-label": label}
    root.attrib |= {"width": f"{float(width) * 4 / 3:.0f}", "height": f"{float(height) * 4 / 3:.0f}"}
    panels = [_pointed(panel, box) for panel, box in zip(clean.panels, drawing.boxes, strict=True)]
    return ElementTree.tostring(root, encoding="unicode"), {"panels": panels}


def _printable(chart: Chart) -> Chart:
    """Return a chart without title and caption, which a page has, and without control characters, unknown to XML."""

    def panel(one: Panel) -> Panel:
        marks = [replace(mark, label=printable(mark.label)) for mark in one.marks]
        names = {place: printable(name) for place, name in one.x_names.items()}
        title, x_label, y_label = map(printable, (one.title, one.x_label, one.y_label))
        return replace(one, title=title, x_label=x_label, y_label=y_label, marks=marks, x_names=names)

    return replace(chart, title="", panels=[*map(panel, chart.panels)], caption=())


def _take_out(root: ElementTree.Element) -> None:
    """Remove what a page has no use for: metadata, and styles that would be those of the whole page."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
        if parent.text and not parent.text.strip():
            parent.text = None
        parent.tail = None


def _restyle(element: ElementTree.Element) -> None:
    styles = (part.partition(":")[::2] for part in element.attrib.pop("style", "").split(";"))
    found = {key.strip(): value.strip() for key, value in styles if key.strip() in _KEPT}
    classes = []
    for key, short in (("fill", "f"), ("stroke", "s")):
        if (name := CLASSES.get(found.get(key, "").lower())) is not None:
            classes.append(f"{short}-{name}")
            del found[key]
    element.attrib |= found
    if classes:
        element.set("class", " ".join(classes))
    for key in ("d", "x", "y", "transform", "points"):
        if key in element.attrib:
            text = _NUMBER.sub(lambda number: f"{float(number[0]):.2f}", element.attrib[key])
            element.set(key, " ".join(text.split()))


def _rename(element: ElementTree.Element, names: dict[str, str], prefix: str) -> None:
    """Give an id, and what refers to one, its name on the page; groups need none."""

    def own(name: str) -> str:
        return names.setdefault(name, f"{prefix}-{len(names)}")

    if (name := element.attrib.pop("id", None)) is not None and element.tag != "g":
        element.set("id", own(name))
    if (link := element.attrib.pop(_LINK, None)) is not None:
        element.set("href", f"#{own(link.removeprefix('#'))}")
    if (clip := element.get("clip-path")) is not None:
        element.set("clip-path", f"url(#{own(clip.removeprefix('url(#').removesuffix(')'))})")


# Under the pointer


def _pointed(panel: Panel, box: AxesBox) -> dict[str, Any]:
    series = [found for mark in panel.marks if (found := _series(mark))]
    return {
        "box": [round(side, 5) for side in (box.left, box.top, box.width, box.height)],
        "x": [*box.x_limits, box.x_scale],
        "y": [*box.y_limits, box.y_scale],
        "name": panel.x_label,
        "names": {f"{place:g}": name for place, name in panel.x_names.items()},
        "series": series,
    }


def _series(mark: Any) -> dict[str, Any] | None:
    match mark:
        case Curve():
            points = [(x, y, "") for x, y in zip(mark.x, mark.y, strict=True)]
        case Dots():
            notes = mark.notes or [""] * len(mark.x)
            points = list(zip(mark.x, mark.y, map(printable, notes), strict=True))
        case Bars():
            middles = [(one + other) / 2 for one, other in zip(mark.edges[:-1], mark.edges[1:], strict=True)]
            points = [(x, y, "") for x, y in zip(middles, mark.heights, strict=True)]
        case _:
            return None
    step = max(1, -(-len(points) // MOST_POINTS))
    chosen = [*points[:-1:step], *points[-1:]]
    shown: dict[str, Any] = {"label": mark.label, "p": [[_short(x), _short(y)] for x, y, _ in chosen]}
    if any(note for _, _, note in chosen):
        shown["notes"] = [note for _, _, note in chosen]
    return shown | ({"dots": 1} if isinstance(mark, Dots) else {})


def _short(value: float) -> float | None:
    """Return a number in five digits; JSON has no word for what is none."""
    text = f"{float(value):.5g}"
    return float(text) if text.lstrip("-") not in ("nan", "inf") else None


def colour_rules(colours: Mapping[str, str] = CLASSES) -> str:
    """Return the rules of CSS that give the classes of all figures their colours."""
    names = dict.fromkeys(colours.values())
    return "\n".join(f".f-{name}{{fill:var(--{name})}}.s-{name}{{stroke:var(--{name})}}" for name in names)
