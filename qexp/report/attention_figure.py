"""The figure `attention`: how the layers of a run came by their bit-widths, from what it wrote of each epoch."""

from collections.abc import Mapping
from typing import Any

from qexp.figures.attention import MixedLayer, attention_chart, widths_chart
from qexp.figures.chart import Chart
from qexp.quantizers import QuantLayer, quantized_layers
from qexp.quantizers.mixture import GridQuantizer
from qexp.report.catalogue import Request
from qexp.report.run_network import network_of
from qexp.report.series import selected_run
from qexp.runs.epoch_records import epoch_records
from qexp.utils.errors import UsageError
from qexp.utils.text import few, is_number, one_line, printable, suggest

LAYERS = "layers.jsonl"

Values = Mapping[int, Mapping[str, Any]]  # epoch -> `layer/side/what` -> value


def make(request: Request) -> Chart:
    """Return the chart; raise UsageError."""
    found = network_of("attention", request)
    entry = selected_run(request)
    layers = dict(quantized_layers(found.model))
    shown = printable(entry.key)
    if not (entry.path / LAYERS).is_file():
        raise UsageError(f"run {shown} has no {LAYERS}: it was trained before qexp wrote one")
    values = {
        epoch: own
        for epoch, record in epoch_records(entry.path, LAYERS).items()
        if _is_tree(own := record.get("values"))
    }
    mixed = [layer for name, one in layers.items() if (layer := _mixed(name, one, values))]
    if mixed:
        chosen = _chosen(mixed, request.options.get("layer"))
        return attention_chart(f"Attention: {found.name}", chosen, mixed, found.caption)
    widths = {name: own for name in layers if (own := _numbers(values, f"{name}/weight/bits"))}
    if not widths:
        raise UsageError(f"run {shown} has neither attention nor learned bit-widths in its {LAYERS}")
    if request.options.get("layer") is not None:
        raise UsageError("layer=: is for attention; widths are drawn of all layers")
    return widths_chart(f"Learned bit-widths: {found.name}", widths, found.caption)


def _is_tree(values: Any) -> bool:
    return isinstance(values, Mapping)


def _mixed(name: str, layer: QuantLayer, values: Values) -> MixedLayer | None:
    """Return what is known of the mix of a layer's weight; None where there is none."""
    quantizer = layer.weight_quantizer
    if not isinstance(quantizer, GridQuantizer) or len(quantizer.grids) == 1:
        return None
    count, begin = len(quantizer.grids), f"{name}/weight/"
    rows = [_numbers(values, f"{begin}attention_{k}") for k in range(count)]
    if not any(rows):
        lowest = _numbers(values, f"{begin}mix_lowest")  # BR: all others have the same share
        rows = [lowest, *[{epoch: (1 - own) / (count - 1) for epoch, own in lowest.items()}] * (count - 1)]
    epochs = sorted(set[int].intersection(*map(set, rows)))
    shares = {epoch: [row[epoch] for row in rows] for epoch in epochs}
    return MixedLayer(printable(name), shares, quantizer, layer.weight) if shares else None


def _numbers(values: Values, key: str) -> dict[int, float]:
    """Return epoch -> value, of the epochs that have a number of this name, NaN excluded."""
    return {epoch: float(own[key]) for epoch, own in values.items() if is_number(own.get(key))}


def _chosen(layers: list[MixedLayer], name: str | None) -> MixedLayer:
    """Return the layer that is asked for, the first by default; raise UsageError."""
    if name is None:
        return layers[0]
    for layer in layers:
        if layer.name == name:
            return layer
    names = [layer.name for layer in layers]
    raise UsageError(f"layer={one_line(name)}: mixes no grids{suggest(name, names)}; there are {few(names, 8)}")
