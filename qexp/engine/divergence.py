"""Notices a training that left the real numbers, or learns nothing, and says where."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from qexp.utils.errors import Diverged
from qexp.utils.types import Progress

WINDOW = 5  # epochs that are looked at together
SURE = 3.0  # standard errors above chance that count as having learned something


class NotFinite(ArithmeticError):
    """A loss was not finite: `value` in optimizer step `step`, counted from 1."""

    def __init__(self, step: int, value: float):
        super().__init__(f"the loss is {value:g}")
        self.step, self.value = step, value


class LossGuard:
    """Notices the first loss that is not finite.

    On the CPU before the step changes any weight. Elsewhere a look would wait for the device: there after every
    `interval` steps, and when asked.

    Args:
        device: of the losses.
        interval: steps between looks; None for at once on the CPU, and 50 elsewhere.
    """

    def __init__(self, device: torch.device, interval: int | None = None):
        self.step = 0  # steps that are done
        self._waits, self._interval = device.type != "cpu" or interval is not None, interval or 50
        self._first = torch.full((2,), -1.0, device=device)  # its step, its value

    def see(self, loss: Tensor) -> None:
        """Look at a loss (0-dim) of the step under way; raises NotFinite."""
        if not self._waits:
            if not math.isfinite(value := loss.item()):
                raise NotFinite(self.step + 1, value)
            return
        now = torch.stack([torch.full_like(loss, self.step + 1), loss]).to(self._first.dtype)
        is_first = (self._first[0] < 0) & ~torch.isfinite(loss)
        self._first = torch.where(is_first, now, self._first)

    def stepped(self) -> None:
        """Count a step; raises NotFinite."""
        self.step += 1
        if self._waits and self.step % self._interval == 0:
            self.check()

    def check(self) -> None:
        """Raise NotFinite where a loss since the start was not finite."""
        if self._waits:
            step, value = self._first.tolist()
            if step >= 0:
                raise NotFinite(int(step), value)


@contextmanager
def located(model: nn.Module, images: Tensor, now: Progress) -> Iterator[None]:
    """Turn a loss that is not finite inside the block into Diverged, which says where in training and in the network.

    Args:
        model: under training.
        images: of the step, (N, C, H, W), to look for the layer with.
        now: the step.
    """
    try:
        yield
    except NotFinite as error:
        epoch = (error.step - 1) * now.epochs // now.steps + 1
        cause = first_cause(model, images)
        raise Diverged(f"diverged in epoch {epoch}, step {error.step} of {now.steps}: {error}; {cause}") from None


@torch.no_grad()
def check_training(model: nn.Module, guard: LossGuard, where: str) -> None:
    """Raise Diverged, with `where` as its beginning, for a loss, parameter or buffer that is not finite."""
    try:
        guard.check()
    except NotFinite as error:
        raise Diverged(f"{where}, in step {error.step}: {error}") from None
    if named := _not_finite(model):
        raise Diverged(f"{where}: {_in_layers(named)}")


@torch.no_grad()
def first_cause(model: nn.Module, images: Tensor) -> str:
    """Return in words where values that are not finite come from: weights, the output of a layer, or the loss alone."""
    if named := _not_finite(model):
        return _in_layers(named)
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, tuple, object], None]:
        def hook(_: nn.Module, inputs: tuple, output: object) -> None:
            if not found and isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                found.append(name)

        return hook

    hooks = [module.register_forward_hook(look(name)) for name, module in model.named_modules() if name]
    try:
        model.forward(images)  # not model(): the hooks shall be called also where the network is compiled
    finally:
        for one in hooks:
            one.remove()
    return f"first in the output of {found[0]}" if found else "in no layer's output"


def _not_finite(model: nn.Module) -> list[str]:
    """Return the parameters and buffers that hold values that are not finite, in the order of the network."""
    named = [(name, value) for name, value in model.state_dict().items() if value.is_floating_point()]
    if not named:
        return []
    is_finite = torch.stack([torch.isfinite(value).all() for _, value in named]).tolist()
    return [name for (name, _), fine in zip(named, is_finite, strict=True) if not fine]


def _in_layers(named: list[str]) -> str:
    """Say which tensors are ruined; a bad gradient spreads from the last layer that has one to those before it."""
    others = f", nor are {len(named) - 1} tensors before it" if len(named) > 1 else ""
    return f"{named[-1]} is not finite{others}"


def unsettled_norms(train_top1: float, test_top1: float, classes: int) -> str | None:
    """Return what to say of a network that guesses where it is evaluated, though it has learned; None of any other.

    Batch norm takes the batch's own statistics in training and running ones in evaluation, which a short training with
    a small momentum leaves far behind.

    Args:
        train_top1: in percent.
        test_top1: the same.
        classes: as many as the network has outputs.
    """
    chance = 100 / classes
    learned, kept = train_top1 - chance, test_top1 - chance
    if learned < 30 or kept > 0.1 * learned:
        return None
    return (
        f"warning: test accuracy is at chance ({test_top1:.2f} %), training accuracy is not ({train_top1:.2f} %): the "
        "running statistics of batch norm may not have settled; recipe.norm_batches=16 estimates them again"
    )


class ChanceGuard:
    """Notices a training that stays at chance.

    Args:
        stuck_after: fraction of the epochs after which to judge, None for never.
        recent: (right answers, images) of the latest epochs of a training that resumes.
    """

    def __init__(self, stuck_after: float | None, recent: Iterable[tuple[int, int]] = ()):
        self.stuck_after = stuck_after
        self.recent = deque((tuple(pair) for pair in recent), maxlen=WINDOW)

    def see(self, correct: int, images: int, classes: int, epoch: int, epochs: int) -> None:
        """Count an epoch (from 1); raise Diverged if the last five together are no better than guessing."""
        self.recent.append((correct, images))
        if self.stuck_after is None or classes < 2 or len(self.recent) < WINDOW or epoch < self.stuck_after * epochs:
            return
        right, total = (sum(column) for column in zip(*self.recent, strict=True))
        chance = 1 / classes
        if right <= total * chance + SURE * math.sqrt(total * chance * (1 - chance)):
            raise Diverged(
                f"diverged by epoch {epoch}: stuck at chance; training top-1 of the last {WINDOW} epochs is "
                f"{100 * right / total:.2f} %, guessing gives {100 * chance:.4g} % (stuck_after=null trains on anyway)"
            )
