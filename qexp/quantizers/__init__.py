"""Quantizers, the methods that make them, and `quantize`, which puts them into a plain model."""

from qexp.quantizers.base import FLOAT_BITS, LayerInfo, Method, Quantizer, straight_through
from qexp.quantizers.br import BR
from qexp.quantizers.codes import codes_digest, codes_that_differ, pack_codes, packed_codes, weight_codes
from qexp.quantizers.conversion import Conversion, check_conversion
from qexp.quantizers.convert import (
    anneal,
    begin_part,
    cached_weights,
    calibrate,
    check_reached,
    evaluation,
    named_quantizers,
    penalty,
    quantize,
    quantized_layers,
    recompute,
)
from qexp.quantizers.coverage import Coverage, LayerCoverage
from qexp.quantizers.dampening import Dampening
from qexp.quantizers.daq import DAQ
from qexp.quantizers.dqa import DQA
from qexp.quantizers.exact import hard_evaluation
from qexp.quantizers.fp import FP
from qexp.quantizers.freezing import FIRST_THRESHOLD, Freezing
from qexp.quantizers.inspection import (
    has_soft_form,
    learned_bits,
    learns_bits,
    present_coverage,
    quantization_errors,
    stats,
    weight_levels,
    weight_memory_bytes,
)
from qexp.quantizers.layers import QuantConv2d, QuantLayer, QuantLinear, quantize_layer
from qexp.quantizers.norms import has_running_statistics, kept_norms, reestimate_norms
from qexp.quantizers.oscillation import OscillationMeter
from qexp.quantizers.parameter_groups import parameter_roles
from qexp.quantizers.ste import STE
from qexp.quantizers.thresholds import NearestThreshold, crowds, drawn_codes, nearest_threshold, nearest_thresholds
from qexp.quantizers.trial import check_method

__all__ = [
    "BR",
    "DAQ",
    "Conversion",
    "Coverage",
    "LayerCoverage",
    "DQA",
    "FIRST_THRESHOLD",
    "FLOAT_BITS",
    "FP",
    "STE",
    "Dampening",
    "Freezing",
    "LayerInfo",
    "Method",
    "NearestThreshold",
    "OscillationMeter",
    "QuantConv2d",
    "QuantLayer",
    "QuantLinear",
    "Quantizer",
    "anneal",
    "begin_part",
    "cached_weights",
    "calibrate",
    "check_conversion",
    "check_method",
    "check_reached",
    "codes_digest",
    "codes_that_differ",
    "crowds",
    "drawn_codes",
    "evaluation",
    "hard_evaluation",
    "has_running_statistics",
    "has_soft_form",
    "kept_norms",
    "learned_bits",
    "learns_bits",
    "named_quantizers",
    "pack_codes",
    "packed_codes",
    "nearest_threshold",
    "nearest_thresholds",
    "parameter_roles",
    "penalty",
    "present_coverage",
    "quantization_errors",
    "quantize",
    "quantize_layer",
    "quantized_layers",
    "recompute",
    "reestimate_norms",
    "stats",
    "straight_through",
    "weight_codes",
    "weight_levels",
    "weight_memory_bytes",
]
