"""Convolution and linear layers that hold a weight quantizer, an input quantizer and an output scale."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from qexp.quantizers.base import FLOAT_BITS, TINY, Quantizer


class QuantLayer(nn.Module, ABC):
    """What the two quantized layers share. Either quantizer may be None: that side stays float.

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

    def attach(self, weight_quantizer: Quantizer | None, input_quantizer: Quantizer | None, *, scale: bool) -> None:
        """Install the quantizers and, with `scale`, an output scale of 1."""
        self.weight_quantizer, self.input_quantizer = weight_quantizer, input_quantizer
        self.output_scale = nn.Parameter(torch.ones((), device=self.weight.device)) if scale else None
        self.recompute, self.cached_weight = False, None

    @property
    def weight_bits(self) -> int:
        """Bits of one stored weight."""
        return FLOAT_BITS if self.weight_quantizer is None else self.weight_quantizer.bits

    @abstractmethod
    def apply_operation(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve, or multiply."""

    def quantized_weight(self) -> Tensor:
        """Return the fake-quantized weight times the output scale.

        Scaling the small weight instead of the large output gives the same product, at a fraction of the memory.
        """
        if self.cached_weight is not None:
            return self.cached_weight
        if self.weight_quantizer is None:
            return self.weight if self.output_scale is None else self.weight * self.output_scale.abs()
        return self.weight_quantizer(self.weight, *self._scales())

    def _scales(self) -> list[Tensor]:
        return [] if self.output_scale is None else [self.output_scale]

    @property
    def _recomputes(self) -> bool:
        # torch.compile decides itself what to compute again.
        return self.recompute and torch.is_grad_enabled() and not torch.compiler.is_compiling()

    def forward(self, x: Tensor) -> Tensor:
        quantized = x if self.input_quantizer is None else self.input_quantizer(x)
        weight = self.quantized_weight()
        if not self._recomputes:
            return self.apply_operation(quantized, weight, self.bias)
        again: dict[int, Callable[[], Tensor]] = {}  # address of a tensor -> how backward computes it once more
        if self.input_quantizer is not None:
            again[quantized.data_ptr()] = partial(self.input_quantizer.requantize, x.detach())
        if self.weight_quantizer is not None and self.cached_weight is None:
            again[weight.data_ptr()] = partial(self.weight_quantizer.requantize, self.weight, *self._scales())

        def pack(tensor: Tensor) -> Tensor | tuple:
            make = again.get(tensor.data_ptr())
            # The operation may keep a view of it, such as the transposed weight of a linear layer.
            return tensor if make is None else (make, tensor.size(), tensor.stride())

        def unpack(kept: Tensor | tuple) -> Tensor:
            return kept if isinstance(kept, Tensor) else kept[0]().as_strided(*kept[1:])

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return self.apply_operation(quantized, weight, self.bias)

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


class QuantConv2d(QuantLayer, nn.Conv2d):
    """A 2-d convolution of quantized input and weight."""

    @classmethod
    def around(cls, layer: nn.Conv2d) -> "QuantConv2d":
        """Return a layer that shares the parameters of `layer`."""
        new = cls(
            layer.in_channels,
            layer.out_channels,
            cast(tuple[int, int], layer.kernel_size),
            cast(tuple[int, int], layer.stride),
            cast(tuple[int, int] | str, layer.padding),
            cast(tuple[int, int], layer.dilation),
            layer.groups,
            bias=layer.bias is not None,
            padding_mode=layer.padding_mode,
            device="meta",
        )
        new.weight, new.bias = layer.weight, layer.bias
        return new

    def apply_operation(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv_forward(x, weight, bias)


class QuantLinear(QuantLayer, nn.Linear):  # type: ignore[misc]
    """A linear layer of quantized input and weight."""

    @classmethod
    def around(cls, layer: nn.Linear) -> "QuantLinear":
        """Return a layer that shares the parameters of `layer`."""
        new = cls(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        new.weight, new.bias = layer.weight, layer.bias
        return new

    def apply_operation(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return nn.functional.linear(x, weight, bias)
