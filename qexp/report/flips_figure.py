"""`qexp plot flips RUNS`: weights that change level, per step and from epoch to epoch."""

from qexp.figures import Chart
from qexp.figures.courses import flips_chart, measure
from qexp.report.catalogue import Request
from qexp.report.series import courses_of


def make(request: Request) -> Chart:
    """Return the chart; raise UsageError."""
    found = courses_of(
        request, measure("oscillation", "changed"), "counts of weights that change level", with_float=False
    )
    return flips_chart(f"Weights that change level: {found.title}", found.series, found.caption)
