"""Spans: where a grid begins and ends, found from the tensor at hand or kept from earlier ones."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from qexp.quantizers.base import Part
from qexp.quantizers.blocks import absolute_mean, mean_above, scalar, value_range

TERNARY_THRESHOLD = 0.7  # times the mean absolute value (DQA, eq. 15)


class Span(Part):
    """Finds the lowest and the highest level of a grid, and what else decides between its levels.

    A span that `clips` stops the gradient of what lies outside of it, and gives that to its ends.
    """

    refresh_interval: ClassVar[int | None] = None  # steps between calibrations of a weight's span; None: only one
    clips: ClassVar[bool] = False

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return (lower, upper) and what else the grid asks for, 0-dim; a pure function of `x` and what is kept."""

    def observe(self, ends: tuple[Tensor, ...]) -> None:  # noqa: B027
        """Take note of the ends of a training batch."""

    def calibrate(self, x: Tensor) -> None:
        """Set what the span keeps from `x`."""

    def stats(self) -> dict[str, Tensor]:
        """Return named 0-dim tensors to log."""
        return {}


class Unbounded(Span):
    """No ends: the span of full precision."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return ()


class TensorRange(Span):
    """The smallest and largest value of the tensor at hand: the min-max range of a weight (DQA, eq. 10).

    The paper does not say whether the ends carry a gradient; here they are constants.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return value_range(x)


class RunningRange(Span):
    """The range of a layer's input: the batch's own while training, a running average of them in evaluation.

    The DQA paper is silent about activation ranges; this is the reading of batch norm, with its momentum of 0.1.
    """

    lower: Tensor
    upper: Tensor

    def __init__(self, momentum: float = 0.1):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("lower", torch.zeros(()))
        self.register_buffer("upper", torch.ones(()))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return value_range(x) if self.training else (self.lower, self.upper)

    def observe(self, ends: tuple[Tensor, ...]) -> None:
        for kept, new in zip((self.lower, self.upper), ends, strict=True):
            kept.lerp_(new.to(kept.dtype), self.momentum)

    def calibrate(self, x: Tensor) -> None:
        """Start the running range at that of `x`."""
        lower, upper = value_range(x)
        self.lower.copy_(lower)
        self.upper.copy_(upper)

    def stats(self) -> dict[str, Tensor]:
        return {"lower": self.lower, "upper": self.upper}


class AbsoluteMean(Span):
    """-beta and beta with beta = mean|x| over the whole tensor (BWN; DQA, eq. 14; one scale per tensor, as printed)."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        beta = absolute_mean(x)
        return -beta, beta


class KeptMean(Span):
    """-beta, beta and 0.7 mean|x|, with beta the mean of those |x| that exceed it (TWN; DQA, eq. 15)."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        threshold = TERNARY_THRESHOLD * absolute_mean(x)
        beta = mean_above(x, scalar(threshold))
        return -beta, beta, threshold
