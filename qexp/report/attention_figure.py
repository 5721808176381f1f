"""The figure `attention`: how the layers of a run came by their bit-widths, from what it wrote of each epoch."""

from qexp.figures.attention import MixedLayer, attention_chart, course_of, mixed_layer, widths_chart
from qexp.figures.chart import Chart
from qexp.quantizers import quantized_layers
from qexp.report.catalogue import Request
from qexp.report.run_network import network_of
from qexp.report.series import selected_run
from qexp.runs.epoch_records import LAYERS, layer_reports
from qexp.utils.errors import UsageError
from qexp.utils.text import few, one_line, printable, suggest


def make(request: Request) -> Chart:
    """Return the chart; raise UsageError."""
    found = network_of("attention", request)
    entry = selected_run(request)
    layers = dict(quantized_layers(found.model))
    shown = printable(entry.key)
    if not (entry.path / LAYERS).is_file():
        raise UsageError(f"run {shown} has no {LAYERS}: it was trained before qexp wrote one")
    reports = layer_reports(entry.path)
    weights = [(name, one.weight, one.weight_quantizer) for name, one in layers.items() if one.weight_quantizer]
    mixed = [layer for one in weights if (layer := mixed_layer(*one, reports))]
    if mixed:
        chosen = _chosen(mixed, request.options.get("layer"))
        return attention_chart(f"Attention: {found.name}", chosen, mixed, found.caption)
    widths = {name: own for name in layers if (own := course_of(reports, f"{name}/weight/bits"))}
    if not widths:
        raise UsageError(f"run {shown} has neither attention nor learned bit-widths in its {LAYERS}")
    if request.options.get("layer") is not None:
        raise UsageError("layer=: is for attention; widths are drawn of all layers")
    return widths_chart(f"Learned bit-widths: {found.name}", widths, found.caption)


def _chosen(layers: list[MixedLayer], name: str | None) -> MixedLayer:
    """Return the layer that is asked for, the first by default; raise UsageError."""
    if name is None:
        return layers[0]
    for layer in layers:
        if layer.name == name:
            return layer
    names = [layer.name for layer in layers]
    raise UsageError(f"layer={one_line(name)}: mixes no grids{suggest(name, names)}; there are {few(names, 8)}")
