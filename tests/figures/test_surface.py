"""Loss surfaces: directions, moved weights, quantization after the move, and what is said of roughness."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qexp.experiment.library import method
from qexp.figures import Curve, Surface
from qexp.figures.surface import (
    Relief,
    loss_surfaces,
    norms_of_the_batch,
    random_direction,
    relief,
    surface_chart,
    weights_as,
)
from qexp.quantizers import quantize
from qexp.utils.errors import UsageError

COORDINATES = [-1.0, -0.5, 0.0, 0.5, 1.0]


@pytest.fixture(autouse=True)
def _without_gradients():
    """As in what draws; torch warns, once in a process, of a number that is taken from a tensor with a gradient."""
    with torch.no_grad():
        yield


class Mixed(nn.Module):
    """One of each kind of weight, numbers that are none, and a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.grouped = nn.Conv2d(4, 4, 3, groups=4)
        self.up = nn.ConvTranspose2d(4, 6, 2)
        self.norm = nn.BatchNorm2d(6)
        self.linear = nn.Linear(6, 5)
        self.tied = nn.Linear(6, 5, bias=False)
        self.tied.weight = self.linear.weight

    def forward(self, x):
        return self.linear(self.norm(self.up(self.grouped(self.conv(x)))).mean((2, 3)))


def surface_of(model, loss, coordinates=COORDINATES, form=None, seed=0):
    """The directions, and the loss along them in one form."""
    draws = torch.Generator().manual_seed(seed)
    directions = random_direction(model, draws), random_direction(model, draws)
    form = form or (lambda: weights_as(model, lambda weight: weight))
    return directions, loss_surfaces(model, directions, {"one": form}, loss, coordinates)["one"]


# Directions


def test_each_filter_of_a_direction_is_as_long_as_that_of_the_weight():
    model = Mixed()
    with torch.no_grad():
        model.conv.weight[1] *= 100
        model.linear.weight[2] = 0
    found = random_direction(model, torch.Generator().manual_seed(3))
    assert list(found) == ["conv.weight", "grouped.weight", "up.weight", "linear.weight"]
    for name, axis in {"conv": 0, "grouped": 0, "up": 1, "linear": 0}.items():
        weight = model.get_parameter(f"{name}.weight")
        for index in range(weight.shape[axis]):
            ours, theirs = (tensor.select(axis, index).flatten() for tensor in (found[f"{name}.weight"], weight))
            assert math.isclose(float(ours.norm()), float(theirs.detach().norm()), rel_tol=1e-5)
    assert found["linear.weight"][2].abs().max() == 0


def test_directions_follow_the_seed_and_no_memory_layout():
    model = Mixed()
    one, same = (random_direction(model, torch.Generator().manual_seed(1)) for _ in range(2))
    other = random_direction(model, torch.Generator().manual_seed(2))
    last = random_direction(
        copy.deepcopy(model).to(memory_format=torch.channels_last), torch.Generator().manual_seed(1)
    )
    for name in one:
        assert torch.equal(one[name], same[name])
        assert torch.allclose(one[name], last[name])
        assert not torch.allclose(one[name], other[name])


def test_numbers_of_quantizers_do_not_move():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    quantize(model, method("rq"), weight_bits=2, activation_bits=2, keep_float=[])
    assert list(random_direction(model, torch.Generator().manual_seed(0))) == ["0.weight", "2.weight"]


# Surfaces


def test_a_quadratic_loss_gives_its_own_surface():
    """|w + x d1 + y d2 - c|^2 = |w - c|^2 + 2 x d1.(w - c) + 2 y d2.(w - c) + x^2 |d1|^2 + y^2 |d2|^2 + 2 x y d1.d2."""
    model = nn.Linear(3, 2, dtype=torch.float64)
    centre = torch.randn(2, 3, dtype=torch.float64)
    (one, other), z = surface_of(model, lambda: float((model.weight - centre).square().sum()))
    d1, d2, start = one["weight"], other["weight"], model.weight.detach() - centre
    for i, y in enumerate(COORDINATES):
        for j, x in enumerate(COORDINATES):
            linear = 2 * x * (d1 * start).sum() + 2 * y * (d2 * start).sum()
            square = x**2 * d1.square().sum() + y**2 * d2.square().sum() + 2 * x * y * (d1 * d2).sum()
            assert math.isclose(z[i][j], float(start.square().sum() + linear + square), rel_tol=1e-9)


def test_the_centre_is_the_unmoved_network_and_it_stays_as_it_is():
    model, images = Mixed().eval(), torch.randn(6, 3, 8, 8)
    labels = torch.arange(6) % 5
    quantize(model, method("ste"), weight_bits=2, activation_bits=32, keep_float=[])
    state = copy.deepcopy(model.state_dict())
    before = float(F.cross_entropy(model(images), labels))
    as_it_is = lambda: float(F.cross_entropy(model(images), labels))  # noqa: E731
    quantizer = method("ste").weight(2).eval()
    _, z = surface_of(model, as_it_is, form=lambda: weights_as(model, quantizer))
    assert z[2][2] == before
    assert as_it_is() == before
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_the_2_bit_surface_of_one_layer_is_that_of_an_explicit_loop():
    """The range is that of the moved weights, four levels from the smallest to the largest."""
    model, x, target = nn.Sequential(nn.Linear(7, 3, bias=False)), torch.randn(5, 7), torch.randn(5, 3)
    quantize(model, method("ste"), weight_bits=2, activation_bits=32, keep_float=[])
    start, quantizer = model[0].weight.detach().clone(), method("ste").weight(2).eval()
    (one, other), z = surface_of(
        model,
        lambda: float((model(x) - target).square().mean()),
        form=lambda: weights_as(model, quantizer),
    )
    for i, b in enumerate(COORDINATES):
        for j, a in enumerate(COORDINATES):
            moved = start + a * one["0.weight"] + b * other["0.weight"]
            low, high = float(moved.min()), float(moved.max())
            levels = [low + k * (high - low) / 3 for k in range(4)]
            nearest = torch.tensor(
                [[min(levels, key=lambda level: abs(level - float(w))) for w in row] for row in moved]
            )
            assert math.isclose(z[i][j], float((x @ nearest.T - target).square().mean()), rel_tol=1e-4)
    assert len({round(value, 6) for row in z for value in row}) > 10


def test_an_endless_temperature_mixes_a_third_of_each_grid():
    weight = torch.randn(4, 3, 3, 3)
    mixed = method("dqa", temperature_start=1e30).weight(2).eval()
    mixed.evaluation = "soft"
    copies = [method("ste").weight(bits).eval()(weight) for bits in (2, 4, 8)]
    assert torch.allclose(mixed(weight), sum(copies) / 3, atol=1e-5)


def test_a_loss_that_is_not_finite_is_refused_and_the_network_stays():
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    with pytest.raises(UsageError, match=r"^the loss at -1, -1 is not finite \(one\); a smaller extent= may help$"):
        surface_of(model, lambda: math.nan)
    assert torch.equal(model.weight, before)


def test_batch_norm_uses_the_batch_inside_and_is_as_before_outside():
    model, x = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).eval(), 5 + 2 * torch.randn(50, 3)
    before = copy.deepcopy(model.state_dict())
    with norms_of_the_batch(model):
        inside = model(x)
        assert not model[1].training
    assert inside.mean().abs() < 1e-5
    assert torch.allclose(inside.std(0, correction=0), torch.ones(3), atol=1e-4)
    assert not model[0].training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# Roughness


def grid(function, count=21):
    half = count // 2
    at = [index / half for index in range(-half, half + 1)]
    return [[function(x, y) for x in at] for y in at]


def test_a_plane_and_a_bowl_are_smooth():
    plane = relief(grid(lambda x, y: 2 * x - 3 * y + 1))
    assert (plane.minima, round(plane.bend, 9), round(plane.turn, 9)) == (0, 0, 0)
    bowl = relief(grid(lambda x, y: x**2 + y**2))
    assert bowl.minima == 1
    assert math.isclose(bowl.bend, 2 * 0.1**2)
    assert math.isclose(bowl.turn, 0.02 / 0.1)  # |2 x| is 1 on average, times a step of 0.1


def test_halved_steps_leave_a_quarter_of_the_bend_of_a_smooth_surface_and_all_that_of_noise():
    fine, coarse = (relief(grid(lambda x, y: math.sin(2 * x) * math.cos(y), count)) for count in (41, 21))
    assert math.isclose(fine.bend / coarse.bend, 0.25, rel_tol=0.1)
    noise = torch.randn(201, 201, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    thinned = [row[::2] for row in noise[::2]]
    assert math.isclose(relief(noise).bend / relief(thinned).bend, 1, rel_tol=0.05)


def test_noise_turns_by_the_root_of_3_whatever_its_height():
    values = torch.randn(301, 301, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low, high = relief((0.01 * values).tolist()), relief((5 + 100 * values).tolist())
    assert math.isclose(low.turn, math.sqrt(3), rel_tol=0.02)
    assert math.isclose(low.turn, high.turn, rel_tol=1e-9)
    assert low.minima == high.minima
    assert math.isclose(low.minima / 299**2, 1 / 9, rel_tol=0.03)  # each of nine is the lowest as often


def test_minima_are_strict_and_lie_inside():
    flat = [[0.0] * 5 for _ in range(5)]
    assert relief(flat) == Relief(0, 0.0, 0.0)
    dented = [row[:] for row in flat]
    dented[0][2] = dented[2][1] = -1.0  # one on the edge, one inside
    assert relief(dented).minima == 1
    dented[2][2] = -1.0  # beside one of its height
    assert relief(dented).minima == 0


# The chart


def test_the_panels_share_their_shades_and_the_cut_is_the_middle_row():
    smooth, rough = grid(lambda x, y: x + y, 3), [[0.0, 4.0, 0.0], [4.0, -4.0, 4.0], [0.0, 4.0, 0.0]]
    chart = surface_chart("two", [-1, 0, 1], {"float32": smooth, "2 bits": rough}, ["how"])
    surfaces = [mark for panel in chart.panels for mark in panel.marks if isinstance(mark, Surface)]
    assert [one.limits for one in surfaces] == [(-4.0, 4.0), (-4.0, 4.0)]
    assert [one.z for one in surfaces] == [smooth, rough]
    assert chart.panels[-1].marks == [Curve("float32", [-1, 0, 1], smooth[1]), Curve("2 bits", [-1, 0, 1], rough[1])]
    assert chart.caption == [
        "how",
        "Local minima: float32 0, 2 bits 1",
        "Mean |second difference|: float32 0, 2 bits 10.7",
        "Mean |second difference| / mean |first difference| (0 smooth, 1.73 noise): float32 0.00, 2 bits 2.00",
    ]
