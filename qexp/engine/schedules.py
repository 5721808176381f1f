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


def make_schedule(options: ScheduleOptions, own: Schedule | None = None) -> Schedule:
    """Return the schedule that `options` name, or `own`, after a linear warm-up that begins just above 0."""

    def main(done: float) -> float:
        if own is not None:
            return own(done)
        if options.name == "step":
            return step_decay(done, options.milestones, options.factor)
        return cosine(done, end=options.end) if options.name == "cosine" else constant(done)

    def with_warmup(done: float) -> float:
        if done >= options.warmup:
            return main(done)
        return main(options.warmup) * max(done / options.warmup, 0.01)

    return with_warmup
