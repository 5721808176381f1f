"""`qexp plot weights RUN`: the weights of each layer on their levels."""

from qexp.figures import Chart
from qexp.figures.weight_panels import weights_chart
from qexp.quantizers import quantized_layers
from qexp.report.catalogue import Request
from qexp.report.run_network import network_of
from qexp.utils.errors import UsageError
from qexp.utils.text import few, one_line, printable


def make(request: Request) -> Chart:
    """Return the chart; raise UsageError."""
    found = network_of("weights", request)
    layers = [
        (name, layer.weight, layer.weight_quantizer)
        for name, layer in quantized_layers(found.model)
        if layer.weight_quantizer is not None
    ]
    asked = request.options.get("layers")
    wanted = [""] if asked is None else [part for part in asked.split(",") if part]
    shown = [layer for layer in layers if any(part in layer[0] for part in wanted)]
    if not layers:
        raise UsageError(f"no weights are quantized in {found.name}")
    if not shown:
        names = few([printable(name) for name, _, _ in layers], 8)
        raise UsageError(
            f"layers={one_line(asked or '')}: no layer with quantized weights is called so; there are {names}"
        )
    return weights_chart(f"Weights on their levels: {found.name}", shown, found.caption)
