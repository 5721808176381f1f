"""Courses over epochs: means and bands against the statistics module, and what is left out."""

import math
import statistics

import pytest

from qexp.figures import Band, Curve, Dots
from qexp.figures.courses import MOST_NAMED, Series, course_panel, curves_chart, flips_chart, gap_chart, measure
from qexp.quantizers.oscillation import WATCHED_STEPS


def records(*top1: float | None, first: int = 1) -> dict[int, dict]:
    return {epoch: {"epoch": epoch, "hard": {"top1": value}} for epoch, value in enumerate(top1, first)}


TOP1 = measure("hard", "top1")


def test_a_line_is_the_mean_and_a_band_the_sample_deviation_where_all_runs_have_a_value() -> None:
    runs = [records(10.0, 20.0, 31.0, 40.0), records(11.0, 24.0, 30.0), records(15.0, None, 35.0, 41.0)]
    panel = course_panel("t", "%", [Series("a", runs)], TOP1)
    band, line = panel.marks
    assert isinstance(band, Band)
    assert isinstance(line, Curve)
    assert (line.label, list(line.x)) == ("a", [1, 3])
    groups = ([10.0, 11.0, 15.0], [31.0, 30.0, 35.0])
    assert list(line.y) == [statistics.fmean(own) for own in groups]
    assert list(band.low) == [statistics.fmean(own) - statistics.stdev(own) for own in groups]
    assert list(band.high) == [statistics.fmean(own) + statistics.stdev(own) for own in groups]


def test_a_single_run_has_no_band_and_a_single_epoch_is_a_dot() -> None:
    panel = course_panel("t", "%", [Series("a", [records(1.0, 2.0)]), Series("b", [records(3.0)])], TOP1)
    assert [type(mark) for mark in panel.marks] == [Curve, Dots]
    assert panel.x_is_whole


@pytest.mark.parametrize("wrong", [math.nan, math.inf, None, "98", True, [1], {"a": 1}])
def test_what_is_no_number_is_left_out(wrong: object) -> None:
    found = {**records(1.0, 2.0), 3: {"epoch": 3, "hard": {"top1": wrong}}, 4: {"hard": wrong}, 5: {}}
    (line,) = course_panel("t", "%", [Series("a", [found])], TOP1).marks
    assert list(line.x) == [1, 2]
    assert course_panel("t", "%", [Series("a", [{1: {"hard": {"top1": wrong}}}])], TOP1).marks == []


def test_an_epoch_that_no_training_reaches_is_left_out() -> None:
    found = {**records(1.0, 2.0), 10**400: {"hard": {"top1": 3.0}}}
    assert list(course_panel("t", "%", [Series("a", [found])], TOP1).marks[0].x) == [1, 2]


def test_each_chart_shows_what_its_records_have() -> None:
    record = {
        "train": {"loss": 0.5, "top1": 80.0},
        "hard": {"loss": 0.6, "top1": 70.0},
        "soft": {"loss": 0.4, "top1": 75.0},
        "gap": 5.0,
        "oscillation": {"changed": 3.0, "turned_back": 1.5},
    }
    series = [Series("a", [{1: record, 2: record}])]
    found = {
        chart.title: [panel.marks[0].y[0] for panel in chart.panels]
        for chart in (curves_chart("curves", series), gap_chart("gap", series), flips_chart("flips", series))
    }
    assert found == {"curves": [0.5, 80.0, 0.6, 70.0], "gap": [5.0, 75.0], "flips": [3.0, 1.5]}


def test_steps_stand_before_epochs_where_they_were_watched() -> None:
    per_step = {"changed_per_step": 0.25, "turned_back_per_step": 0.125}
    new = {"oscillation": {"changed": 3.0, "turned_back": 1.5, **per_step}}
    old = {"oscillation": {"changed": 4.0, "turned_back": 2.0}}
    chart = flips_chart("", [Series("new", [{1: new, 2: new}]), Series("old", [{1: old, 2: old}])])
    drawn = [[(mark.label, mark.y[-1]) for mark in panel.marks] for panel in chart.panels]
    both = [[("new", 3.0), ("old", 4.0)], [("new", 1.5), ("old", 2.0)]]
    assert drawn == [[("new", 0.25)], [("new", 0.125)], *both]
    assert f"Per step: codes after each of the last {WATCHED_STEPS} steps" in " ".join(chart.caption)
    alone = flips_chart("", [Series("old", [{1: old, 2: old}])])
    assert len(alone.panels) == 2
    assert "Per step" not in " ".join(alone.caption)


def test_the_caption_tells_of_seeds_and_of_names_that_are_missing() -> None:
    one, three = Series("a", [records(1.0, 2.0)]), Series("b", [records(1.0, 2.0)] * 3)
    assert curves_chart("", [one]).caption == []
    (told,) = curves_chart("", [one, three]).caption
    assert told == "Lines: mean over 3 seeds, where all have a value; bands: ± sample standard deviation."
    many = [Series(str(at), [records(1.0, 2.0)]) for at in range(MOST_NAMED + 1)]
    assert curves_chart("", many).caption == ["17 lines are more than a legend has room for; the numbers name each."]
    assert "is not seen" in " ".join(flips_chart("", [one]).caption)
