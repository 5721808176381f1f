"""The loss around the weights of a network, along two random directions, and how rough it is.

Source: Li et al., Visualizing the Loss Landscape of Neural Nets, 2017 (arXiv 1712.09913), as DQA's Figure 4 uses it.
Each filter of a direction has the norm of that filter of the weight; biases and the numbers of norms do not move. What
is moved is the float weight: it is quantized after that, with the range that it then has.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import isfinite
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qexp.figures.chart import Chart, Curve, Numbers, Panel, Surface
from qexp.quantizers import kept_norms, quantized_layers
from qexp.quantizers.base import TINY, Part
from qexp.quantizers.channels import channel_shape, other_axes
from qexp.utils.errors import UsageError

Grid = Sequence[Numbers]  # z[i][j] at (x[j], y[i])
Form = Callable[[], AbstractContextManager[None]]  # within it the weights are quantized in some way, or not at all
Each = Callable[[Sequence[tuple[float, float]]], Iterable[tuple[float, float]]]


def random_direction(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Return a filter-normalized random direction: name of a weight -> tensor of its shape.

    Args:
        model: all its weights of two and more dimensions get one; the numbers of quantizers are no weights.
        generator: of the random numbers, on the CPU, so that they are the same for each device.
    """
    found, seen = {}, set[int]()
    for place, module in model.named_modules():
        for name, weight in [] if isinstance(module, Part) else module.named_parameters(recurse=False):
            if weight.dim() >= 2 and id(weight) not in seen:
                seen.add(id(weight))
                drawn = torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=generator))
                axes = other_axes(channel_shape(module, weight))
                norms = [torch.linalg.vector_norm(own.detach(), dim=axes, keepdim=True) for own in (weight, drawn)]
                found[f"{place}.{name}".lstrip(".")] = drawn * (norms[0] / norms[1].clamp_min(TINY))
    return found


@contextmanager
def weights_as(model: nn.Module, form: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the block, let the layers whose weight is quantized use `form(weight)` in its place, unscaled."""
    layers = [layer for _, layer in quantized_layers(model) if layer.weight_quantizer is not None]
    try:
        for layer in layers:
            layer.cached_weight = form(layer.weight).detach()  # a parameter would be registered
        yield
    finally:
        for layer in layers:
            layer.cached_weight = None


@contextmanager
def norms_of_the_batch(model: nn.Module) -> Iterator[None]:
    """Inside the block, let batch norm use the statistics of the batch; afterwards all is as before."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    modes = [norm.training for norm in norms]
    with kept_norms(model):
        try:
            for norm in norms:
                norm.train()
            yield
        finally:
            for norm, mode in zip(norms, modes, strict=True):
                norm.train(mode)


@torch.no_grad()
def loss_surfaces(
    model: nn.Module,
    directions: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    forms: Mapping[str, Form],
    loss: Callable[[], float],
    coordinates: Numbers,
    each: Each = iter,
) -> dict[str, list[list[float]]]:
    """Return the loss of each form at w + x d1 + y d2; the model stays as it is.

    Args:
        model: holds the weights w.
        directions: d1 and d2, of the same weights.
        forms: name -> in what the weights are quantized, once they are moved.
        loss: of the model as it is now.
        coordinates: the values of x, and those of y.
        each: yields the places (x, y), and may show how far that is.

    Returns:
        name -> rows of one y each, with a value for each x.

    Raises:
        UsageError: a loss is not finite.
    """
    weights = {name: model.get_parameter(name) for name in directions[0]}
    start = {name: weight.detach().clone() for name, weight in weights.items()}
    found: dict[str, list[float]] = {name: [] for name in forms}
    try:
        for x, y in each([(x, y) for y in coordinates for x in coordinates]):
            for name, weight in weights.items():
                moved = torch.add(start[name], directions[0][name], alpha=x).add_(directions[1][name], alpha=y)
                weight.copy_(moved)
            for name, form in forms.items():
                with form():
                    found[name].append(loss())
                if not isfinite(found[name][-1]):
                    raise UsageError(f"the loss at {x:g}, {y:g} is not finite ({name}); a smaller extent= may help")
    finally:
        for name, weight in weights.items():
            weight.copy_(start[name])
    wide = len(coordinates)
    return {name: [row[at : at + wide] for at in range(0, len(row), wide)] for name, row in found.items()}


@dataclass(frozen=True)
class Relief:
    """How rough a surface is, in numbers that hold for its grid.

    Attributes:
        minima: points of the grid, those of its edge aside, that are lower than all eight neighbours.
        bend: the mean |second difference| of neighbours, along both axes. Of a smooth surface a quarter of it is left
            when the steps are halved.
        turn: bend / mean |first difference|: 0 for a plane; about 1.73, the root of 3, where neighbours have nothing
            to do with each other; 1.41 for a random walk. It does not depend on the height of the surface.
    """

    minima: int
    bend: float
    turn: float


def relief(z: Grid) -> Relief:
    """Return how rough a surface is, of at least 3 x 3 points."""
    values = torch.tensor(z, dtype=torch.float64)
    lines = [values, values.T]
    bend = fmean(float(line.diff(n=2).abs().mean()) for line in lines)
    slope = fmean(float(line.diff().abs().mean()) for line in lines)
    around = values.unfold(0, 3, 1).unfold(1, 3, 1).flatten(2)
    others = torch.cat([around[..., :4], around[..., 5:]], -1)
    return Relief(int((around[..., 4] < others.amin(-1)).sum()), bend, bend / max(slope, TINY))


def surface_chart(title: str, coordinates: Numbers, surfaces: Mapping[str, Grid], caption: Sequence[str]) -> Chart:
    """Return surfaces on one scale of shades, and a cut through all of them along the first direction.

    Args:
        title: above all panels.
        coordinates: of both axes, with 0 in the middle.
        surfaces: name -> values.
        caption: how they were made; what `relief` says of them follows.
    """
    everything = [value for z in surfaces.values() for row in z for value in row]
    limits = min(everything), max(everything)
    labels = "first direction", "second direction"
    panels = [
        Panel(name, *labels, [Surface("loss", coordinates, coordinates, z, limits=limits)])
        for name, z in surfaces.items()
    ]
    middle = len(coordinates) // 2
    cuts = [Curve(name, coordinates, z[middle]) for name, z in surfaces.items()]
    panels.append(Panel("cut through the middle", labels[0], "loss", cuts))
    return Chart(title, panels, columns=2 if len(panels) == 4 else 3, caption=[*caption, *_told(surfaces)])


def _told(surfaces: Mapping[str, Grid]) -> list[str]:
    found = {name: relief(z) for name, z in surfaces.items()}

    def each(number: Callable[[Relief], str]) -> str:
        return ", ".join(f"{name} {number(one)}" for name, one in found.items())

    return [
        f"Local minima: {each(lambda one: f'{one.minima}')}",
        f"Mean |second difference|: {each(lambda one: f'{one.bend:.3g}')}",
        "Mean |second difference| / mean |first difference| (0 smooth, 1.73 noise): "
        + each(lambda one: f"{one.turn:.2f}"),
    ]
