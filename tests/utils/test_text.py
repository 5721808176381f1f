"""Words that every floor says."""

from qexp.utils.text import time_span


def test_a_time_is_told_in_the_unit_that_suits_it() -> None:
    times = [time_span(seconds) for seconds in (0.4, 89, 91, 89 * 60, 5400, 47 * 3600, 3 * 86400, 90 * 86400)]
    assert times == ["0 s", "89 s", "2 min", "89 min", "1.5 h", "47.0 h", "3.0 days", "90 days"]
