"""Charts inside a page: no style that the policy forbids, colours of the page, numbers under the pointer."""

import math
import re
from xml.etree import ElementTree

import pytest

from qexp.figures import Band, Bars, Chart, Curve, Dots, Panel, Surface
from qexp.figures.style import COLOURS
from qexp.report.page_svg import CLASSES, MOST_POINTS, colour_rules, inline_svg

CHART = Chart(
    "title",
    [
        Panel("a", "epoch", "percent", [Curve(f"c{at}", [1, 2], [at, at + 1]) for at in range(8)], guides=[1.5]),
        Panel(
            "b",
            "x",
            "y",
            [Dots("c0", [1, 2], [5, 6], [4, 5], [6, 7], ["one", "two"]), Band("c1", [1, 2], [0, 1], [2, 3])],
            y_scale="log",
        ),
        Panel("bars", "x", "y", [Bars("c2", [0, 1, 3], [4, 5])], x_names={0.5: "low"}),
        Panel("surface", "x", "y", [Surface("z", [0, 1], [0, 1], [[0, 1], [2, 3]])]),
    ],
    columns=2,
)


@pytest.fixture(scope="module")
def drawn() -> tuple[str, dict]:
    return inline_svg(CHART, "p0")


def test_there_are_no_styles_and_no_colours_of_paper_and_ink(drawn: tuple[str, dict]) -> None:
    root = ElementTree.fromstring(drawn[0])
    assert root.tag == "svg"
    elements = list(root.iter())
    assert not [one for one in elements if "style" in one.attrib or one.tag in ("style", "metadata")]
    named = {one.get(key, "") for one in elements for key in ("fill", "stroke")}
    assert not named & set(CLASSES)
    classes = {name for one in elements for name in one.get("class", "").split()} - {"chart"}
    assert {f"s-c{at}" for at in range(len(COLOURS))} <= classes
    rules = colour_rules()
    assert all(f".{name}{{" in rules for name in classes)


def test_every_colour_of_the_rules_has_a_value_in_both_lights_and_in_print() -> None:
    from qexp.report.page_html import TEMPLATES

    style = (TEMPLATES / "page.css").read_text()
    used = set(re.findall(r"var\(--([\w-]+)\)", style + colour_rules()))
    light, dark, printed = (part for part in re.findall(r":root\{(.*?)\}", style, re.DOTALL))
    for part, inherited in ((light, set()), (dark, {"c0"}), (printed, {"c0"})):
        assert used - set(re.findall(r"--([\w-]+):", part)) == inherited


def test_ids_of_two_pictures_differ_and_equal_charts_give_equal_pictures() -> None:
    chart = Chart("", [Panel("", "x", "y", [Curve("a", [1, 2], [1, 2]), Dots("b", [1, 2], [2, 1])])])
    one, again, other = (inline_svg(chart, prefix) for prefix in ("p0", "p0", "p1"))
    assert one == again
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text, _ in (one, other)]
    assert len(ids[0]) == len(ids[1]) >= 4
    assert not ids[0] & ids[1]
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', other[0])) == ids[1]


def test_numbers_under_the_pointer_are_those_of_the_chart(drawn: tuple[str, dict]) -> None:
    first, second, bars, surface = drawn[1]["panels"]
    assert first["series"] == [{"label": f"c{at}", "p": [[1, at], [2, at + 1]]} for at in range(8)]
    assert second["series"] == [{"label": "c0", "p": [[1, 5], [2, 6]], "notes": ["one", "two"], "dots": 1}]
    assert (second["y"][2], second["name"]) == ("log", "x")
    assert bars["series"] == [{"label": "c2", "p": [[0.5, 4], [2, 5]]}]
    assert bars["names"] == {"0.5": "low"}
    assert surface["series"] == []
    assert all(0 < side < 1 for panel in (first, second, bars, surface) for side in panel["box"])


def test_a_point_lies_where_the_box_says() -> None:
    """The line from (1, 0) to (2, 10) is drawn between the places that the box and the limits give these values."""
    text, told = inline_svg(Chart("", [Panel("", "x", "y", [Curve("c", [1, 2], [0, 10])])]), "p")
    root = ElementTree.fromstring(text)
    width, height = map(float, root.get("viewBox", "").split()[2:])
    (panel,) = told["panels"]
    (left, top, wide, high), (x0, x1, _), (y0, y1, _) = panel["box"], panel["x"], panel["y"]
    (line,) = (one for one in root.iter("path") if "s-c0" in one.get("class", "") and one.get("stroke-width") == "1.4")
    numbers = [float(one) for one in re.findall(r"-?[\d.]+", line.get("d", ""))]
    for (x, y), place in zip([(1, 0), (2, 10)], [numbers[:2], numbers[2:]], strict=True):
        there = (left + (x - x0) / (x1 - x0) * wide) * width, (top + (1 - (y - y0) / (y1 - y0)) * high) * height
        assert place == pytest.approx(there, abs=0.02)


def test_of_many_points_the_first_and_the_last_stay() -> None:
    x = [float(at) for at in range(3001)]
    _, told = inline_svg(Chart("", [Panel("", "", "", [Curve("c", x, x)])]), "p")
    points = told["panels"][0]["series"][0]["p"]
    assert len(points) <= MOST_POINTS + 1
    assert (points[0], points[-1]) == ([0, 0], [3000, 3000])


def test_what_is_no_number_is_none_under_the_pointer() -> None:
    _, told = inline_svg(Chart("", [Panel("", "", "", [Curve("c", [1, 2, 3], [1, math.nan, math.inf])])]), "p")
    assert told["panels"][0]["series"][0]["p"] == [[1, 1], [2, None], [3, None]]


def test_texts_that_xml_does_not_know_are_replaced() -> None:
    text, told = inline_svg(Chart("\x00", [Panel("\x1b[1m", "\ud800", "", [Curve("a\x07", [1], [1])])]), "p")
    ElementTree.fromstring(text)
    assert told["panels"][0]["series"][0]["label"] == "a?"


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 18, 20, 90])
def test_an_axis_that_counts_has_whole_numbers(epochs: int) -> None:
    x = list(range(1, epochs + 1))
    numbers = {}
    for is_whole in (False, True):
        marks = [Curve("a", x, [0.5] * epochs)] if epochs > 1 else [Dots("a", x, [0.5])]
        panel = Panel("p", "epoch", "%", marks, x_is_whole=is_whole, y_names={0.5: "half"})
        text, _ = inline_svg(Chart("t", [panel]), "p0")
        found = re.findall(r">([\d.\N{MINUS SIGN}]+)</text>", text)
        numbers[is_whole] = [float(one.replace("\N{MINUS SIGN}", "-")) for one in found]
    assert numbers[True]
    assert all(number == int(number) for number in numbers[True])
    assert any(number != int(number) for number in numbers[False]) or epochs in (7, 90)
