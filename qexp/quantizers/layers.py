"""Convolution and linear layers that hold a weight quantizer, an input quantizer and an output scale."""

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from qexp.quantizers.base import FLOAT_BITS, Quantizer
from qexp.quantizers.functional import TINY


class QuantLayer(nn.Module, ABC):
    """What the two quantized layers share. Either quantizer may be None: that side stays float.

    The output scale is one learned scalar beta; the layer uses |beta|.
    """

    weight: Tensor
    bias: Tensor | None
    weight_quantizer: Quantizer | None
    input_quantizer: Quantizer | None
    output_scale: nn.Parameter | None

    def attach(self, weight_quantizer: Quantizer | None, input_quantizer: Quantizer | None, *, scale: bool) -> None:
        """Install the quantizers and, with `scale`, an output scale of 1."""
        self.weight_quantizer, self.input_quantizer = weight_quantizer, input_quantizer
        self.output_scale = nn.Parameter(torch.ones((), device=self.weight.device)) if scale else None

    @property
    def weight_bits(self) -> int:
        """Bits of one stored weight."""
        return FLOAT_BITS if self.weight_quantizer is None else self.weight_quantizer.bits

    def quantized_operands(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fake-quantized input and weight."""
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        weight: Tensor = self.weight if self.weight_quantizer is None else self.weight_quantizer(self.weight)
        return x, weight

    @abstractmethod
    def apply_operation(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve, or multiply."""

    def forward(self, x: Tensor) -> Tensor:
        x, weight = self.quantized_operands(x)
        if self.output_scale is None:
            return self.apply_operation(x, weight, self.bias)
        # Scaling the small weight instead of the large output is the same product, at a fraction of the memory.
        return self.apply_operation(x, weight * self.output_scale.abs().to(weight.dtype), self.bias)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Set ranges and output scale from the input `x`: beta = mean|conv(x, w)| / mean|conv(Q(x), Q(w))|."""
        if self.input_quantizer is not None:
            self.input_quantizer.calibrate(x)
        if self.weight_quantizer is not None:
            self.weight_quantizer.calibrate(self.weight)
        if self.output_scale is not None:
            exact = self.apply_operation(x, self.weight, None).abs().mean()
            quantized = self.apply_operation(*self.quantized_operands(x), None).abs().mean()
            self.output_scale.copy_(exact / quantized.clamp_min(TINY))


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
