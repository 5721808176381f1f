"""Words that every floor says."""

from qexp.utils.text import time_span


def test_a_time_is_told_in_the_unit_that_suits_it() -> None:
    times = [time_span(seconds) for seconds in (0.4, 89, 91, 89 * 60, 5400, 47 * 3600, 3 * 86400, 90 * 86400)]
    assert times == ["0 s", "89 s", "2 min", "89 min", "1.5 h", "47.0 h", "3.0 days", "90 days"]


def test_a_long_time_is_told_in_two_digits() -> None:
    days = (59.4, 61.4, 246.0, 364.0, 366.0, 2484.0, 7300.0, 40_000.0)
    expected = ["59 days", "61 days", "250 days", "360 days", "1.0 years", "6.8 years", "20 years", "110 years"]
    assert [time_span(one * 86400) for one in days] == expected
