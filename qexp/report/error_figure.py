"""The figure `error`: the error of mixed weights against temperature, Figure 2 of the DQA paper."""

from qexp.figures.chart import Chart
from qexp.figures.mixing_error import mixing_error_chart
from qexp.report.catalogue import Request
from qexp.utils.errors import UsageError


def make(request: Request) -> Chart:
    """Return the chart; raise UsageError where words are given, of which it takes none."""
    if request.words:
        raise UsageError("error takes no words: all of it is fixed by the paper")
    return mixing_error_chart()
