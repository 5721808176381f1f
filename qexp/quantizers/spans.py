"""Spans: where a grid begins and ends, found from the tensor at hand or kept from earlier ones."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from qexp.quantizers.base import Part

TERNARY_THRESHOLD = 0.7  # times the mean absolute value (DQA, eq. 15)


class Span(Part):
    """Finds the lowest and the highest level of a grid. Passes the gradient of what it quantizes unchanged."""

    refresh_interval: ClassVar[int | None] = None  # steps between calibrations of a weight's span; None: only one

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (lower, upper), 0-dim, without gradient."""

    def calibrate(self, x: Tensor) -> None:
        """Set what the span keeps from `x`."""

    def carry(self, x: Tensor) -> Tensor:
        """Return `x` as the straight-through gradient sees it: a span that clips stops it, or takes it itself."""
        return x

    def stats(self) -> dict[str, Tensor]:
        """Return named 0-dim tensors to log."""
        return {}


class Unbounded(Span):
    """No ends: the span of full precision."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.new_full((), -torch.inf), x.new_full((), torch.inf)


class TensorRange(Span):
    """The smallest and largest value of the tensor at hand: the min-max range of a weight (DQA, eq. 10).

    The paper does not say whether the ends carry a gradient; here they are constants.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.aminmax(x)


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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training:
            return self.lower, self.upper
        lower, upper = torch.aminmax(x)
        self.lower.lerp_(lower.to(self.lower.dtype), self.momentum)
        self.upper.lerp_(upper.to(self.upper.dtype), self.momentum)
        return lower, upper

    def calibrate(self, x: Tensor) -> None:
        """Start the running range at that of `x`."""
        lower, upper = torch.aminmax(x)
        self.lower.copy_(lower)
        self.upper.copy_(upper)

    def stats(self) -> dict[str, Tensor]:
        return {"lower": self.lower, "upper": self.upper}


class AbsoluteMean(Span):
    """-beta and beta with beta = mean|x| over the whole tensor (BWN; DQA, eq. 14; one scale per tensor, as printed)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        beta = x.abs().mean()
        return -beta, beta


class KeptMean(Span):
    """-beta and beta with beta the mean of those |x| that exceed 0.7 mean|x| (TWN; DQA, eq. 15)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        size = x.abs()
        kept = (size > TERNARY_THRESHOLD * size.mean()).to(x.dtype)
        beta = (size * kept).sum() / kept.sum().clamp_min(1)
        return -beta, beta
