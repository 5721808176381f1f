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

    shape: tuple[int, ...] = ()  # of each: () for one of the whole tensor, else see `qexp.quantizers.channels`

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return (lower, upper), or (lower, upper, threshold), each of `shape`; changes no state."""

    def update(self, bounds: tuple[Tensor, ...]) -> None:  # noqa: B027
        """Update running statistics with the (lower, upper) that `forward` returned for a training batch."""

    def calibrate(self, x: Tensor) -> None:
        """Set parameters and buffers from `x`."""

    def stats(self) -> dict[str, Tensor]:
        """Return named 0-dim tensors to log."""
        return {}


class WeightRange(RangeEstimator):
    """A range that follows from the weights at hand.

    Args:
        shape: of one number for each output channel, which is then quantized as a tensor of its own; () for one range.
    """

    def __init__(self, shape: tuple[int, ...] = ()):
        super().__init__()
        self.shape = shape


class NoRange(RangeEstimator):
    """No range: for full precision."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return ()


class MinMaxRange(WeightRange):
    """The smallest and largest value: the min-max range of a weight (DQA, eq. 10, whose range is the whole tensor's).

    The paper does not say whether lower and upper carry a gradient; here they are constants.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return value_range(x, self.shape)


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


class BinaryRange(WeightRange):
    """-beta and beta with beta = mean|x|.

    Over the whole tensor as DQA prints it (eq. 14); the BWN paper has one for each filter (Rastegari et al. 2016, arXiv
    1603.05279, algorithm 1).
    """

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        beta = absolute_mean(x, self.shape)
        return -beta, beta


class TernaryRange(WeightRange):
    """-beta, beta and 0.7 mean|x|, with beta the mean of those |x| that exceed it (TWN; DQA, eq. 15, per tensor)."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        threshold = TERNARY_THRESHOLD * absolute_mean(x, self.shape)
        beta = mean_above(x, scalar(threshold), self.shape)
        return -beta, beta, threshold
