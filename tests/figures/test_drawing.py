"""Drawings: the same bytes twice, text that stays text, and files that are known again."""

import io
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

from qexp.figures import Band, Bars, Chart, Curve, Dots, Panel, Surface, is_drawn, is_numbers, numbers_csv, render

HOSTILE = ("$x^2$ \\frac", "<b>&\"'", "_hidden", "\x1b[31m\u202e\ud800", "=1+1", "漢字", "x" * 300, "")
SOURCE = {"command": "qexp plot curves '<b>&'", "commit": "0123456789"}
KINDS = ("svg", "pdf", "png")


def chart() -> Chart:
    marks = [Curve("a", [1, 2, 3], [1.0, 0.1, 0.01]), Band("a", [1, 2], [0.5, 0.05], [2.0, 0.2])]
    more = [Dots("b", [1, 2], [3.0, 4.0], [2.5, 3.5], [3.5, 4.5], ["run 1", "run 2"]), Bars("c", [0, 1, 2], [5.0, 1.0])]
    surface = Surface("z", [0, 1], [0, 1], [[0.0, 1.0], [2.0, 3.0]])
    panels = [
        Panel("lines", "x", "y", [*marks, *more], guides=[0.5], x_names={1: "one", 2: "two"}, y_names={3: "three"}),
        Panel("surface", "x", "y", [surface]),
    ]
    return Chart(
        "title", panels, 2, ["a caption", "and more of it, in a line that is longer than a small picture is wide"]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_equal_charts_give_equal_bytes_that_are_known_again(kind: str) -> None:
    first, second = (render(chart(), kind, source=SOURCE).content for _ in range(2))
    assert first == second
    assert [one for one in KINDS if is_drawn(first, one)] == [kind]
    assert not is_drawn(render(chart(), "svg").content.replace(b"qexp", b"other"), "svg")


def test_the_source_is_told_in_the_file() -> None:
    told = "command: qexp plot curves '<b>&'; commit: 0123456789"
    assert told in "".join(ElementTree.fromstring(render(chart(), source=SOURCE).content).itertext())
    assert Image.open(io.BytesIO(render(chart(), "png", source=SOURCE).content)).info["Description"] == told


@pytest.mark.parametrize("kind", KINDS)
def test_what_others_wrote_breaks_no_picture(kind: str) -> None:
    """No warning either: warnings are errors here."""
    marks = [Curve(label, [1, 2], [at, at + 1]) for at, label in enumerate(HOSTILE)]
    wild = Chart(HOSTILE[0], [Panel(text, text, text, marks, x_names={1: text}) for text in HOSTILE[::3]], 2, HOSTILE)
    content = render(wild, kind, source={"command": "".join(HOSTILE[:3])}).content
    if kind == "svg":
        assert ElementTree.fromstring(content).tag.endswith("svg")
    elif kind == "png":
        assert Image.open(io.BytesIO(content)).format == "PNG"
    else:
        assert content.startswith(b"%PDF-")


def test_every_label_is_in_the_legend_as_it_is() -> None:
    marks = [Curve(label, [1, 2], [1, 2]) for label in ("_private", "$a$", "<b>")]
    text = render(Chart("", [Panel("", "", "", marks)]), is_text=True).content
    words = [node.text for node in ElementTree.fromstring(text).iter() if node.tag.endswith("text")]
    assert {"_private", "$a$", "<b>"} <= set(words)


def test_numbers_at_logarithmic_axes_are_plain() -> None:
    marks = [Curve("a", [1e-7, 1e7], [1.0, 2500.0])]
    content = render(Chart("", [Panel("", "", "", marks, x_scale="log", y_scale="log")]), is_text=True).content
    words = {node.text for node in ElementTree.fromstring(content).iter() if node.tag.endswith("text")}
    assert {"1e-05", "0.1", "1,000", "100"} <= words
    assert not [word for word in words if word and re.search(r"[$\\]", word)]


def words_of(panel: Panel) -> set[str | None]:
    content = render(Chart("", [panel], columns=2), is_text=True).content
    return {node.text for node in ElementTree.fromstring(content).iter() if node.tag.endswith("text")}


def test_names_at_a_logarithmic_axis_do_not_meet() -> None:
    found = words_of(Panel("", "", "", [Curve("a", [0.0065, 0.046], [1.0, 2.0])], x_scale="log"))
    assert {"0.007", "0.01", "0.02", "0.03"} <= found
    assert not {"0.008", "0.009", "0.04"} & found
    found = words_of(Panel("", "", "", [Curve("a", [2, 8], [10.0, 20.0])], x_scale="log"))
    assert set("2345678") <= found


def test_a_title_that_is_wider_than_its_axes_is_folded() -> None:
    assert {"of these: against their last change,", "per step"} <= words_of(
        Panel("of these: against their last change, per step", "", "", [Curve("a", [1, 2], [1.0, 2.0])])
    )


def test_a_legend_and_a_caption_do_not_meet() -> None:
    """Neither lies over the panels: the lowest axes end above both."""
    marks = [Curve(f"series {at}", [1, 2], [1, 2]) for at in range(9)]
    plain = Chart("title", [Panel("", "x", "y", marks[:1])])
    full = Chart("title", [Panel("", "x", "y", marks)], caption=["line"] * 5)
    heights = [Image.open(io.BytesIO(render(one, "png").content)).size[1] for one in (plain, full)]
    boxes = [render(one, "png").boxes[0] for one in (plain, full)]
    below = [height * (1 - box.top - box.height) for height, box in zip(heights, boxes, strict=True)]
    assert below[1] - below[0] >= heights[1] - heights[0] - 3
    assert heights[1] - heights[0] > 150


def test_what_a_spreadsheet_would_take_for_a_formula_is_text_in_the_numbers() -> None:
    marks = [Dots("=cmd()", [-1.0], [2.0], notes=["@x\x1b,\n"])]
    found = numbers_csv(Chart("", [Panel("+1", "", "", marks)]))
    assert found == "panel,series,x,y,low,high,note\n'+1,'=cmd(),-1.0,2.0,,,\"'@x?,?\"\n"
    assert is_numbers(found.encode())
    assert not is_numbers(b"panel,x\n")


DRAW = "import os, qexp.figures as f; f.check_installed(); print(os.environ.get('MPLBACKEND'))"


@pytest.mark.process
@pytest.mark.parametrize("backend", ["agg", "nope", "module://matplotlib_inline.backend_inline"])
def test_a_backend_of_the_environment_need_not_be_there(backend: str) -> None:
    """A notebook leaves one there for all that it starts."""
    environment = {**os.environ, "MPLBACKEND": backend}
    found = subprocess.run([sys.executable, "-c", DRAW], env=environment, capture_output=True, text=True)
    assert (found.stdout, found.stderr) == (f"{backend}\n", "")


@pytest.mark.process
def test_settings_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    found = subprocess.run([sys.executable, "-c", DRAW], cwd=tmp_path, capture_output=True, text=True)
    assert "UsageError: matplotlib cannot be loaded, nor its settings, a matplotlibrc, read" in found.stderr
