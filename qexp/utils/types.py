"""Small shared types: value ranges for options, and the position inside a training."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal


@dataclass(frozen=True)
class Range:
    """Bounds of a numeric option; `above` is exclusive, the other two are inclusive."""

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf

    def problem(self, value: float) -> str | None:
        """Say what is wrong with `value`, or None."""
        if not math.isfinite(value):
            return "must be a finite number"
        if value <= self.above:
            return f"must be greater than {self.above:g}"
        if value < self.low:
            return f"must be at least {self.low:g}"
        if value > self.high:
            return f"must be at most {self.high:g}"
        return None


Count = Annotated[int, Range(low=1)]
NonNegativeInt = Annotated[int, Range(low=0)]
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(low=0)]
Fraction = Annotated[float, Range(low=0, high=1)]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Progress:
    """Where a training stands: `step` counts batches 1..steps, `epoch` counts 0..epochs-1."""

    step: int
    steps: int
    epoch: int
    epochs: int


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """How the parameters of one role are optimized."""

    name: Literal["sgd", "adam", "adamw"]
    lr: NonNegative
    momentum: Fraction  # for adam and adamw: beta1
    nesterov: bool
    weight_decay: NonNegative


@dataclass(frozen=True, kw_only=True)
class RoleOptimizers:
    """One optimizer per parameter role; `quantizer` serves every role that has no entry of its own."""

    weight: OptimizerOptions
    norm: OptimizerOptions
    range: OptimizerOptions
    scale: OptimizerOptions
    clip: OptimizerOptions
    attention: OptimizerOptions
    mask: OptimizerOptions
    bits: OptimizerOptions
    noise: OptimizerOptions
    quantizer: OptimizerOptions


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """Learning-rate factor over training; warm-up and restarts are fractions of all steps, milestones of a segment.

    Restarts cut training into segments, and `name` is the schedule of each; without any, training is the one segment.
    """

    name: Literal["cosine", "step", "constant"]
    warmup: Fraction
    milestones: tuple[Fraction, ...]
    factor: NonNegative
    end: Fraction  # of cosine: the factor after the last step
    restarts: tuple[Fraction, ...]
    own: dict[str, Any] | None  # a function of the user's own in place of `name`: its target and options
