"""Quantizers, the methods that make them, and `quantize`, which puts them into a plain model."""

from qexp.quantizers.base import FLOAT_BITS, LayerInfo, Method, Quantizer
from qexp.quantizers.br import BR
from qexp.quantizers.convert import (
    anneal,
    cached_weights,
    calibrate,
    evaluation,
    has_soft_form,
    named_quantizers,
    parameter_roles,
    penalty,
    quantize,
    quantized_layers,
    recompute,
    stats,
    weight_levels,
    weight_memory_bytes,
)
from qexp.quantizers.daq import DAQ
from qexp.quantizers.dqa import DQA
from qexp.quantizers.fp import FP
from qexp.quantizers.layers import QuantConv2d, QuantLayer, QuantLinear
from qexp.quantizers.ste import STE

__all__ = [
    "BR",
    "DAQ",
    "DQA",
    "FLOAT_BITS",
    "FP",
    "STE",
    "LayerInfo",
    "Method",
    "QuantConv2d",
    "QuantLayer",
    "QuantLinear",
    "Quantizer",
    "anneal",
    "calibrate",
    "evaluation",
    "has_soft_form",
    "cached_weights",
    "parameter_roles",
    "penalty",
    "quantize",
    "quantized_layers",
    "named_quantizers",
    "recompute",
    "stats",
    "weight_levels",
    "weight_memory_bytes",
]
