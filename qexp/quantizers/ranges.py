"""Range estimators: the lower and upper end of a tensor's clipping range, measured, averaged or searched."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from qexp.quantizers.base import Part
from qexp.quantizers.numerics import absolute_mean, mean_above, scalar, value_range

TERNARY_THRESHOLD = 0.7  # times the mean absolute value (DQA, eq. 15)


class RangeEstimator(Part):
    """Estimates lower and upper, the lowest and the highest level of a grid, and a threshold where the grid has one.

    Where an estimator `clips`, values outside of its range have no gradient; lower or upper receives it instead.
    """

    refresh_interval: ClassVar[int | None] = None  # steps between calibrations of a weight's range; None: only one
    clips: ClassVar[bool] = False

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return (lower, upper), or (lower, upper, threshold), each 0-dim; changes no state."""

    def update(self, bounds: tuple[Tensor, ...]) -> None:  # noqa: B027
        """Update running statistics with the (lower, upper) that `forward` returned for a training batch."""

    def calibrate(self, x: Tensor) -> None:
        """Set parameters and buffers from `x`."""

    def stats(self) -> dict[str, Tensor]:
        """Return named 0-dim tensors to log."""
        return {}


class NoRange(RangeEstimator):
    """No range: for full precision."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return ()


class MinMaxRange(RangeEstimator):
    """The smallest and largest value of the tensor at hand: the min-max range of a weight (DQA, eq. 10).

    The paper does not say whether lower and upper carry a gradient; here they are constants.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return value_range(x)


class RunningMinMaxRange(RangeEstimator):
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

    def update(self, bounds: tuple[Tensor, ...]) -> None:
        for kept, new in zip((self.lower, self.upper), bounds, strict=True):
            kept.lerp_(new.to(kept.dtype), self.momentum)

    def calibrate(self, x: Tensor) -> None:
        """Start the running range at that of `x`."""
        lower, upper = value_range(x)
        self.lower.copy_(lower)
        self.upper.copy_(upper)

    def stats(self) -> dict[str, Tensor]:
        return {"lower": self.lower, "upper": self.upper}


class BinaryRange(RangeEstimator):
    """-beta and beta with beta = mean|x| over the whole tensor (BWN; DQA, eq. 14; one scale per tensor, as printed)."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        beta = absolute_mean(x)
        return -beta, beta


class TernaryRange(RangeEstimator):
    """-beta, beta and 0.7 mean|x|, with beta the mean of those |x| that exceed it (TWN; DQA, eq. 15)."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        threshold = TERNARY_THRESHOLD * absolute_mean(x)
        beta = mean_above(x, scalar(threshold))
        return -beta, beta, threshold
