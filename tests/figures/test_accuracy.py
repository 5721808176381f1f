"""Accuracy against its cost: means, intervals against scipy, and the float line."""

import statistics

import pytest
from scipy import stats

from qexp.figures import Band, Curve, Dots
from qexp.figures.accuracy import Line, Measured, Subject, accuracy_chart, half_width, t_factor


@pytest.mark.parametrize("count", [2, 3, 4, 5, 10, 30, 200])
def test_the_factor_is_that_of_students_t(count: int) -> None:
    assert t_factor(count) == pytest.approx(stats.t.ppf(0.975, count - 1), rel=1e-6)


def test_a_single_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match="no interval"):
        t_factor(1)


def test_an_interval_is_the_deviation_or_that_of_the_mean() -> None:
    values = [97.2, 98.3, 97.8]
    assert half_width(values, "s") == pytest.approx(statistics.stdev(values))
    low, high = stats.t.interval(0.95, 2, statistics.fmean(values), stats.sem(values))
    assert half_width(values, "t") == pytest.approx((high - low) / 2, rel=1e-6)


def test_runs_are_dots_means_rings_with_intervals_and_float_a_line() -> None:
    runs = [Measured(2, 97.0, "a"), Measured(2, 98.0, "b"), Measured(2, 99.5, "c")]
    subject = Subject("net", [Line("daq", [[Measured(4, 99.0, "d")], runs])], {"float": [99.0, 99.4]})
    (panel,) = accuracy_chart("bits", [subject], "bits").panels
    band, line, curve, rings, dots = panel.marks
    assert [type(mark) for mark in panel.marks] == [Band, Curve, Curve, Dots, Dots]
    assert [list(line.x), list(line.y)] == [[2 / 1.15, pytest.approx(4.6)], [pytest.approx(99.2)] * 2]
    assert band.high[0] - band.low[0] == pytest.approx(2 * statistics.stdev([99.0, 99.4]))
    assert [list(curve.x), list(curve.y)] == [[2, 4], [pytest.approx(98.1666667), 99.0]]
    spread = statistics.stdev([97.0, 98.0, 99.5])
    assert (rings.is_hollow, list(rings.x), list(rings.notes)) == (True, [2], ["mean of 3 runs"])
    assert (rings.low[0], rings.high[0]) == (pytest.approx(98.1666667 - spread), pytest.approx(98.1666667 + spread))
    assert sorted(zip(dots.x, dots.y, dots.notes, strict=True)) == [
        (2, 97, "a"),
        (2, 98, "b"),
        (2, 99.5, "c"),
        (4, 99, "d"),
    ]
    assert panel.x_names == {2: "2", 4: "4"}


def test_single_runs_have_no_intervals_and_sizes_no_names() -> None:
    subject = Subject("net", [Line("daq", [[Measured(189.7, 97.0)], [Measured(300.5, 98.0)]])])
    chart = accuracy_chart("size", [subject], "kB", caption=["said"])
    assert [type(mark) for mark in chart.panels[0].marks] == [Curve, Dots]
    assert (chart.panels[0].x_names, chart.caption) == ({}, ["said"])
