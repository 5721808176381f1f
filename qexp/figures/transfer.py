"""What a quantizer makes of its input, and of a gradient that comes back: its transfer function as a chart.

The forms that training has at the beginning, in the middle and at the end of its schedules stand beside the hard one,
which evaluation has. Where they round alike there is one curve. Of a method that is random the mean over many draws is
shown, and the band that nine of ten draws lie in.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qexp.figures.chart import Band, Curve, Mark, Panel
from qexp.quantizers import Quantizer
from qexp.utils.types import Progress

VALUES = 2**13  # of the tensor that a quantizer without a network is calibrated on
PLACES = 240  # about so many of them are shown
DRAWS = 100  # of a method that is random
BAND = (0.05, 0.95)
MOST_GUIDES = 15  # thresholds of 4 bits
STEPS, EPOCHS = 30_000, 300

HARD = "evaluated (hard)"
MOMENTS: Mapping[str, Progress] = {
    "training, at the beginning": Progress(1, STEPS, 0, EPOCHS),
    "training, halfway": Progress(STEPS // 2, STEPS, EPOCHS // 2, EPOCHS),
    "training, at the end": Progress(STEPS, STEPS, EPOCHS - 1, EPOCHS),
}
ALWAYS = "training"
SLOPE = "d quantized / d input"


def normal_quantiles(count: int = VALUES) -> Tensor:
    """Return so many values that lie as standard normal ones do, from low to high: (count,); no random numbers."""
    return torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count).float()


@dataclass(frozen=True)
class Response:
    """What comes out at some places of the input, all of the shape (P,).

    Attributes:
        value: the quantized value; of a random method its mean.
        slope: d sum(q(x)) / dx, likewise; None where there is no gradient.
        value_band: (2, P), what nine of ten draws lie in; None where nothing is drawn.
        slope_band: likewise.
    """

    value: Tensor
    slope: Tensor | None = None
    value_band: Tensor | None = None
    slope_band: Tensor | None = None

    def equals(self, other: "Response") -> bool:
        """Whether value and slope are the same."""
        slopes = (self.slope, other.slope)
        is_one_slope = slopes[0] is slopes[1] or (None not in slopes and torch.equal(*slopes))  # type: ignore[arg-type]
        return torch.equal(self.value, other.value) and is_one_slope


@dataclass(frozen=True)
class Transfer:
    """A quantizer asked about a tensor.

    Attributes:
        x: (P,), rising, values of the tensor.
        hard: what evaluation makes of them.
        trained: what training does, by moments of it; one alone where they are all the same.
        thresholds: half-way between the neighbours whose hard values differ.
    """

    x: Tensor
    hard: Response
    trained: Mapping[str, Response]
    thresholds: Sequence[float]

    @property
    def is_random(self) -> bool:
        """Whether training draws, at one moment at least."""
        return any(own.value_band is not None for own in self.trained.values())


def transfer(quantizer: Quantizer, x: Tensor, *, moments: Mapping[str, Progress] = MOMENTS) -> Transfer:
    """Ask a quantizer about a tensor; the quantizer is calibrated, and stays as it is.

    The whole tensor is quantized, because ranges, means and deviations may be those of the tensor at hand; some of its
    values are shown, among them those on both sides of each threshold. Where each output channel has a range of its
    own, those of the first channel.

    Args:
        quantizer: of a weight or of a layer's input.
        x: what it quantizes, in the shape that the quantizer is made for.
        moments: of the training, by their names; none leaves the schedules where they are.
    """
    own, x = copy.deepcopy(quantizer), x.detach().cpu()
    own.cpu()
    with torch.random.fork_rng(devices=[]):
        hard = _hard(own, x)
        places = _places(x, hard)
        trained = _trained(own, x, places, moments)
    x, hard = x.flatten()[places], hard.flatten()[places]
    edges = (hard[1:] != hard[:-1]).nonzero()[:, 0]
    return Transfer(x, Response(hard), trained, ((x[edges] + x[edges + 1]) / 2).tolist())


@torch.no_grad()
def _hard(quantizer: Quantizer, x: Tensor) -> Tensor:
    quantizer.eval()
    quantizer.evaluation = "hard"
    return quantizer(x)


def _places(x: Tensor, hard: Tensor) -> Tensor:
    """Return where those values lie in the flat tensor that are shown, in the order of the values: (P,)."""
    count = x.numel() if x.dim() < 2 else x[0].numel()
    order = x.flatten()[:count].argsort(stable=True)
    rising, levels = x.flatten()[order], hard.flatten()[order]
    even = torch.linspace(float(rising[0]), float(rising[-1]), PLACES)
    near = torch.searchsorted(rising, even).clamp_max(count - 1)
    jumps = (levels[1:] != levels[:-1]).nonzero()[:, 0]
    found = torch.cat([near, jumps, jumps + 1]).unique()
    is_first = torch.ones_like(found, dtype=torch.bool)
    is_first[1:] = rising[found[1:]] != rising[found[:-1]]  # half of the inputs behind a ReLU are one value
    return order[found[is_first]]


def _trained(
    quantizer: Quantizer, x: Tensor, places: Tensor, moments: Mapping[str, Progress]
) -> Mapping[str, Response]:
    """Return the response at each moment; only one where it does not change, which is known before all are drawn."""
    quantizer.train()
    first = []
    for progress in moments.values() or (None,):
        _go_to(quantizer, progress)
        first.append(_response(quantizer, x, places, draws=1))
    if all(one.equals(first[0]) for one in first):
        return {ALWAYS: _drawn(quantizer, x, places) if quantizer.is_random else first[0]}
    if not quantizer.is_random:
        return dict(zip(moments, first, strict=True))
    found = {}
    for name, progress in moments.items():
        _go_to(quantizer, progress)
        found[name] = _drawn(quantizer, x, places)
    return found


def _go_to(quantizer: Quantizer, progress: Progress | None) -> None:
    quantizer.noise.go_to(0)
    if progress is not None:
        quantizer.anneal(progress)


def _drawn(quantizer: Quantizer, x: Tensor, places: Tensor) -> Response:
    """Return the response of a random method, unless nothing is random at this moment."""
    found = _response(quantizer, x, places, draws=2)
    return found if found.value_band is None else _response(quantizer, x, places, draws=DRAWS)


def _response(quantizer: Quantizer, x: Tensor, places: Tensor, *, draws: int) -> Response:
    values, slopes = [], []
    for step in range(draws):
        quantizer.noise.go_to(step)
        leaf = x.clone().requires_grad_()
        value = quantizer(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
        values.append(value.detach().flatten()[places])
        slopes.append(slope.flatten()[places])
    value, slope = torch.stack(values).double(), torch.stack(slopes).double()
    if torch.equal(value, value[:1].expand_as(value)) and torch.equal(slope, slope[:1].expand_as(slope)):
        return Response(value[0].float(), slope[0].float())
    limits = torch.tensor(BAND, dtype=torch.float64)
    bands = value.quantile(limits, dim=0), slope.quantile(limits, dim=0)
    return Response(value.mean(0).float(), slope.mean(0).float(), *(band.float() for band in bands))


def transfer_panels(found: Transfer, what: str, *, x_label: str) -> tuple[Panel, Panel]:
    """Return two panels: the value, and the gradient.

    Args:
        found: of a quantizer.
        what: the beginning of their titles, such as `weights`.
        x_label: of the input.
    """
    x = found.x.tolist()
    values, slopes = _marks(HARD, x, found.hard.value, None), list[Mark]()
    for name, own in found.trained.items():
        if not torch.equal(own.value, found.hard.value) or own.value_band is not None:
            values += _marks(name, x, own.value, own.value_band)
        assert own.slope is not None, "training has a gradient"
        slopes += _marks(name, x, own.slope, own.slope_band)
    guides = found.thresholds if len(found.thresholds) <= MOST_GUIDES else ()
    return (
        Panel(f"{what}: value", x_label, "quantized", values, guides=guides),
        Panel(f"{what}: gradient", x_label, SLOPE, slopes, guides=guides, y_limits=_from_zero(slopes)),
    )


def _marks(name: str, x: list[float], y: Tensor, band: Tensor | None) -> list[Mark]:
    if band is None:
        keep = _corners(y)
        return [Curve(name, [x[place] for place in keep], y[keep].tolist())]
    return [Band(name, x, band[0].tolist(), band[1].tolist()), Curve(name, x, y.tolist())]


def _from_zero(marks: Sequence[Mark]) -> tuple[float, float]:
    """Return limits around all that is drawn, and zero: a gradient is small or large beside none."""
    found = [0.0]
    for mark in marks:
        found += mark.y if isinstance(mark, Curve) else [*mark.low, *mark.high] if isinstance(mark, Band) else []
    margin = 0.08 * (max(found) - min(found)) or 1.0
    return min(found) - margin, max(found) + margin


def _corners(y: Tensor) -> list[int]:
    """Return the places of a curve without those inside a level piece of it."""
    same = y[1:] == y[:-1]
    inside = torch.zeros_like(y, dtype=torch.bool)
    inside[1:-1] = same[1:] & same[:-1]
    return (~inside).nonzero()[:, 0].tolist()
