"""Forward, backward and update of one batch, whole or in parts, in the precision asked for."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from qexp.engine.average import WeightAverage
from qexp.engine.divergence import LossGuard
from qexp.engine.optim import Optimizers
from qexp.utils.types import Precision

# (logits, labels or probabilities of the classes) -> mean task loss
Criterion = Callable[[Tensor, Tensor], Tensor]


class StepOutput(NamedTuple):
    """What a step saw: logits (N, classes), mean task loss, penalty."""

    logits: Tensor
    loss: Tensor
    penalty: Tensor | float


class BatchPart(NamedTuple):
    """Images (n, C, H, W) and labels of a part, its number from 0, its fraction of the batch, whether it is the last.

    Labels are (n,) int64, or of mixed images their probabilities (n, classes).
    """

    images: Tensor
    labels: Tensor
    number: int
    fraction: float
    is_last: bool


class WeightHook(Protocol):
    """Changes weights around the updates, and has a state."""

    def before_update(self) -> None:
        """Called when the gradients of a batch are there."""

    def after_update(self) -> None:
        """Called when the optimizers have changed the parameters."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Step:
    """Trains on one batch at a time: `forward` and `backward` for each of its parts, then `update`.

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
        cached_weights: entered around the parts of a batch, for work on the weights that all of them share.
        begin_part: is told the number of a part, from 0, where there are several.
        schedules: are told the fraction of training that is done, before each batch.
        freezing: changes weights around the updates; None for nothing.
        clip_norm: the largest norm of the gradients of a batch over all parameters, 0 for any.
        average: of the weights, over the updates; None for none.

    Attributes:
        output: of the latest batch.
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
        cached_weights: Callable[[], AbstractContextManager[None]] = nullcontext,
        begin_part: Callable[[int], None] = lambda part: None,
        schedules: Sequence[Callable[[float], None]] = (),
        freezing: WeightHook | None = None,
        clip_norm: float = 0.0,
        average: WeightAverage | None = None,
    ):
        self.model, self.criterion, self.optimizers, self.penalty = model, criterion, optimizers, penalty
        self.accumulate, self.cached_weights = accumulate, cached_weights if accumulate > 1 else nullcontext
        self.clip_norm, self.average, self.begin_part = clip_norm, average, begin_part
        self.schedules, self.freezing = (optimizers.set_learning_rates, *schedules), freezing
        device = next(model.parameters()).device
        self._autocast = torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        self.guard = LossGuard(device)
        self._outputs: list[StepOutput] = []

    def follow_schedules(self, done: float) -> None:
        """Set learning rates, and what else has a schedule, for the fraction of training that is done."""
        for schedule in self.schedules:
            schedule(done)

    def parts(self, images: Tensor, labels: Tensor) -> list[BatchPart]:
        """Return the parts of a new batch, and drop the gradients of the one before."""
        self.optimizers.zero_grad()
        self._outputs = []
        count = max(1, min(self.accumulate, len(images) // 2))  # batch norm cannot train on a single image
        pairs = zip(images.tensor_split(count), labels.tensor_split(count), strict=True)
        return [
            BatchPart(own, own_labels, index, len(own) / len(images), index + 1 == count)
            for index, (own, own_labels) in enumerate(pairs)
        ]

    def forward(self, part: BatchPart) -> Tensor:
        """Return task loss and penalty of a part; raises NotFinite, see `LossGuard`."""
        if self.accumulate > 1:
            self.begin_part(part.number)
        with self._autocast:
            logits = self.model(part.images)
        loss = self.criterion(logits.float(), part.labels) * part.fraction
        penalty = self.penalty() if part.is_last else 0.0
        total = loss + penalty
        self.guard.see(total.detach())
        self._outputs.append(StepOutput(logits.detach(), loss.detach(), penalty))
        return total

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those of the parts before it."""
        self._scaler.scale(loss).backward()

    def update(self) -> None:
        """Update the parameters once; raises NotFinite, see `LossGuard`.

        Neither freezing nor the average takes note of an update that was left out.
        """
        if self.clip_norm:
            self.optimizers.clip(self._scaler, self.clip_norm)
        if self.freezing:
            self.freezing.before_update()
        happened = self.optimizers.step(self._scaler)
        if (self.freezing or self.average) and happened:
            if self.freezing:
                self.freezing.after_update()
            if self.average:
                self.average.update()
        self.guard.stepped()

    def averaged(self) -> AbstractContextManager[None]:
        """Return a context in which the model has the average of its weights, where there is one."""
        return self.average.in_place() if self.average else nullcontext()

    def settle(self) -> None:
        """Give the model the average of its weights for good, where there is one: training is over."""
        if self.average:
            self.average.settle()

    @property
    def output(self) -> StepOutput:
        """What the latest batch gave."""
        if len(self._outputs) == 1:
            return self._outputs[0]
        logits, losses, penalties = zip(*self._outputs, strict=True)
        return StepOutput(torch.cat(logits), torch.stack(losses).sum(), penalties[-1])

    def state_dict(self) -> dict[str, Any]:
        """Return the state of optimizers and scaler, and of freezing and average where there are any."""
        own = {"optimizers": self.optimizers.state_dict(), "scaler": self._scaler.state_dict()}
        others = {"freezing": self.freezing, "average": self.average}
        return {**own, **{name: other.state_dict() for name, other in others.items() if other}}

    def load_state_dict(self, state: dict[str, Any], done: int) -> None:
        """Set them to what `state_dict` returned after `done` steps."""
        self.optimizers.load_state_dict(state["optimizers"])
        self._scaler.load_state_dict(state["scaler"])
        if self.freezing:
            self.freezing.load_state_dict(state["freezing"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.guard.step = done


def cross_entropy(label_smoothing: float) -> Criterion:
    """Return the cross-entropy with label smoothing."""
    return nn.CrossEntropyLoss(label_smoothing=label_smoothing)
