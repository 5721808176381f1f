"""`qexp plot crowd RUN`: how many weights lie how near to a threshold."""

from qexp.figures import Chart
from qexp.figures.crowd import crowd_chart
from qexp.quantizers import nearest_thresholds
from qexp.report.catalogue import Request
from qexp.report.run_network import network_of
from qexp.utils.errors import UsageError


def make(request: Request) -> Chart:
    """Return the chart; raise UsageError."""
    found = network_of("crowd", request)
    distances = {name: near.distances for name, near in nearest_thresholds(found.model).items()}
    if not distances:
        raise UsageError(f"no quantized weights whose thresholds are known in {found.name}")
    return crowd_chart(f"Weights near a threshold: {found.name}", distances, found.caption)
