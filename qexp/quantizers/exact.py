"""Hard evaluation of a whole network: weights quantized once, and sums that do not depend on their order.

Where some layers have quantized weights and inputs, evaluation is exact: the same logits, bit for bit, for every number
of threads and every size of batch.

quantized on both sides    whole numbers are multiplied in single precision, scales and offsets applied to the sum
any other layer            input and weight are rounded to some 22 bits and multiplied as whole numbers in double
batch norm                 x * scale + shift, both worked out in double; two operations, each rounded
average of all pixels      in double
all else                   as it is; element by element, that is exact as well

Other networks, float ones and those with quantized weights alone, would become several times slower. There the order of
sums is the library's, and all that is done is that a single image is evaluated beside a copy of itself: for a batch of
one, libraries sum in another order (docs/design.md).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qexp.quantizers.convert import quantized_layers
from qexp.quantizers.layers import QuantLayer
from qexp.quantizers.numerics import as_float
from qexp.quantizers.sums import (
    FixedPoint,
    double_convolution,
    fixed_point_bits,
    integer_sums,
    unfolded_size,
    window_totals,
)

MOST_VALUES = 2**18  # in double precision at once, of images taken apart into windows: 2 MB, which stay in the cache


@contextmanager
def hard_evaluation(model: nn.Module, codes: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """Inside the block, forward passes of `model` are those of the hard network, see above.

    Args:
        model: in evaluation mode.
        codes: layer name -> codes (uint8, of the shape of the weight) to use in place of the quantizer's own.
    """
    given = codes or {}
    with ExitStack() as after, torch.no_grad():
        form_of = _exact_form if _is_exact(model) else _plain_form
        for name, module in model.named_modules():
            before = vars(module).get("forward")
            if before is not None and not isinstance(before, _Form):
                continue  # somebody else's
            form = form_of(module, given.get(name))
            if form is not None:
                module.forward = form
                after.callback(_put_back, module, before)
        after.enter_context(torch.backends.nnpack.flags(enabled=False))  # its Winograd transforms are not exact
        if form_of is _plain_form:
            after.enter_context(_never_a_single_image(model))
        yield


def _put_back(module: nn.Module, forward: Any) -> None:
    del module.forward
    if forward is not None:
        module.forward = forward


def _is_exact(model: nn.Module) -> bool:
    """Whether the network has layers that multiply integers; MPS has no double precision for all the others."""
    return any(
        _has_integers(layer) and layer.weight.dtype == torch.float32 and layer.weight.device.type != "mps"
        for _, layer in quantized_layers(model)
    )


def _has_integers(layer: QuantLayer) -> bool:
    """Whether both sides of a layer are quantized to even levels."""
    sides = (layer.weight_quantizer, layer.input_quantizer)
    return all(quantizer is not None and quantizer.has_integers for quantizer in sides)


def _exact_form(module: nn.Module, codes: Tensor | None) -> "_Form | None":
    """Return the exact forward pass of a module of a kind that has one; a subclass may compute something else."""
    if isinstance(module, QuantLayer) and _has_integers(module):
        return _IntegerLayer(module, codes)
    if isinstance(module, nn.Conv2d | nn.Linear) and _computes_as(module, QuantLayer, nn.Conv2d, nn.Linear):
        return _DoubleLayer(module, codes)
    if isinstance(module, _BatchNorm) and module.running_mean is not None and _computes_as(module, _BatchNorm):
        return _AffineNorm(module)
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
        return _Average() if _computes_as(module, nn.AdaptiveAvgPool2d) else None
    return None


def _computes_as(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether the forward pass of a module is that of one of these classes."""
    return type(module).forward in [kind.forward for kind in kinds]


def _plain_form(module: nn.Module, codes: Tensor | None) -> "_Form | None":
    """Return the forward pass of a quantized layer."""
    return _ScaledSums(module, codes) if isinstance(module, QuantLayer) else None


def _weight(layer: nn.Conv2d | nn.Linear | QuantLayer, codes: Tensor | None) -> Tensor:
    """Return the weight of a layer, quantized, without its output scale."""
    quantizer = layer.weight_quantizer if isinstance(layer, QuantLayer) else None
    if quantizer is None:
        return layer.weight
    own, levels = quantizer.codes(layer.weight)
    return levels[(own if codes is None else codes).long()].to(layer.weight.dtype)


def _scale(layer: nn.Module) -> float:
    beta = layer.output_scale if isinstance(layer, QuantLayer) else None
    return 1.0 if beta is None else abs(beta.item())


def _with_bias(layer: nn.Conv2d | nn.Linear | QuantLayer, total: Tensor) -> Tensor:
    """Return total + bias, in place."""
    if layer.bias is None:
        return total
    return total.add_(layer.bias[:, None, None] if isinstance(layer, nn.Conv2d) else layer.bias)


class _Form(ABC):
    """What takes the place of a module's `forward`."""

    dimensions = 0  # of a batch; an input with fewer is taken for a single one

    @abstractmethod
    def batch(self, x: Tensor) -> Tensor:
        """Return the output for a batch."""

    def __call__(self, x: Tensor) -> Tensor:
        return self.batch(x) if x.dim() >= self.dimensions else self.batch(x[None])[0]


class _ScaledSums(_Form):
    """A layer in the library's order of summation, whose output scale is applied to the sum."""

    def __init__(self, layer: QuantLayer, codes: Tensor | None):
        self.layer, self.weight, self.scale = layer, _weight(layer, codes), _scale(layer)

    def batch(self, x: Tensor) -> Tensor:
        x = x if self.layer.input_quantizer is None else self.layer.input_quantizer(x)
        total = self.layer.apply_operation(x, self.weight, None)
        return _with_bias(self.layer, total if self.layer.output_scale is None else total.mul_(self.scale))


class _Average(_Form):
    """The average over all pixels, in double precision."""

    def batch(self, x: Tensor) -> Tensor:
        return x.double().mean((-2, -1), keepdim=True).to(x.dtype)


class _IntegerLayer(_Form):
    """A layer as sums of whole numbers.

    With x = a p + q and w = b r + s, of whole numbers a and b, the sum of x w over a window is
    p r sum(a b) + p s sum(a) + q r sum(b) + q s (values in the window), where padding is no value.
    """

    def __init__(self, layer: QuantLayer, codes: Tensor | None):
        assert layer.weight_quantizer is not None
        assert layer.input_quantizer is not None
        form = layer.weight_quantizer.integer_form(as_float(layer.weight))
        if codes is not None:
            form.codes.copy_(codes)
        self.layer, self.quantizer, self.scale = layer, layer.input_quantizer, _scale(layer)
        self.dimensions = 4 if isinstance(layer, nn.Conv2d) else 2
        self.weight, self.weight_scale, self.weight_offset = form.integers(), float(form.scale), float(form.offset)
        self.weight_sum = int(self.weight.abs().flatten(1).sum(1).max())
        self.largest = 2**self.quantizer.bits - 1

    def batch(self, x: Tensor) -> Tensor:
        form = self.quantizer.integer_form(as_float(x))
        scale, offset = form.scale * self.scale, form.offset
        integers = form.integers()
        total = self._sums(integers).mul_(scale * self.weight_scale)
        if self.weight_offset != 0:
            total.add_(self._window_sums(integers) * (scale * self.weight_offset))
        if isinstance(offset, Tensor) or offset != 0:
            ones = integers.new_ones(1, *integers.shape[1:])
            of_weights = self._sums(ones).mul_(self.weight_scale)
            of_ones = self._window_sums(ones).mul_(self.weight_offset)
            total.add_(of_weights.add_(of_ones).mul_(offset * self.scale))
        return _with_bias(self.layer, total.to(x.dtype))

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        if x.device.type != "cuda":
            return self.layer.apply_operation(x, weight, None)
        # Whole numbers up to 2,048 are values of TF32, whose sums are in single precision: exact, and several times
        # faster. Without it cuDNN may go by Winograd transforms, whose errors, below a half, are rounded off.
        now = torch.backends.cudnn
        kept = {"enabled": now.enabled, "benchmark": now.benchmark, "deterministic": now.deterministic}
        with now.flags(**kept, allow_tf32=True):
            return self.layer.apply_operation(x, weight, None).round_()

    def _sums(self, x: Tensor) -> Tensor:
        return integer_sums(self._product, x, self.weight, largest=self.largest, weight_sum=self.weight_sum)

    def _window_sums(self, x: Tensor) -> Tensor:
        """Return the sums of all that a weight is multiplied with; one channel is enough where all see the same."""
        if not isinstance(self.layer, nn.Conv2d):
            return x.sum(-1, keepdim=True)
        if self.layer.groups > 1:
            return self._product(x, torch.ones_like(self.weight))
        rows = x.permute(0, 2, 3, 1)  # a product is the fastest sum over the channels of a channels_last tensor
        by_pixel = (rows @ x.new_ones(x.shape[1])).unsqueeze(1)
        return window_totals(self.layer, by_pixel, pooled=x.device.type == "cuda")


class _DoubleLayer(_Form):
    """A layer whose factors are rounded to whole numbers of a power of two, and multiplied in double precision."""

    def __init__(self, layer: nn.Conv2d | nn.Linear | QuantLayer, codes: Tensor | None):
        self.layer = layer
        weight, self.scale = _weight(layer, codes), _scale(layer)
        self.dimensions = 4 if isinstance(layer, nn.Conv2d) else 2
        self.quantizer = layer.input_quantizer if isinstance(layer, QuantLayer) else None
        self.bits = fixed_point_bits(weight[0].numel())
        self.weight = FixedPoint.of(weight, self.bits)  # each filter by its own power of two
        self.unit = self.weight.unit.view(-1, 1, 1) if isinstance(layer, nn.Conv2d) else self.weight.unit.flatten()

    def batch(self, x: Tensor) -> Tensor:
        x = x if self.quantizer is None else self.quantizer(x)
        values = self.weight.integers[0].numel()
        if isinstance(self.layer, nn.Conv2d):
            values *= math.prod(unfolded_size(self.layer, x))
        return torch.cat([self._part(images) for images in x.split(max(1, MOST_VALUES // values))])

    def _part(self, x: Tensor) -> Tensor:
        values = FixedPoint.of(x, self.bits)
        if isinstance(self.layer, nn.Conv2d):
            total = double_convolution(self.layer, values.integers, self.weight.integers)
        else:
            total = nn.functional.linear(values.integers, self.weight.integers)
        total.mul_(self.scale / (values.unit * self.unit))
        return _with_bias(self.layer, total).to(x.dtype)


class _AffineNorm(_Form):
    """Batch normalization of evaluation as a product and a sum, in this order."""

    def __init__(self, norm: _BatchNorm):
        self.norm = norm

    def batch(self, x: Tensor) -> Tensor:
        norm = self.norm
        if norm.training:  # its statistics are being estimated again
            return type(norm).forward(norm, x)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = 1 / (norm.running_var.double() + norm.eps).sqrt()
        scale = scale if norm.weight is None else scale * norm.weight.double()
        shift = -norm.running_mean.double() * scale
        shift = shift if norm.bias is None else shift + norm.bias.double()
        shape = (-1, *[1] * (x.dim() - 2))
        return (x * scale.to(x.dtype).view(shape)).add_(shift.to(x.dtype).view(shape))


@contextmanager
def _never_a_single_image(model: nn.Module) -> Iterator[None]:
    """Inside the block, the network sees a batch of one image as that image and a copy of it."""
    single = False

    def double(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal single
        single = bool(inputs) and isinstance(inputs[0], Tensor) and inputs[0].shape[:1] == (1,)
        return (torch.cat([inputs[0]] * 2), *inputs[1:]) if single else inputs

    hooks = [
        model.register_forward_pre_hook(double),
        model.register_forward_hook(lambda _, __, output: _of_first(output) if single else output),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _of_first(output: Any) -> Any:
    """Return of a tensor, or tensors in tuples, lists and dictionaries, what is of the first image."""
    if isinstance(output, Tensor):
        return output[:1]
    if isinstance(output, dict):
        return {key: _of_first(value) for key, value in output.items()}
    return type(output)(map(_of_first, output)) if isinstance(output, tuple | list) else output
