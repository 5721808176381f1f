"""Timing side by side, and the rows of the result."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Action = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One measured figure beside its goal: at most `goal`, or at least it where more is better."""

    section: str
    name: str
    value: float
    goal: float | None = None
    more_is_better: bool = False
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None or math.isnan(self.value):
            return None
        return self.value >= self.goal if self.more_is_better else self.value <= self.goal


def synchronize() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(action: Action) -> float:
    """Return how long `action` takes, its work on the device included."""
    synchronize()
    began = time.perf_counter()
    action()
    synchronize()
    return time.perf_counter() - began


def interleaved(actions: Mapping[str, Action], repeats: int, warmup: int = 2) -> dict[str, list[float]]:
    """Return the times of all actions, taken in turns, so that the machine's moods fall on all of them alike."""
    for _ in range(warmup):
        for action in actions.values():
            action()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            times[name].append(seconds(action))
    return times


def ratio(times: Mapping[str, list[float]], name: str, base: str) -> tuple[float, str]:
    """Return the median of the ratios of times taken one after the other, and a line with its times and quartiles."""
    pairs = sorted(a / b for a, b in zip(times[name], times[base], strict=True))
    low, high = pairs[len(pairs) // 4], pairs[-1 - len(pairs) // 4]
    first, second = (1000 * statistics.median(times[key]) for key in (name, base))
    detail = f"{first:.1f} / {second:.1f} ms, quartiles {low:.2f} to {high:.2f}, of {len(pairs)}"
    return statistics.median(pairs), detail
