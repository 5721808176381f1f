"""Iterative freezing: weights that oscillate too often keep their code for the rest of training.

Nagel et al., "Overcoming Oscillations in Quantization-Aware Training", ICML 2022 (arXiv 2203.11086), section 4.2 and
algorithm 1. After every update o = 1 where a code turned back, f = m * o + (1 - m) * f, and the codes are averaged in
the same way; where f exceeds a threshold, the weight is frozen at the rounded average of its code.

A decision of our own: the paper puts a frozen weight in the center of its bin. Where a range follows from the weights,
as DAQ's mean and deviation do, that moves the range, which moves the centers, and weights grow without end
(docs/design.md). So a frozen weight stays where it is, and is moved only as far as its code asks for: to a quarter of
the way from a threshold of its bin to the center. The code is the same.

A limit: where a range is that of the largest weight (min-max), to move that weight moves all bins, by more than a bin
if there are many. At 2 and 4 bits no frozen weight was seen with another code than its own; at 8 bits, at a high
learning rate that froze half of all weights within 60 updates, 5 % had one (12 % with ranges by channel), and to move
them again and again until all fit took accuracy with it. The code that is recorded is not changed by that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from qexp.quantizers.base import Bins, Quantizer
from qexp.quantizers.channels import values_at
from qexp.quantizers.codes import shift_of_codes, steady_codes_of
from qexp.quantizers.convert import quantized_layers
from qexp.quantizers.layers import QuantLayer
from qexp.quantizers.oscillation import moves

MOMENTUM = 0.01  # m, of both averages
FIRST_THRESHOLD = 0.1  # of the paper's schedules, all of which begin there


@dataclass
class CodeHistory:
    """What freezing remembers of the weights of a layer, each of the shape of the weight.

    Attributes:
        codes: after the last update, uint8; of a frozen weight, that at which it is frozen. They are `steady_codes`.
        direction: of the latest change of a code, int8.
        frequency: f, how often the code turns back, float32.
        average: moving average of the code, float32.
        frozen: whether a weight is frozen, bool.
    """

    codes: Tensor
    direction: Tensor
    frequency: Tensor
    average: Tensor
    frozen: Tensor

    @classmethod
    def beginning(cls, codes: Tensor) -> "CodeHistory":
        """Return that of weights that never moved."""
        average = codes.float()
        zeros = torch.zeros_like(average)
        return cls(codes, zeros.to(torch.int8), zeros, average, zeros.bool())

    def see(self, codes: Tensor, threshold: float) -> None:
        """Take note of the codes after an update, and freeze the weights that turned back too often."""
        codes = torch.where(self.frozen, self.codes, codes)
        moved = moves(codes, self.codes, self.direction)
        self.frequency = MOMENTUM * moved.turned_back.float() + (1 - MOMENTUM) * self.frequency
        self.average = MOMENTUM * codes.float() + (1 - MOMENTUM) * self.average
        is_new = self.frequency.gt(threshold) & ~self.frozen
        self.codes = torch.where(is_new, self.average.round().to(torch.uint8), codes)
        self.direction, self.frozen = moved.direction, self.frozen | is_new


def resting_places(bins: Bins) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest value of a frozen weight of each code; outside up to infinity.

    Each is (L,), or (..., L) where bins are by channel.
    """
    inf = torch.full_like(bins.centers[..., :1], torch.inf)
    lower = torch.cat([-inf, 0.75 * bins.thresholds + 0.25 * bins.centers[..., 1:]], -1)
    return lower, torch.cat([0.75 * bins.thresholds + 0.25 * bins.centers[..., :-1], inf], -1)


class Freezing:
    """Freezes weights of a model, before and after each update of its parameters.

    Args:
        model: with its quantizers; layers whose bins are not known are left alone.

    Attributes:
        threshold: f_th, which a schedule sets.
        history: layer name -> what is remembered; empty before the first update.
    """

    def __init__(self, model: nn.Module):
        self.layers = {name: layer for name, layer in quantized_layers(model) if _has_bins(layer)}
        self.threshold = FIRST_THRESHOLD
        self.history: dict[str, CodeHistory] = {}
        self._before: dict[str, Tensor] = {}

    @torch.no_grad()
    def before_update(self) -> None:
        """Take the gradient from frozen weights, and remember where they are."""
        for name, layer in self.layers.items():
            if name not in self.history:
                self.history[name] = CodeHistory.beginning(_codes(layer))
            if layer.weight.grad is not None:
                layer.weight.grad.masked_fill_(self.history[name].frozen, 0)
            self._before[name] = layer.weight.clone()

    @torch.no_grad()
    def after_update(self) -> None:
        """Put frozen weights back, freeze others, and keep all of them in their bins."""
        for name, layer in self.layers.items():
            own, weight = self.history[name], layer.weight
            weight.copy_(torch.where(own.frozen, self._before.pop(name), weight))  # decay and momentum moved them
            own.see(_codes(layer), self.threshold)
            assert layer.weight_quantizer is not None
            bins = layer.weight_quantizer.bins(weight)
            assert bins is not None
            codes = _present(own.codes, layer.weight_quantizer, bins.centers)
            lower, upper = (values_at(ends.to(weight.dtype), codes) for ends in resting_places(bins))
            weight.copy_(torch.where(own.frozen, weight.clamp(lower, upper), weight))

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return layer -> what is remembered of it."""
        return {name: vars(own).copy() for name, own in self.history.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Set it to what `state_dict` returned."""
        names = [field.name for field in fields(CodeHistory)]
        self.history = {
            name: CodeHistory(**{key: own[key].to(self.layers[name].weight.device) for key in names})
            for name, own in state.items()
        }


def _codes(layer: QuantLayer) -> Tensor:
    assert layer.weight_quantizer is not None
    return steady_codes_of(layer.weight_quantizer, layer.weight.detach())


def _present(codes: Tensor, quantizer: Quantizer, centers: Tensor) -> Tensor:
    """Return which of the centers steady codes stand for; those of levels that are gone for the outermost ones."""
    return (codes.int() - shift_of_codes(quantizer, centers)).clamp_(0, centers.shape[-1] - 1)


def _has_bins(layer: QuantLayer) -> bool:
    return layer.weight_quantizer is not None and layer.weight_quantizer.bins(layer.weight.detach()) is not None
