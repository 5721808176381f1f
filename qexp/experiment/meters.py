"""What is measured of codes and layers while a network trains."""

from collections.abc import Callable

from torch import nn

from qexp import quantizers
from qexp.experiment.session import Session
from qexp.utils.text import few


def calibrated_meter(session: Session, tell: Callable[[str], None], *, is_new: bool) -> quantizers.OscillationMeter:
    """Return a meter of codes, which of a new run knows those that training begins with.

    The network is calibrated before, unless a saved state or its start has the ranges.
    """
    if not session.is_calibrated and is_new:
        silent = quantizers.calibrate(session.model, next(iter(session.train_batches.epoch(0)))[0])
        if silent:
            told = "their input is 0 in the whole first batch, and their ranges come from it; they may let nothing pass"
            tell(f"warning: {few(silent)}: {told}")
    meter = quantizers.OscillationMeter(session.model)
    if is_new:
        meter.measure()
    return meter


def layer_report(model: nn.Module, meter: quantizers.OscillationMeter) -> dict[str, float]:
    """Return what the quantizers of all layers tell, how far weights are from their levels, and how many moved."""
    errors = {f"{name}/weight/error": error for name, error in quantizers.quantization_errors(model).items()}
    return {**quantizers.stats(model), **errors, **meter.layers}
