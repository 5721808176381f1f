"""How layers come by their bit-widths while they train: attention over grids, or widths that are learned.

Of a mix of grids: the share of each in one layer over the epochs, what the mix makes of a weight at several moments
(Figure 3 of the DQA paper, arXiv 2103.13322), and the share of the lowest grid in every layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qexp.figures.chart import Band, Chart, Curve, Dots, Mark, Panel
from qexp.quantizers import FLOAT_BITS, Quantizer
from qexp.quantizers.mixture import GridQuantizer
from qexp.utils.text import is_number, plural, printable

MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the epochs
PLACES = 400  # of a weight, from the smallest to the largest
EVERY = "every layer"
LIMITS = (-0.03, 1.03)  # of a share


Reports = Mapping[int, Mapping[str, Any]]  # epoch -> `layer/side/what` -> value, as layers.jsonl has it
Shares = Mapping[int, Sequence[float]]  # epoch -> the share of each grid, lowest bit-width first


@dataclass(frozen=True)
class MixedLayer:
    """A layer whose weight is a mix of grids.

    Attributes:
        name: of the layer.
        shares: of its grids, over the training.
        quantizer: with its grids and ranges.
        weight: that its ranges are of.
    """

    name: str
    shares: Shares
    quantizer: GridQuantizer
    weight: Tensor


def course_of(reports: Reports, name: str) -> dict[int, float]:
    """Return epoch -> what was reported under a name, where that is a number; NaN is none."""
    return {epoch: float(own[name]) for epoch, own in reports.items() if is_number(own.get(name))}


def mixed_layer(name: str, weight: Tensor, quantizer: Quantizer, reports: Reports) -> MixedLayer | None:
    """Return what is known of the mix of a layer's weight; None where there is none.

    Args:
        name: of the layer.
        weight: of the layer.
        quantizer: of the weight.
        reports: of the training. DQA reports every share, BR that of the lowest grid: all others have the same.
    """
    if not isinstance(quantizer, GridQuantizer) or len(quantizer.grids) == 1:
        return None
    count, begin = len(quantizer.grids), f"{name}/weight/"
    rows = [course_of(reports, f"{begin}attention_{k}") for k in range(count)]
    if not any(rows):
        lowest = course_of(reports, f"{begin}mix_lowest")
        rows = [lowest, *[{epoch: (1 - own) / (count - 1) for epoch, own in lowest.items()}] * (count - 1)]
    epochs = sorted(set[int].intersection(*map(set, rows)))
    shares = {epoch: [row[epoch] for row in rows] for epoch in epochs}
    return MixedLayer(printable(name), shares, quantizer, weight) if shares else None


def attention_chart(title: str, shown: MixedLayer, layers: Sequence[MixedLayer], caption: Sequence[str] = ()) -> Chart:
    """Return the chart of one layer's mix, beside the share of the lowest grid in all of them.

    Args:
        title: of the chart.
        shown: the layer.
        layers: all that are mixed, `shown` among them.
        caption: lines to be said below.
    """
    told = [
        "Range of the weight: from the smallest to the largest at the end of the training, which is not known of "
        "earlier moments; so are clips and other ranges of its grids.",
    ]
    return Chart(
        title,
        [attention_panel(shown), mixed_panel(shown), _lowest_panel(layers)],
        columns=3,
        caption=[*told, *caption],
    )


def grid_name(bits: int) -> str:
    """Return what a grid is called: `2 bits`, `float`."""
    return "float" if bits >= FLOAT_BITS else plural(bits, "bit")


def attention_panel(layer: MixedLayer) -> Panel:
    """Return the share of each grid over the epochs."""
    epochs = sorted(layer.shares)
    names = [grid_name(grid.bits) for grid in layer.quantizer.grids]
    rows = zip(*(layer.shares[epoch] for epoch in epochs), strict=True)
    marks = [Curve(name, epochs, list(row)) for name, row in zip(names, rows, strict=True)]
    return Panel(
        *(f"{layer.name}: share of each grid", "epoch", "share in the mix", marks),
        y_limits=LIMITS,
        x_is_whole=True,
    )


def mixed_panel(layer: MixedLayer) -> Panel:
    """Return what the mix makes of a weight, at several moments of the training."""
    x, grids = _on_grids(layer.quantizer, layer.weight)
    marks = [
        Curve(f"epoch {epoch}", x.tolist(), (torch.tensor(layer.shares[epoch]) @ grids).tolist())
        for epoch in moments(sorted(layer.shares))
    ]
    return Panel(f"{layer.name}: the mixed weight", "weight", "quantized", marks)


def moments(epochs: Sequence[int]) -> list[int]:
    """Return those of some rising epochs that are nearest to the beginning, the quarters and the end of the last."""
    wanted = [share * epochs[-1] for share in MOMENTS]
    return list(dict.fromkeys(min(epochs, key=lambda epoch: abs(epoch - own)) for own in wanted))


@torch.no_grad()
def _on_grids(quantizer: GridQuantizer, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return values from the smallest weight to the largest, (P,), and what each grid makes of them, (K, P).

    Where each output channel has a range of its own, that of the first.
    """
    weight = weight.detach().float().cpu()
    members = quantizer.members
    own = weight[0] if members[0].range_estimator.shape else weight
    x = torch.linspace(float(own.min()), float(own.max()), PLACES)
    bounds = [[end.flatten()[0] for end in member.range_estimator(weight)] for member in members]
    made = [member.grid.scaled(ends).to_levels(x) for member, ends in zip(members, bounds, strict=True)]
    return x, torch.stack(made)


def _lowest_panel(layers: Sequence[MixedLayer]) -> Panel:
    marks = [
        Curve(EVERY, epochs := sorted(layer.shares), [layer.shares[epoch][0] for epoch in epochs], note=layer.name)
        for layer in layers
    ]
    return Panel(
        f"share of the lowest grid, {plural(len(layers), 'layer')}",
        *("epoch", "share in the mix", marks),
        y_limits=LIMITS,
        x_is_whole=True,
    )


def widths_chart(title: str, widths: Mapping[str, Mapping[int, float]], caption: Sequence[str] = ()) -> Chart:
    """Return the bit-widths that layers learn.

    Args:
        title: of the chart.
        widths: layer -> epoch -> bits.
        caption: lines to be said below.
    """
    epochs = sorted(set[int].intersection(*(set(own) for own in widths.values())))
    columns = [[own[epoch] for own in widths.values()] for epoch in epochs]
    mean = "mean of the layers"
    marks: list[Mark] = [
        Curve(EVERY, sorted(own), [own[epoch] for epoch in sorted(own)], is_steps=True, note=name)
        for name, own in widths.items()
    ]
    marks += [
        Band(mean, epochs, [min(own) for own in columns], [max(own) for own in columns]),
        Curve(mean, epochs, [sum(own) / len(own) for own in columns]),
    ]
    last = [own[max(own)] for own in widths.values()]
    places = [float(at) for at in range(len(widths))]
    limits = (0.0, 1 + max(bits for own in widths.values() for bits in own.values()))
    at_end = Panel(
        *("at the end", "layer", "bits"),
        [Dots("bits at the end", places, last, notes=list(widths))],
        x_names=dict(zip(places, widths, strict=True)),
        y_limits=limits,
    )
    course = Panel("over the training", "epoch", "bits", marks, x_is_whole=True, y_limits=limits)
    told = (
        "Lines: the layers, which lie on each other where they have the same bits. Band: from the fewest to the most."
    )
    return Chart(title, [course, at_end], columns=2, caption=[told, *caption])
