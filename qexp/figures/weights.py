"""Weights on their levels: a histogram for each layer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qexp.figures.chart import Bars, Chart, Panel
from qexp.utils.text import plural

if TYPE_CHECKING:  # a chart of runs does not wait for torch
    from torch import Tensor

    from qexp.quantizers import Quantizer

BINS = 60
COLUMNS = 4


def weights_panel(name: str, weight: "Tensor", quantizer: "Quantizer") -> Panel:
    """Return the histogram of a layer's weights, with its levels as guides.

    The horizontal axis has the units of the weight: a level stands where its code is the nearest, also for a method
    that gives out other values (DAQ). Where each output channel has levels of its own, it is the position between
    them, in steps of its channel, the lowest level at 0. A method with uneven levels for each channel has no guides.

    Args:
        name: of the layer.
        weight: any shape; what is not finite is counted in the title, and left out.
        quantizer: of the weight, with its ranges.
    """
    values, levels = _on_levels(weight, quantizer)
    values = values.detach().flatten().double().cpu()
    finite = values[values.isfinite()]
    lost = len(values) - len(finite)
    title = f"{name}, {plural(quantizer.bits, 'bit')}" + (f", {lost:,} not finite" if lost else "")
    is_position = weight.dim() > 0 and levels is not None and levels.dim() > 1
    guides = list(map(float, range(levels.shape[-1]))) if is_position and levels is not None else _plain(levels)
    x_label = "position, in steps of the channel" if is_position else "weight"
    marks = [_histogram(finite, guides)] if len(finite) else []
    return Panel(title, x_label, "% of the weights", marks, guides=guides)


def _on_levels(weight: "Tensor", quantizer: "Quantizer") -> "tuple[Tensor, Tensor | None]":
    """Return what is counted, and the levels: (L,), or (..., L) where each channel has its own."""
    bins = quantizer.bins(weight)
    if bins is None:
        levels = quantizer.codes(weight)[1]
        return weight, levels if levels.dim() == 1 else None
    if bins.centers.dim() == 1:
        return weight, bins.centers
    return (weight.double() - bins.centers[..., 0]) / bins.step, bins.centers


def _plain(levels: "Tensor | None") -> list[float]:
    return [] if levels is None else [float(level) for level in levels.double().tolist()]


def _histogram(values: "Tensor", guides: Sequence[float]) -> Bars:
    low, high = min(float(values.min()), *guides[:1]), max(float(values.max()), *guides[-1:])
    room = 0.5 * max(abs(low), 1.0) if high <= low else 0.0  # all the same
    low, high = low - room, high + room
    counts = values.histc(BINS, low, high).tolist()
    edges = [low + (high - low) * at / BINS for at in range(BINS + 1)]
    return Bars("weights", edges, [100 * count / len(values) for count in counts])


def weights_chart(title: str, layers: "Sequence[tuple[str, Tensor, Quantizer]]", caption: Sequence[str] = ()) -> Chart:
    """Return a panel for each layer.

    Args:
        title: of the chart.
        layers: name, weight and its quantizer; at least one.
        caption: lines to be said below.
    """
    panels = [weights_panel(*layer) for layer in layers]
    told = "Dashed: the levels of the hard network."
    return Chart(title, panels, min(COLUMNS, len(panels)), [told, *caption])
