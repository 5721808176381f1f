"""One optimizer step: forward and backward over a batch, whole or in parts, in the precision asked for."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qexp.engine.divergence import LossGuard
from qexp.engine.optim import Optimizers
from qexp.utils.types import Precision

Criterion = Callable[[Tensor, Tensor], Tensor]  # (logits, labels) -> mean task loss


class Outcome(NamedTuple):
    """What a step saw: logits (N, classes), mean task loss, penalty."""

    logits: Tensor
    loss: Tensor
    penalty: Tensor | float


class Step:
    """Trains on one batch at a time.

    With `bfloat16` or `float16`, convolutions and matrix products of the forward pass are computed in that precision
    (torch's autocast) while weights, statistics and the loss stay in float32; float16 also scales the loss, and leaves
    out updates whose gradients overflow.

    Args:
        model: images to logits.
        criterion: the task loss.
        optimizers: of the model's parameters.
        penalty: a scalar to add to the loss.
        precision: of the forward pass.
        accumulate: parts that a batch is cut into, whose gradients add up to that of the batch; batch
            normalization sees the parts.
        hold: entered around the parts of a batch, for work on the weights that all of them share.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        criterion: Criterion,
        optimizers: Optimizers,
        penalty: Callable[[], Tensor | float] = lambda: 0.0,
        precision: Precision = "float32",
        accumulate: int = 1,
        hold: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.model, self.criterion, self.optimizers, self.penalty = model, criterion, optimizers, penalty
        self.accumulate, self.hold = accumulate, hold if accumulate > 1 else nullcontext
        device = next(model.parameters()).device.type
        self._autocast = torch.autocast(device, getattr(torch, precision), enabled=precision != "float32")
        self._scaler = torch.amp.GradScaler(device, enabled=precision == "float16")
        self.guard = LossGuard(next(model.parameters()).device)

    def __call__(self, images: Tensor, labels: Tensor) -> Outcome:
        """Update the parameters once; raises NotFinite, see `LossGuard`."""
        self.optimizers.zero_grad()
        with self.hold():
            outcome = self._backward(images, labels)
        self.optimizers.step(self._scaler)
        self.guard.stepped()
        return outcome

    def state_dict(self) -> dict[str, Any]:
        """Return the state of optimizers and scaler."""
        return {"optimizers": self.optimizers.state_dict(), "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any], done: int) -> None:
        """Set them to what `state_dict` returned after `done` steps."""
        self.optimizers.load_state_dict(state["optimizers"])
        self._scaler.load_state_dict(state["scaler"])
        self.guard.step = done

    def _backward(self, images: Tensor, labels: Tensor) -> Outcome:
        """Add up the gradients of loss and penalty over the parts of a batch."""
        all_logits, losses = [], []
        count = max(1, min(self.accumulate, len(images) // 2))  # batch norm cannot train on a single image
        parts = list(zip(images.tensor_split(count), labels.tensor_split(count), strict=True))
        for index, (part, part_labels) in enumerate(parts):
            with self._autocast:
                logits = self.model(part)
            loss = self.criterion(logits.float(), part_labels) * (len(part) / len(images))
            penalty = self.penalty() if index + 1 == len(parts) else 0.0
            total = loss + penalty
            self.guard.see(total.detach())
            self._scaler.scale(total).backward()
            all_logits.append(logits.detach())
            losses.append(loss.detach())
        if len(parts) == 1:
            return Outcome(all_logits[0], losses[0], penalty)
        return Outcome(torch.cat(all_logits), torch.stack(losses).sum(), penalty)


def cross_entropy(label_smoothing: float) -> Criterion:
    """Return the cross-entropy with label smoothing."""
    return nn.CrossEntropyLoss(label_smoothing=label_smoothing)
