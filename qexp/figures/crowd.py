"""The crowd at the thresholds: how many weights lie how near to one, beside what a smooth density would give."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from qexp.figures.chart import Chart, Curve, Panel

if TYPE_CHECKING:  # a chart of runs does not wait for torch
    from torch import Tensor

SMOOTH_WITHIN = 0.01  # steps, within which the density is taken to be even
COUNTED = (1e-6, 1e-5)  # steps
_DECADES, _PER_DECADE = 8, 10
GRID = [0.5 * 10 ** (at / _PER_DECADE - _DECADES) for at in range(_DECADES * _PER_DECADE + 1)]  # 5e-9 to 0.5 steps


def crowd_chart(title: str, distances: "Mapping[str, Tensor]", caption: Sequence[str] = ()) -> Chart:
    """Return the number of weights within a distance of their nearest threshold, over that distance.

    Beside it what an even density would give that has as many weights within 0.01 steps. A training that leaves weights
    on thresholds is above it at small distances (Nagel et al., ICML 2022, arXiv 2203.11086).

    Args:
        title: of the chart.
        distances: layer -> distance of each weight in steps; infinite where no threshold is near.
        caption: lines to be said besides.
    """
    counts = [_count(distances.values(), within) for within in GRID]
    even = _count(distances.values(), SMOOTH_WITHIN) / SMOOTH_WITHIN  # weights per step
    total = sum(own.numel() for own in distances.values())
    panel = Panel(
        "",
        "distance to the nearest threshold, in steps",
        "weights within it",
        [Curve("measured", GRID, counts), Curve("even density, as within 0.01", GRID, [even * at for at in GRID])],
        x_scale="log",
        y_scale="log",
        y_limits=(0.5, 2.0 * max(total, 1)),
    )
    told = [
        f"Within {within:g} steps: {_count(distances.values(), within):,}, where an even density gives "
        f"{even * within:,.2g}{_most(distances, within)}."
        for within in COUNTED
    ]
    return Chart(title, [panel], 1, [f"{total:,} quantized weights.", *told, *caption])


def _count(distances: "Iterable[Tensor]", within: float) -> int:
    return sum(int((own <= within).sum()) for own in distances)


def _most(distances: "Mapping[str, Tensor]", within: float) -> str:
    """Return which layer has the most of them."""
    name = max(distances, key=lambda one: _count([distances[one]], within))
    count = _count([distances[name]], within)
    return f"; most of them in {name}, {count:,} of {distances[name].numel():,}" if count else ""
