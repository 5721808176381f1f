"""Learning-rate factors and the like as pure functions of the fraction of training that is done, in [0, 1)."""

import math
from collections.abc import Callable

from qexp.utils.types import ScheduleOptions

Schedule = Callable[[float], float]


def constant(done: float) -> float:
    """Return 1."""
    return 1.0


def cosine(done: float, start: float = 1.0, end: float = 0.0) -> float:
    """Return half a cosine wave from `start` to `end`."""
    return end + (start - end) * (0.5 * (1 + math.cos(math.pi * done)))


def step_decay(done: float, milestones: tuple[float, ...], factor: float) -> float:
    """Return `factor` to the number of milestones passed."""
    return factor ** sum(done >= milestone for milestone in milestones)


def within_segment(done: float, restarts: tuple[float, ...]) -> float:
    """Return the fraction that is done of a segment of training, each of which begins at 0 or a restart.

    Args:
        done: the fraction of training that is done.
        restarts: fractions of training, rising, inside of (0, 1).
    """
    begin = max((restart for restart in restarts if restart <= done), default=0.0)
    end = min((restart for restart in restarts if restart > done), default=1.0)
    return (done - begin) / (end - begin)


def make_schedule(options: ScheduleOptions, own: Schedule | None = None) -> Schedule:
    """Return the schedule that `options` name, or `own`, after a linear warm-up that begins just above 0.

    What is named begins anew at every restart, with the fraction that is done of its segment; the warm-up is at the
    beginning of training alone, and `own` knows no restarts.
    """

    def main(done: float) -> float:
        if own is not None:
            return own(done)
        done = within_segment(done, options.restarts)
        if options.name == "step":
            return step_decay(done, options.milestones, options.factor)
        return cosine(done, end=options.end) if options.name == "cosine" else constant(done)

    def with_warmup(done: float) -> float:
        if done >= options.warmup:
            return main(done)
        return main(options.warmup) * max(done / options.warmup, 0.01)

    return with_warmup
