"""DQA against the authors' released layer (tests/golden/dqa_sony_mct.npz), eq. 4-7 and Algorithm 1."""

import math

import numpy as np
import pytest
import torch

from qexp.quantizers.base import LayerInfo
from qexp.quantizers.dqa import initial_attention
from qexp.quantizers.functional import mix_grids
from qexp.quantizers.grids import ScaledGrid, Uniform
from qexp.quantizers.numerics import float_copy
from qexp.utils.types import Progress
from support import methods, plain

GOLDEN = np.load(methods.GOLDEN / "dqa_sony_mct.npz")


def at(quantizer, step, steps):
    quantizer.anneal(Progress(step, steps, 0, 1))
    return quantizer


@pytest.mark.parametrize("inverse", ["0.01000", "1.00000", "5.00000", "33.33333"])
def test_attention_and_its_gradient_equal_the_released_layer(inverse):
    """Their grids are shifted onto zero, so the recorded copies are mixed; attention and gradients are ours."""
    quantizer = methods.build("dqa", "weight", 2, temperature_start=1 / float(inverse), temperature_end=0.01)
    quantizer.alpha.data = torch.tensor([4 / 7, 2 / 7, 1 / 7])
    copies = [torch.tensor(GOLDEN[f"uniform_zeroadj_b{bits}"]) for bits in (2, 4, 8)]
    grids = [ScaledGrid(lambda value, copy=copy: float_copy(copy), 1.0, 0.0) for copy in copies]
    mixed = mix_grids(torch.tensor(GOLDEN["w"]), grids, quantizer.attention())
    mixed.backward(torch.tensor(GOLDEN["go"]))
    recorded = {key: torch.tensor(GOLDEN[f"invT{inverse}_{key}"]) for key in ("a", "q", "galpha")}
    torch.testing.assert_close(quantizer.attention().detach(), recorded["a"], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(mixed.detach(), recorded["q"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(quantizer.alpha.grad, recorded["galpha"], rtol=1e-3, atol=1e-6)


def test_initial_attention_is_equation_7():
    """alpha_k(0) = sum of the other bit-widths over the sum of all."""
    torch.testing.assert_close(initial_attention([2, 4, 8]), torch.tensor([6 / 7, 5 / 7, 3 / 7]))
    torch.testing.assert_close(initial_attention([1, 2, 32]), torch.tensor([34 / 35, 33 / 35, 3 / 35]))
    torch.testing.assert_close(methods.build("dqa", "weight", 4).alpha.detach(), initial_attention([4, 8, 16]))


def test_temperature_is_algorithm_1():
    """T(b) = T(0) psi^b with b = 1..B: the first batch is already one factor down, the last is exactly T(B)."""
    quantizer = methods.build("dqa", "weight", 2)
    psi = math.exp(math.log(0.03 / 100) / 1000)
    for step in (1, 2, 568, 1000):
        assert at(quantizer, step, 1000).temperature.item() == pytest.approx(100 * psi**step, rel=1e-5)
    assert quantizer.temperature.item() == pytest.approx(0.03)


def test_forward_is_the_literal_mix_of_min_max_grids():
    """Equations 2, 3, 4 and 10 written out, value by value."""
    quantizer, x = at(methods.build("dqa", "weight", 2), 700, 1000), methods.sample("weight")
    alpha = torch.tensor([6 / 7, 5 / 7, 3 / 7])
    attention = torch.softmax(alpha / alpha.std() / quantizer.temperature, 0)
    lowest, highest = x.min().item(), x.max().item()
    expected = torch.zeros_like(x).flatten()
    for index, value in enumerate(x.flatten().tolist()):
        for weight, bits in zip(attention.tolist(), (2, 4, 8), strict=True):
            grid = [lowest + i * (highest - lowest) / (2**bits - 1) for i in range(2**bits)]
            expected[index] += weight * min(grid, key=lambda level: abs(level - value))
    torch.testing.assert_close(quantizer(x).detach().flatten(), expected, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_the_mixing_weights_is_the_product_with_each_grid():
    """<upstream, grid_k(x)> by autograd through the mix written out, for grids that do not begin at zero."""
    x = methods.sample("weight", dtype=torch.float64) + 0.7
    upstream = torch.randn(x.shape, dtype=torch.float64) + 0.5
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    literal = weights.clone().requires_grad_()
    copies = [plain.uniform(x, x.min(), x.max(), bits) for bits in (2, 4, 8)]
    plain.weighted_sum(copies, literal).backward(upstream)
    ours = weights.clone().requires_grad_()
    grids = [Uniform(bits).scaled([x.min(), x.max()]) for bits in (2, 4, 8)]
    mix_grids(x, grids, ours).backward(upstream)
    torch.testing.assert_close(ours.grad, literal.grad, rtol=1e-12, atol=1e-12)


def test_gradient_passes_straight_through():
    """With attention that sums to 1, the gradient of the weight is the upstream gradient itself."""
    x = methods.sample("weight").requires_grad_()
    upstream = torch.randn_like(x)
    at(methods.build("dqa", "weight", 2), 500, 1000)(x).backward(upstream)
    torch.testing.assert_close(x.grad, upstream, rtol=0, atol=0)


@pytest.mark.parametrize(("scale", "factor"), [("layer_share", 300 / 1000), ("layers", 1 / 4), ("weights", 1 / 1000)])
def test_penalty_is_equation_6(scale, factor):
    """lambda g.a / S with g = 1, 4, 16 and the chosen S."""
    method = methods.method("dqa", penalty=5.0, penalty_scale=scale)
    quantizer = at(method.weight(2, LayerInfo(layer_weights=300, total_weights=1000, layers=4)), 600, 1000)
    cost = (torch.tensor([1.0, 4.0, 16.0]) * quantizer.attention()).sum()
    torch.testing.assert_close(quantizer.penalty(), 5.0 * factor * cost)


def test_hard_evaluation_forces_the_lowest_grid_and_converged_tells():
    """Whatever the attention says, 2 bits are evaluated; a layer that ended elsewhere is not converged."""
    quantizer, x = methods.build("dqa", "weight", 2), methods.sample("weight")
    assert quantizer.converged()
    quantizer.alpha.data = torch.tensor([0.1, 0.9, 0.2])
    assert not quantizer.converged()
    assert torch.equal(quantizer.eval()(x), methods.build("ste", "weight", 2).eval()(x))


def test_a_mix_of_two_is_refused():
    """alpha/std(alpha) of two values is constant: there is nothing to learn, so it is an error and not a bad result."""
    with pytest.raises(ValueError, match="needs a mix of 3 grids, not 2"):
        methods.method("dqa", mix=["minmax@2", "fp"]).check(2, 32)


def test_the_schedule_alone_ends_at_the_lowest_grid():
    """With alpha never moved, bits 2/4/8 end at 2 bits and the soft output at the hard one."""
    quantizer, x = at(methods.build("dqa", "weight", 2), 1000, 1000), methods.sample("weight")
    assert quantizer.attention()[0].item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(quantizer(x), methods.frozen(quantizer)(x), rtol=0, atol=1e-6)
