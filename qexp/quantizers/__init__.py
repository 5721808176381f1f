"""Quantizers, the methods that make them, and `quantize`, which puts them into a plain model."""

from qexp.quantizers.base import FLOAT_BITS, LayerInfo, Method, Quantizer, straight_through
from qexp.quantizers.br import BR
from qexp.quantizers.convert import (
    anneal,
    cached_weights,
    calibrate,
    evaluation,
    named_quantizers,
    penalty,
    quantize,
    quantized_layers,
    recompute,
)
from qexp.quantizers.dampening import Dampening
from qexp.quantizers.daq import DAQ
from qexp.quantizers.dqa import DQA
from qexp.quantizers.exact import hard_evaluation, weight_codes
from qexp.quantizers.fp import FP
from qexp.quantizers.freezing import FIRST_THRESHOLD, Freezing
from qexp.quantizers.inspection import has_soft_form, stats, weight_levels, weight_memory_bytes
from qexp.quantizers.layers import QuantConv2d, QuantLayer, QuantLinear
from qexp.quantizers.oscillation import OscillationMeter
from qexp.quantizers.parameter_groups import parameter_roles
from qexp.quantizers.ste import STE

__all__ = [
    "BR",
    "DAQ",
    "DQA",
    "FIRST_THRESHOLD",
    "FLOAT_BITS",
    "FP",
    "STE",
    "Dampening",
    "Freezing",
    "LayerInfo",
    "Method",
    "OscillationMeter",
    "QuantConv2d",
    "QuantLayer",
    "QuantLinear",
    "Quantizer",
    "anneal",
    "cached_weights",
    "calibrate",
    "evaluation",
    "hard_evaluation",
    "has_soft_form",
    "named_quantizers",
    "parameter_roles",
    "penalty",
    "quantize",
    "quantized_layers",
    "recompute",
    "stats",
    "straight_through",
    "weight_codes",
    "weight_levels",
    "weight_memory_bytes",
]
