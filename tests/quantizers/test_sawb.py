"""SAWB against the published code and a literal search."""

import numpy as np
import pytest
import torch
from torch import nn

from qexp.quantizers import anneal, calibrate, quantize
from qexp.quantizers.sawb import formula_clip, search_clip
from qexp.utils.types import Progress
from support import methods
from support.distributions import DISTRIBUTIONS, drawn

SAWB = np.load(methods.GOLDEN / "sawb_ibm_fms.npz")


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("sample", ["normal", "laplace", "uniform"])
def test_sawb_formula_equals_the_published_code(sample, bits):
    """c = c1 sqrt(E w^2) - c2 E|w| as IBM's code computes it."""
    clip = formula_clip(torch.tensor(SAWB[sample]).double(), bits)
    assert clip.item() == pytest.approx(float(SAWB[f"{sample}_clip_b{bits}"]), rel=1e-5)


def test_sawb_formula_never_gives_a_negative_clip():
    """All weight at one size, 8 bits: the formula gives less than 0, and the largest |w| stands in."""
    weight = torch.tensor([0.5, -0.5, 0.5, -0.5])
    assert 31.76 * 0.5 - 35.04 * 0.5 < 0
    assert formula_clip(weight, 8).item() == 0.5


def squared_error(x, clip, bits):
    """Nearest of the 2**bits levels -c + i 2c/(2**bits - 1), value by value."""
    levels = torch.tensor([-clip + i * 2 * clip / (2**bits - 1) for i in range(2**bits)], dtype=x.dtype)
    return (x[:, None] - levels).abs().min(dim=1).values.square().mean().item()


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
@pytest.mark.parametrize("name", list(DISTRIBUTIONS))
@pytest.mark.parametrize("seed", [0, 1])
def test_sawb_search_finds_the_least_squared_error(name, bits, seed):
    """Against every one of 400 clips tried on the raw weights; the histogram costs less than 0.1 % of the error."""
    x = drawn(name, 3000, seed).double()
    largest = x.abs().max().item()
    least = min(squared_error(x, largest * k / 400, bits) for k in range(1, 401))
    assert squared_error(x, search_clip(x, bits).item(), bits) <= least * 1.001


@pytest.mark.parametrize(("name", "ratio"), [("normal", 1.494), ("laplace", 1.633), ("uniform", 1.299)])
def test_sawb_at_two_bits_is_the_optimum_of_the_distribution(name, ratio):
    """Clip over root mean square; for the uniform distribution on [-1, 1] the optimum is 3/4: 0.75 sqrt(3) = 1.299."""
    x = drawn(name, 200_000)
    clip = search_clip(x, 2)
    assert (clip / x.square().mean().sqrt()).item() == pytest.approx(ratio, rel=0.01)


def test_sawb_levels_are_equation_11():
    """-c, -c/3, c/3, c at 2 bits; beyond the clip the last level and the whole gradient."""
    quantizer, x = methods.build("ste grid=sawb", "weight", 2), drawn("normal", 4000).requires_grad_()
    quantizer.calibrate(x)
    clip = quantizer.range_estimators[0].clip.item()
    y = quantizer(x)
    y.sum().backward()
    torch.testing.assert_close(y.detach().unique(), torch.tensor([-clip, -clip / 3, clip / 3, clip]))
    assert (x.detach().abs() > clip).any()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_sawb_finds_its_clip_every_100_steps_and_keeps_it_between():
    """Steps 1 and 101 look at the weights; neither other steps nor evaluation do."""
    net = nn.Sequential(nn.Linear(50, 40))
    quantize(net, methods.method("dqa grid=sawb"), weight_bits=2, activation_bits=32, keep_float=[])
    calibrate(net, torch.randn(2, 50))
    clip, seen = net[0].weight_quantizer.range_estimators[0].clip, []
    for step in (1, 2, 100, 101, 102):
        net[0].weight.data.mul_(2)
        anneal(net, Progress(step, 1000, 0, 1))
        seen.append(clip.item())
        assert clip.item() == net.eval()[0].weight_quantizer.range_estimators[0].clip.item()
    assert seen[0] == seen[1] == seen[2]
    assert seen[3] == seen[4] == pytest.approx(8 * seen[0])


def test_sawb_formula_is_refused_where_it_has_no_coefficients():
    """6 bits are not in the published set."""
    with pytest.raises(ValueError, match="coefficients for 2, 3, 4, 5, 8 bits, not 6"):
        methods.method("ste grid=sawb sawb=formula").check(6, 32)
