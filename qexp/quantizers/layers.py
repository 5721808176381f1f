"""Layers that hold a weight quantizer, an input quantizer and an output scale: convolutions of all kinds, and linear.

A float layer becomes one in place, by a change of its class: parameters, buffers, hooks, attributes and every name that
it has in its network stay what they are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from qexp.quantizers.base import FLOAT_BITS, TINY, Quantizer
from qexp.utils.text import plural


class QuantLayer(nn.Module):
    """What all quantized layers share. Either quantizer may be None: that side stays float.

    The output scale is one learned scalar beta; the layer uses |beta|.

    Attributes:
        recompute: keep neither the quantized input nor the quantized weight for the backward pass; quantize again.
        cached_weight: the quantized weight to use instead of quantizing, see `qexp.quantizers.cached_weights`.
    """

    weight: Tensor
    bias: Tensor | None
    weight_quantizer: Quantizer | None
    input_quantizer: Quantizer | None
    output_scale: nn.Parameter | None
    recompute: bool
    cached_weight: Tensor | None
    method_name: str

    def attach(
        self, weight_quantizer: Quantizer | None, input_quantizer: Quantizer | None, *, scale: bool, method: str = ""
    ) -> None:
        """Install the quantizers, of a method of this name, and with `scale` an output scale of 1."""
        self.weight_quantizer, self.input_quantizer = weight_quantizer, input_quantizer
        self.output_scale = nn.Parameter(torch.ones((), device=self.weight.device)) if scale else None
        self.recompute, self.cached_weight, self.method_name = False, None, method

    @property
    def weight_bits(self) -> int:
        """Bits of one stored weight."""
        return FLOAT_BITS if self.weight_quantizer is None else self.weight_quantizer.bits

    @property
    def input_bits(self) -> int:
        """Bits of one value of its input."""
        return FLOAT_BITS if self.input_quantizer is None else self.input_quantizer.bits

    def extra_repr(self) -> str:
        sides = (("weight", self.weight_quantizer), ("input", self.input_quantizer))
        told = [f"{side}={'float' if own is None else plural(own.bits, 'bit')}" for side, own in sides]
        return ", ".join([super().extra_repr(), *told, *([f"method={self.method_name}"] if self.method_name else [])])

    def apply_operation(self, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any, **named: Any) -> Tensor:
        """Convolve, or multiply: what the float layer does, with these in place of its own weight and bias."""
        with _in_place_of_own(self, weight, bias):
            return cast(Tensor, super().forward(x, *rest, **named))

    def quantized_weight(self) -> Tensor:
        """Return the fake-quantized weight times the output scale.

        Scaling the small weight instead of the large output gives the same product, at a fraction of the memory.
        """
        if self.cached_weight is not None:
            return self.cached_weight
        if self.weight_quantizer is None:
            return self.weight if self.output_scale is None else self.weight * self.output_scale.abs()
        return cast(Tensor, self.weight_quantizer(self.weight, *self._scales()))

    def _scales(self) -> list[Tensor]:
        return [] if self.output_scale is None else [self.output_scale]

    @property
    def _recomputes(self) -> bool:
        # torch.compile decides itself what to compute again.
        return self.recompute and torch.is_grad_enabled() and not torch.compiler.is_compiling()

    def forward(self, input: Tensor, *rest: Any, **named: Any) -> Tensor:  # torch's name, which a call may use
        quantized = input if self.input_quantizer is None else self.input_quantizer(input)
        weight = self.quantized_weight()
        if not self._recomputes:
            return self.apply_operation(quantized, weight, self.bias, *rest, **named)
        again: dict[int, Callable[[], Tensor]] = {}  # address of a tensor -> how backward computes it once more
        if self.input_quantizer is not None:
            again[quantized.data_ptr()] = partial(self.input_quantizer.requantize, input.detach())
        if self.weight_quantizer is not None and self.cached_weight is None:
            again[weight.data_ptr()] = partial(self.weight_quantizer.requantize, self.weight, *self._scales())

        def pack(tensor: Tensor) -> Tensor | tuple:
            make = again.get(tensor.data_ptr())
            # The operation may keep a view of it, such as the transposed weight of a linear layer.
            return tensor if make is None else (make, tensor.size(), tensor.stride())

        def unpack(kept: Tensor | tuple) -> Tensor:
            return kept if isinstance(kept, Tensor) else kept[0]().as_strided(*kept[1:])

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return self.apply_operation(quantized, weight, self.bias, *rest, **named)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Set ranges and output scale from the input `x`: beta = mean|conv(x, w)| / mean|conv(Q(x), Q(w))|."""
        if self.input_quantizer is not None:
            self.input_quantizer.calibrate(x)
        if self.weight_quantizer is not None:
            self.weight_quantizer.calibrate(self.weight)
        if self.output_scale is not None:
            self.output_scale.fill_(1.0)
            exact = self.apply_operation(x, self.weight, None).abs().mean()
            quantized = x if self.input_quantizer is None else self.input_quantizer(x)
            found = self.apply_operation(quantized, self.quantized_weight(), None).abs().mean()
            self.output_scale.copy_(exact / found.clamp_min(TINY))


@contextmanager
def _in_place_of_own(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> Iterator[None]:
    """Inside the block, `layer.weight` and `layer.bias` are these; an attribute of the object hides a parameter."""
    own = vars(layer)
    own["weight"], own["bias"] = weight, bias
    try:
        yield
    finally:
        del own["weight"], own["bias"]


class _QuantConv(QuantLayer):
    """The convolutions: torch's operation takes weight and bias as arguments."""

    def apply_operation(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return cast(Tensor, self._conv_forward(x, weight, bias))  # type: ignore[operator]


class QuantConv1d(_QuantConv, nn.Conv1d):
    """A 1-d convolution of quantized input and weight."""


class QuantConv2d(_QuantConv, nn.Conv2d):
    """A 2-d convolution of quantized input and weight."""


class QuantConv3d(_QuantConv, nn.Conv3d):
    """A 3-d convolution of quantized input and weight."""


class QuantConvTranspose1d(QuantLayer, nn.ConvTranspose1d):
    """A transposed 1-d convolution of quantized input and weight."""


class QuantConvTranspose2d(QuantLayer, nn.ConvTranspose2d):
    """A transposed 2-d convolution of quantized input and weight."""


class QuantConvTranspose3d(QuantLayer, nn.ConvTranspose3d):
    """A transposed 3-d convolution of quantized input and weight."""


class QuantLinear(QuantLayer, nn.Linear):  # type: ignore[misc]
    """A linear layer of quantized input and weight."""

    def apply_operation(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return nn.functional.linear(x, weight, bias)


KINDS: tuple[type[QuantLayer], ...] = (
    *(QuantConv1d, QuantConv2d, QuantConv3d),
    *(QuantConvTranspose1d, QuantConvTranspose2d, QuantConvTranspose3d),
    QuantLinear,
)


def float_class(kind: type[QuantLayer]) -> type[nn.Module]:
    """Return torch's own class of a kind of quantized layer: nn.Conv2d for QuantConv2d."""
    return cast(type[nn.Module], kind.__bases__[-1])


def kind_of(layer_class: type[nn.Module]) -> type[QuantLayer] | None:
    """Return the kind of quantized layer that a class of float layers can become; None for any other class."""
    found = [kind for kind in KINDS if issubclass(layer_class, float_class(kind))]
    return found[0] if found and not issubclass(layer_class, QuantLayer) else None


def has_own_forward(layer_class: type[nn.Module]) -> bool:
    """Whether a subclass of torch's layers computes its output in a way of its own."""
    kind = kind_of(layer_class)
    assert kind is not None
    usual = float_class(kind)
    return any(
        getattr(layer_class, name) is not getattr(usual, name)
        for name in ("forward", "_conv_forward")
        if hasattr(usual, name)
    )


@cache
def quantized_class(layer_class: Any) -> type[QuantLayer]:
    """Return the class that a float layer of `layer_class` gets; a subclass keeps all that it has of its own."""
    kind = kind_of(layer_class)
    assert kind is not None
    if layer_class is float_class(kind):
        return kind
    first = QuantLayer if has_own_forward(layer_class) else kind
    own = {"__doc__": kind.__doc__, "__module__": __name__, "__reduce_ex__": _reduced}
    return cast(type[QuantLayer], type(f"Quant{layer_class.__name__}", (first, layer_class), own))


def _reduced(layer: QuantLayer, _: Any) -> tuple[Any, ...]:
    """Return how to pickle or copy a layer whose class no module holds: by the class that it was made of."""
    return _empty, (type(layer).__bases__[1],), layer.__getstate__()


def _empty(layer_class: Any) -> QuantLayer:
    made = quantized_class(layer_class)
    return made.__new__(made)


def quantize_layer(
    layer: nn.Module,
    weight_quantizer: Quantizer | None,
    input_quantizer: Quantizer | None,
    *,
    scale: bool = False,
    method: str = "",
) -> QuantLayer:
    """Give a float layer its quantizers, in place, and return it; device and mode stay.

    Args:
        layer: of a class that `kind_of` knows.
        weight_quantizer: None leaves the weight float.
        input_quantizer: None leaves the input float.
        scale: learn an output scale.
        method: the name of the method, for people.
    """
    new = cast(QuantLayer, layer)
    new.__class__ = quantized_class(type(layer))  # type: ignore[arg-type]
    new.attach(weight_quantizer, input_quantizer, scale=scale, method=method)
    for own in (weight_quantizer, input_quantizer):
        if own is not None:
            own.to(new.weight.device).train(layer.training)
    return new
