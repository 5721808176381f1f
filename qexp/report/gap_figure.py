"""`qexp plot gap RUNS`: soft minus hard over epochs."""

from qexp.figures import Chart
from qexp.figures.courses import gap_chart, measure
from qexp.report.catalogue import Request
from qexp.report.series import courses_of


def make(request: Request) -> Chart:
    """Return the chart; raise UsageError."""
    found = courses_of(request, measure("gap"), "quantizer gaps", with_float=False)
    return gap_chart(f"Quantizer gap over epochs: {found.title}", found.series, found.caption)
