"""Pictures of a training that has ended, for TensorBoard: transfer functions, weights on their levels, attention."""

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from qexp.figures import attention, chart, drawing, transfer
from qexp.figures.weights import weights_chart
from qexp.quantizers import Quantizer, quantized_layers
from qexp.runs.epoch_records import layer_reports
from qexp.utils.text import one_line

MOST_HISTOGRAMS = 6  # layers

_Layer = tuple[str, Tensor, Quantizer]


def run_pictures(model: nn.Module, run: Path, tell: Callable[[str], None]) -> Mapping[str, bytes]:
    """Return tag -> PNG of the layers of a network with quantized weights; none without matplotlib.

    What goes wrong is told and no more: the training has its result.

    Args:
        model: trained.
        run: its directory, which has what its layers reported.
        tell: shows one line.
    """
    if find_spec("matplotlib") is None:
        return {}
    try:
        layers = [
            (name, layer.weight.detach(), layer.weight_quantizer)
            for name, layer in quantized_layers(model)
            if layer.weight_quantizer is not None
        ]
        return {f"figures/{name}": drawing.render(one, "png").content for name, one in _charts(layers, run)}
    except Exception as error:  # of a method of somebody's, or of what draws
        tell(f"warning: no pictures in TensorBoard ({one_line(f'{type(error).__name__}: {error}')})")
        return {}


def _charts(layers: list[_Layer], run: Path) -> Iterator[tuple[str, chart.Chart]]:
    if not layers:
        return
    ends = layers[:: max(1, len(layers) - 1)]
    panels = [panel for one in ends for panel in _transfer_panels(*one)]
    told = f"Of layers with fewer than {transfer.VALUES:,} weights, values between them as well. Lines: thresholds."
    title = "What the quantizers of the first and the last layer do"
    yield "transfer", chart.Chart(title, panels, columns=2, caption=[told])
    every = -(-len(layers) // MOST_HISTOGRAMS)
    yield "weights", weights_chart("Weights on their levels", layers[::every])
    reports = layer_reports(run)
    mixed = [layer for one in layers if (layer := attention.mixed_layer(*one, reports))]
    if mixed:
        yield "attention", attention.attention_chart("Attention", mixed[0], mixed)
    widths = {name: own for name, _, _ in layers if (own := attention.course_of(reports, f"{name}/weight/bits"))}
    if widths:
        yield "bits", attention.widths_chart("Learned bit-widths", widths)


def _transfer_panels(name: str, weight: Tensor, quantizer: Quantizer) -> tuple[chart.Panel, chart.Panel]:
    """Return function and gradient for the weight that a layer has, at the end of all schedules."""
    bins = quantizer.bins(weight)
    is_by_channel = bins is None or bins.centers.dim() > 1
    found = transfer.transfer(quantizer, weight if is_by_channel else _denser(weight), moments={})
    return transfer.transfer_panels(found, name, x_label="weight")


def _denser(weight: Tensor) -> Tensor:
    """Return at least so many values as `transfer` shows well, those of a small layer with others in between."""
    values = weight.flatten().sort().values
    if len(values) >= transfer.VALUES:
        return weight
    place = torch.linspace(0, len(values) - 1, transfer.VALUES, device=weight.device)
    low = place.floor().long().clamp_max(len(values) - 2).clamp_min(0)
    return torch.lerp(values[low], values[(low + 1).clamp_max(len(values) - 1)], (place - low).to(values.dtype))
