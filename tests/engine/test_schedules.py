"""Schedules against their closed forms."""

import math

import pytest

from support.fitting import schedule


def test_schedules_are_closed_forms():
    """Cosine, the DQA paper's steps, and a warm-up that meets the main schedule."""
    assert [schedule("cosine")(done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [schedule("cosine", end=0.25)(done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.625, 0.25])
    assert [schedule("cosine", end=0.0)(done) for done in (0.1, 0.7)] == [
        0.5 * (1 + math.cos(math.pi * done)) for done in (0.1, 0.7)
    ]
    steps = schedule("step", milestones=(1 / 3, 2 / 3))
    assert [steps(epoch / 300) for epoch in (0, 99, 100, 199, 200, 299)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    warm = schedule("cosine", warmup=0.1)
    assert warm(0.05) == pytest.approx(0.5 * warm(0.1))
    assert 0 < warm(0.0) < 0.02
    assert warm(0.1) == pytest.approx(schedule("cosine")(0.1))
    ends_higher = schedule("cosine", warmup=0.1, end=0.25)
    assert ends_higher(0.05) == pytest.approx(0.5 * schedule("cosine", end=0.25)(0.1))


def test_a_schedule_of_ones_own_stands_in_the_place_of_the_named_one_after_the_warm_up():
    own = schedule("cosine", warmup=0.1, own=lambda done: 3 - done)
    assert [own(done) for done in (0.1, 0.5, 0.9)] == [2.9, 2.5, 2.1]
    assert own(0.05) == pytest.approx(0.5 * 2.9)
