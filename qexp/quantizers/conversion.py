"""Does a model stay what it is when its layers become quantized ones? Asked with quantizers that change nothing."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from qexp.quantizers.base import LayerInfo, Method, Quantizer
from qexp.quantizers.convert import quantize, quantized_layers
from qexp.quantizers.coverage import Coverage
from qexp.utils.text import few

TOLERANCE = 1e-5  # of the largest output
INFINITE = float("inf")


class _Unchanged(Quantizer):
    """Returns its tensor, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__(8)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise ValueError("full precision has no codes")


class _NoChange(Method):
    """The method of quantizers that change nothing."""

    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> Quantizer:
        return _Unchanged()

    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> Quantizer:
        return _Unchanged()


@dataclass(frozen=True)
class Conversion:
    """What `check_conversion` found.

    Attributes:
        coverage: what is quantized, what is left float, and why.
        uncalled: layers whose quantizers no evaluation asks.
        difference: the largest |difference| of an output to that of the float model, in training or evaluation mode.
        largest: the largest |output| of the float model.
        error: what the converted model raised; empty for nothing.
    """

    coverage: Coverage
    uncalled: tuple[str, ...] = field(default=())
    difference: float = 0.0
    largest: float = 0.0
    error: str = ""

    @property
    def problem(self) -> str:
        """Why the model cannot be quantized as it is, in one line; empty if it can."""
        if self.error:
            return self.error
        if self.uncalled:
            return f"{few(self.uncalled, 3)}: never asked for its quantized weight; leave it float by keep_float"
        if not self.difference <= TOLERANCE * self.largest:
            return f"outputs differ by {self.difference:.3g}, the largest being {self.largest:.3g}"
        return ""


def check_conversion(model: nn.Module, *example: Any, keep_float: Sequence[str] = (), seed: int = 0) -> Conversion:
    """Compare a model with itself when all its layers are quantized by quantizers that change nothing.

    The model stays as it is. Both modes are tried, each with the same random numbers for both models: training, and
    evaluation without gradients, where libraries take short cuts. Weights that are all zero, as of many last layers
    before training, are given values, since behind them nothing could be seen.

    Args:
        model: float.
        example: what it is called with; a first batch.
        keep_float: layers to leave alone, as in `quantize`.
        seed: of the random numbers.

    Raises:
        ValueError: an entry of keep_float that fits no layer, or nothing to quantize.
    """
    usual = _without_zeros(copy.deepcopy(model))
    converted = copy.deepcopy(usual)
    coverage = quantize(converted, _NoChange(), weight_bits=8, activation_bits=8, keep_float=keep_float)
    difference, largest = 0.0, 0.0
    try:
        for training in (True, False):
            for _, layer in quantized_layers(converted):
                cast(_Unchanged, layer.weight_quantizer).calls = 0
            pairs = list(zip(*(_outputs(own, example, training, seed) for own in (usual, converted)), strict=True))
            difference = max([difference, *(_distance(ours, theirs) for theirs, ours in pairs)])
            largest = max([largest, *(theirs.abs().max().item() for theirs, _ in pairs if theirs.numel())])
        layers = dict(quantized_layers(converted))
        uncalled = tuple(name for name, layer in layers.items() if not cast(_Unchanged, layer.weight_quantizer).calls)
    except Exception as error:  # of somebody's model
        return Conversion(coverage, error=f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")
    return Conversion(coverage, uncalled, difference, largest)


@torch.no_grad()
def _without_zeros(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.numel() and not parameter.any():
            parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def _outputs(model: nn.Module, example: Sequence[Any], training: bool, seed: int) -> list[Tensor]:
    with torch.random.fork_rng(), torch.set_grad_enabled(training):
        torch.manual_seed(seed)
        return [_as_real(found.detach()).double() for found in _tensors(model.train(training)(*example))]


def _as_real(value: Tensor) -> Tensor:
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of an output, whatever holds them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for own in value.values():
            yield from _tensors(own)
    elif isinstance(value, list | tuple):
        for own in value:
            yield from _tensors(own)


def _distance(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference; infinite for other shapes, and where only one of the two is a number."""
    if ours.shape != theirs.shape:
        return INFINITE
    if not ours.numel():
        return 0.0
    same = (ours == theirs) | (ours.isnan() & theirs.isnan())
    return (ours - theirs).abs().masked_fill(same, 0.0).nan_to_num(nan=INFINITE, posinf=INFINITE).max().item()
