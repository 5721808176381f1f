"""fp: the float network, as the method that quantizes nothing."""

from dataclasses import dataclass

from qexp.quantizers.base import LayerInfo, Method, Quantizer


@dataclass(frozen=True, kw_only=True)
class FP(Method):
    """Full precision: 32 bits and no other bit-width."""

    weight_bits = ()
    activation_bits = ()

    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> Quantizer:
        raise ValueError(f"fp has no {bits}-bit form")

    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> Quantizer:
        raise ValueError(f"fp has no {bits}-bit form")
