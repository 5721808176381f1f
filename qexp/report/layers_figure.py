"""`qexp plot layers RUN`: width, size and quantization error of each layer."""

from qexp.figures import Chart
from qexp.figures.layer_bars import LayerRow, layers_chart
from qexp.quantizers import quantization_errors
from qexp.report.catalogue import Request
from qexp.report.run_network import network_of


def make(request: Request) -> Chart:
    """Return the chart; raise UsageError."""
    found = network_of("layers", request)
    errors = quantization_errors(found.model)
    rows = [
        LayerRow(one.name, one.weights, one.weight_bits, one.input_bits, errors.get(one.name))
        for one in found.coverage.layers
    ]
    return layers_chart(f"Layers: {found.name}", rows, found.caption)
