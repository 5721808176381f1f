"""`qexp plot curves RUNS`: loss and top-1 over epochs."""

from qexp.figures import Chart
from qexp.figures.courses import curves_chart, measure
from qexp.report.catalogue import Request
from qexp.report.series import courses_of


def make(request: Request) -> Chart:
    """Return the chart; raise UsageError."""
    found = courses_of(request, measure("train", "loss"), "losses")
    return curves_chart(f"Loss and top-1 over epochs: {found.title}", found.series, found.caption)
