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


def test_a_cosine_begins_anew_at_every_restart():
    """Segments from 0 to 0.2, 0.6 and 1; at 0.3 a quarter of the second is done."""
    cosine = schedule("cosine", restarts=(0.2, 0.6))
    quarter = 0.5 * (1 + math.sqrt(0.5))
    expected = {0.0: 1, 0.1: 0.5, 0.2: 1, 0.3: quarter, 0.4: 0.5, 0.6: 1, 0.7: quarter, 0.8: 0.5, 1.0: 0}
    assert {done: cosine(done) for done in expected} == pytest.approx(expected)
    assert cosine(0.2 - 1e-9) == pytest.approx(0)
    assert schedule("cosine", restarts=(0.2, 0.6), end=0.25)(0.6 - 1e-9) == pytest.approx(0.25)


def test_steps_begin_anew_with_milestones_of_the_segment():
    """Halves of training, and a milestone at half of each: a tenth in the second and in the last quarter."""
    steps = schedule("step", milestones=(0.5,), restarts=(0.5,))
    assert [steps(step / 8) for step in range(8)] == pytest.approx([1, 1, 0.1, 0.1, 1, 1, 0.1, 0.1])


def test_the_warm_up_is_at_the_beginning_of_training_alone():
    """It meets the first segment at 0.1, a fifth of it: 0.5 * (1 + cos 36 degrees)."""
    warm = schedule("cosine", warmup=0.1, restarts=(0.5,))
    assert [warm(done) for done in (0.05, 0.1, 0.25, 0.5)] == pytest.approx([0.4522542, 0.9045085, 0.5, 1])
    assert warm(0.525) == pytest.approx(schedule("cosine")(0.05))


def test_without_restarts_the_rates_are_bit_for_bit_what_they_were():
    for name in ("cosine", "step"):
        found = schedule(name, milestones=(0.3,), restarts=())
        plain = {"cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)), "step": lambda done: 0.1 ** (done >= 0.3)}
        assert [found(step / 7) for step in range(7)] == [plain[name](step / 7) for step in range(7)]


def test_a_schedule_of_ones_own_stands_in_the_place_of_the_named_one_after_the_warm_up():
    own = schedule("cosine", warmup=0.1, own=lambda done: 3 - done)
    assert [own(done) for done in (0.1, 0.5, 0.9)] == [2.9, 2.5, 2.1]
    assert own(0.05) == pytest.approx(0.5 * 2.9)
