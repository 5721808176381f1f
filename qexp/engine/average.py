"""A moving average of the weights of a network under training, which takes their place where it is looked at."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import get_ema_multi_avg_fn


def decay_at(update: int, decay: float) -> float:
    """Return the decay of an update, counted from 1: min(decay, (1 + update) / (10 + update)).

    The beginning is forgotten sooner than `decay` says; TensorFlow's ExponentialMovingAverage with `num_updates`.
    """
    return min(decay, (1 + update) / (10 + update))


class WeightAverage:
    """An exponential moving average: of all parameters and, as in torchvision's and timm's, of running statistics.

    After every update average = d * average + (1 - d) * value. The other buffers of a network follow the step
    (temperatures) or were found for it (ranges): they are what they are. Training knows nothing of the average.

    Args:
        model: whose weights are averaged; on its device.
        decay: d of later updates, below 1; see `decay_at`.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model, self.decay, self.updates = model, decay, 0
        self._average = [value.clone() for value in self._values()]
        self._trained: list[Tensor] | None = None  # what the network is trained on, while the average is in its place

    def _values(self) -> list[Tensor]:
        """Return the tensors of the network that are averaged, without a graph."""
        norms = [module for module in self.model.modules() if isinstance(module, _NormBase)]
        statistics = [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
        return [*(parameter.detach() for parameter in self.model.parameters()), *statistics]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the values after an update of the parameters."""
        self.updates += 1
        get_ema_multi_avg_fn(decay_at(self.updates, self.decay))(self._average, self._values(), self.updates)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the network has the average; then again, bit for bit, what it is trained on."""
        if self._trained is not None:  # inside of another such block
            yield
            return
        self._trained = [value.clone() for value in self._values()]
        self.settle()
        try:
            yield
        finally:
            _copy(self._trained, self._values())
            self._trained = None

    def settle(self) -> None:
        """Give the network the average for good."""
        _copy(self._average, self._values())

    def state_dict(self) -> dict[str, Any]:
        """Return all that is not in the network; call it in a block of `in_place`, where that has the average."""
        assert self._trained is not None, "the average is in the network, and nowhere else"
        return {"updates": self.updates, "trained": self._trained}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set it to what `state_dict` returned; the network has the average before, and what it is trained on after."""
        self.updates = state["updates"]
        _copy(self._values(), self._average)
        _copy(state["trained"], self._values())


@torch.no_grad()
def _copy(values: list[Tensor], places: list[Tensor]) -> None:
    for value, place in zip(values, places, strict=True):
        place.copy_(value)
