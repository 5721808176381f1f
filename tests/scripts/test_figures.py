"""The figures of docs/ are those that scripts/figures.py draws: from code, or from what was recorded of runs."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from qexp.figures import Band, Bars, Chart, Curve, Dots, Panel, Surface, numbers_csv, render
from qexp.utils.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]

EVERYTHING = Chart(
    "all marks",
    [
        Panel(
            "lines", "x", "y", [Curve("a", [1, 2.5], [0.1, 1e-17], is_steps=True), Band("a", [1, 2], [0, 1], [2, 3])]
        ),
        Panel(
            *("points", "x", "y", [Dots("b", [1, 2], [3, 4], [2, 3], [4, 5], ["s0", "s1"], is_hollow=True)]),
            **{"x_scale": "log", "x_limits": (0.5, 4), "x_names": {1.0: "one", 2.0: "two"}, "guides": [1.5]},
        ),
        Panel("bars", "x", "y", [Bars("c", [0, 1, 3], [5, 6])], y_names={5.0: "five"}),
        Panel("surface", "x", "y", [Surface("loss", [0, 1], [0, 1, 2], [[1, 2], [3, 4], [5, 6]], limits=(0, 8))]),
    ],
    columns=2,
    caption=["how", "1 / 3"],
)


@pytest.fixture(scope="module")
def figures():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("figures_script", ROOT / "scripts" / "figures.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def drawing(figures, tmp_path, monkeypatch, capsys):
    """`drawing(*words)` runs the script on a tree with a figure from code and a recorded one: (code, errors)."""
    (tmp_path / "constraints.txt").write_text((ROOT / "constraints.txt").read_text())
    small = Chart("small", [Panel("p", "x", "y", [Curve("a", [0, 1], [1 / 3, 2])])])
    charts = {"error": small, "bits": small}
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "FIGURES", tuple(figures.Entry(f"of/{name}", name, name == "bits") for name in charts))
    monkeypatch.setattr(figures, "make_chart", lambda name, request: charts[name])
    monkeypatch.setattr(figures, "figure_source", lambda words: {"command": f"qexp plot {' '.join(words)}"})
    monkeypatch.setattr(figures, "drawn_with", lambda: figures.version("matplotlib"))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["figures.py", *words])
        return figures.main(), capsys.readouterr().err

    run.charts, run.folder, run.small = charts, tmp_path / "docs" / "of", small
    return run


def test_a_chart_comes_back_from_its_file(figures):
    text = json.dumps(figures.as_data(EVERYTHING), default=list)
    back = figures.from_data(json.loads(text))
    assert numbers_csv(back) == numbers_csv(EVERYTHING)
    assert render(back).content == render(EVERYTHING).content


def test_figures_are_drawn_recorded_and_compared(drawing):
    code, errors = drawing("--record", "bits")
    assert (code, errors) == (0, "")
    assert sorted(path.name for path in drawing.folder.iterdir()) == ["bits.csv", "bits.json", "bits.svg"]
    assert drawing() == (0, "")
    assert (drawing.folder / "error.csv").read_text() == numbers_csv(drawing.small)
    assert b"qexp plot error" in (drawing.folder / "error.svg").read_bytes()
    assert drawing("--check") == (0, "")


def test_what_is_recorded_stays_when_its_runs_are_gone(drawing, figures, monkeypatch):
    drawing("--record", "bits")

    def gone(name, request):
        raise UsageError(f"no runs for {name}")

    monkeypatch.setattr(figures, "make_chart", gone)
    assert drawing("--only", "bits") == (0, "")
    assert drawing("--check", "--only", "bits") == (0, "")
    assert drawing("--check") == (1, "docs/of/error: no runs for error\n")


def test_what_is_out_of_date_is_told_and_nothing_is_written(drawing):
    drawing("--record", "bits")
    drawing()
    numbers, picture = drawing.folder / "error.csv", drawing.folder / "error.svg"
    before = numbers.read_text()
    numbers.write_text(before.replace("2,", "2.1,"))
    assert drawing("--check") == (
        1,
        "docs/of/error: error.csv: line 3 is p,a,1,2.1,,,, and p,a,1,2,,, now; make figures draws it\n",
    )
    assert "2.1," in numbers.read_text()
    numbers.write_text(before)
    picture.write_bytes(picture.read_bytes() + b" ")
    assert drawing("--check")[1] == (
        "docs/of/error: error.svg has the same numbers and looks otherwise; make figures draws it\n"
    )
    picture.unlink()
    assert drawing("--check")[1] == "docs/of/error: error.svg is missing; make figures draws it\n"
    (drawing.folder / "bits.json").unlink()
    assert "bits.json" in drawing("--check", "--only", "bits")[1]


def test_pictures_are_compared_where_their_numbers_are_the_same_to_the_last_digit(drawing):
    """Sums round otherwise on other machines; a picture of other digits has other bytes."""
    drawing("--record", "bits")
    drawing()
    numbers, picture = drawing.folder / "error.csv", drawing.folder / "error.svg"
    numbers.write_text(numbers.read_text().replace("0.3333333333333333", "0.3333333"))
    picture.write_bytes(picture.read_bytes() + b" ")
    assert drawing("--check") == (0, "")


def test_pictures_of_another_matplotlib_are_not_compared(drawing, figures, monkeypatch):
    drawing("--record", "bits")
    drawing()
    picture = drawing.folder / "error.svg"
    picture.write_bytes(picture.read_bytes() + b" ")
    monkeypatch.setattr(figures, "drawn_with", lambda: "1.0")
    assert drawing("--check") == (0, "")


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        ("a,1.0\n", "a,1.000001\n", None),
        ("a,0\n", "a,1e-9\n", None),
        ("a,nan\n", "a,nan\n", None),
        ("a,1.0\n", "a,1.001\n", "line 1 is a,1.0, and a,1.001 now"),
        ("a,1.0\n", "b,1.0\n", "line 1 is a,1.0, and b,1.0 now"),
        ("a,1\nb,2\n", "a,1\n", "2 lines, and 1 now"),
        ("a,1,2\n", "a,1\n", "line 1 is a,1,2, and a,1 now"),
    ],
)
def test_numbers_may_differ_by_their_rounding(figures, found, wanted, said):
    assert figures.difference(found, wanted) == said


def test_a_picture_without_numbers_is_compared_by_where_its_parts_lie(drawing, figures, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", (figures.Entry("of/error", "error", has_numbers=False),))
    charts, other = drawing.charts, "docs/of/error: error.svg looks otherwise; make figures draws it\n"

    def show(y, label="y"):
        charts["error"] = Chart("small", [Panel("p", "x", label, [Curve("a", [0, 1], [y, 2])])])

    show(0.4)
    drawing()
    assert [path.name for path in drawing.folder.iterdir()] == ["error.svg"]
    for y, said in ((0.4, (0, "")), (0.4 + 1e-7, (0, "")), (0.41, (1, other))):
        show(y)
        assert drawing("--check") == said
    show(0.4, "z")
    assert drawing("--check") == (1, other)
    monkeypatch.setattr(figures, "drawn_with", lambda: "1.0")
    assert drawing("--check") == (0, "")


def test_every_method_has_its_transfer_function_in_the_list(figures):
    """But the float net, which has none."""
    methods = {path.stem for path in (ROOT / "conf" / "quantizer").glob("*.yaml")} - {"fp"}
    assert set(figures.TRANSFERS) == methods | {"all"}


def test_what_is_committed_is_in_the_list_and_has_its_numbers(figures):
    """If this fails: make figures. Each picture as SVG is in the list, and has all its files."""
    assert {path.with_suffix("") for path in (ROOT / "docs").rglob("*.svg")} == {e.path("") for e in figures.FIGURES}
    for entry in figures.FIGURES:
        assert entry.path(".json").is_file() == entry.is_recorded
        assert entry.path(".csv").is_file() == entry.has_numbers
        if entry.is_recorded:
            kept = json.loads(entry.path(".json").read_text())
            assert entry.path(".csv").read_text() == numbers_csv(figures.from_data(kept["chart"]))
            assert kept["source"]["command"] == f"qexp plot {entry.words}"


def test_the_version_of_matplotlib_is_that_of_the_constraints(figures):
    assert f"matplotlib=={figures.drawn_with()}\n" in (ROOT / "constraints.txt").read_text()
