"""qexp: a config-driven experiment runner for quantization-aware training."""

__version__ = "0.1.0"
