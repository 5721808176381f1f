"""Ends a training whose accuracy on held-out images no longer rises (Prechelt, Early Stopping - But When?, 1998)."""

from dataclasses import dataclass, replace

from qexp.utils.callback import Metrics


@dataclass(frozen=True)
class EarlyStop:
    """How good the best epoch was, and whether a training has waited long enough for a better one.

    Attributes:
        patience: epochs without a better one after which training ends, 0 for never.
        top1: hard top-1 of the best epoch on the held-out images, in percent; below 0 before there is one.
        epoch: its number, counted from 1; the first of several.
    """

    patience: int = 0
    top1: float = -1.0
    epoch: int = 0

    def after(self, held_out: Metrics | None, epoch: int) -> "EarlyStop":
        """Return what is known after an epoch, counted from 1."""
        if held_out is None or held_out.top1 <= self.top1:
            return self
        return replace(self, top1=held_out.top1, epoch=epoch)

    def ends(self, epochs: int) -> bool:
        """Whether training ends after so many epochs."""
        return self.patience > 0 and epochs - self.epoch >= self.patience
