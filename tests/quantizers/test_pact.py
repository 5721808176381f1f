"""PACT against its gradient written out."""

import pytest
import torch
from torch import nn

from qexp.quantizers import named_quantizers, quantize
from qexp.utils.types import Progress
from support import methods


def pact_oracle(x, upstream, alpha, bits, signed):
    """Value, gradient to x and gradient to alpha of PACT, one value after the other."""
    lower, steps = (-alpha if signed else 0.0), 2**bits - 1
    values, to_x, to_alpha = [], [], 0.0
    for value, grad in zip(x, upstream, strict=True):
        position = (min(max(value, lower), alpha) - lower) / (alpha - lower) * steps
        values.append(lower + round(position) * (alpha - lower) / steps)
        to_x.append(grad if lower <= value <= alpha else 0.0)
        to_alpha += grad if value >= alpha else 0.0
        to_alpha -= grad if signed and value <= lower else 0.0
    return values, to_x, to_alpha


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_pact_is_clip_and_round_with_the_original_gradient(bits, signed, seed):
    """To x inside [0, alpha], to alpha from x >= alpha only; both at x = alpha."""
    torch.manual_seed(seed)
    x = torch.randn(200, dtype=torch.float64)
    x = torch.cat([x if signed else x.relu(), torch.tensor([0.9], dtype=torch.float64)])
    upstream = torch.randn(201, dtype=torch.float64)
    quantizer = methods.build("ste activation_grid=pact", "activation", bits).double()
    quantizer.calibrate(x)
    (span,) = quantizer.range_estimators
    assert span.alpha.item() == pytest.approx(x.abs().max().item())
    span.alpha.data.fill_(0.9)
    leaf = x.clone().requires_grad_()
    y = quantizer(leaf)
    y.backward(upstream)
    values, to_x, to_alpha = pact_oracle(x.tolist(), upstream.tolist(), 0.9, bits, signed)
    torch.testing.assert_close(y.detach(), torch.tensor(values, dtype=torch.float64))
    torch.testing.assert_close(leaf.grad, torch.tensor(to_x, dtype=torch.float64))
    assert span.alpha.grad.item() == pytest.approx(to_alpha)


def test_pact_in_a_mix_shares_one_clip_and_leaves_full_precision_unclipped():
    """[pact@2, fp] of the DQA paper's Table 2: gradient to x a1 inside and a2 everywhere, to alpha a1 from above."""
    quantizer = methods.build("br mix=[sawb@2,fp] activation_mix=[pact@2,fp]", "activation", 2).double()
    quantizer.calibrate(torch.tensor([0.0, 1.0]).double())
    quantizer.anneal(Progress(1, 10, 5, 10))
    a1, a2 = quantizer.mix.tolist()
    x = torch.tensor([0.5, 0.9, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    y = quantizer(x)
    y.backward(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    expected = [a1 * q + a2 * v for q, v in zip((2 / 3, 1, 1, 1), (0.5, 0.9, 2, 4), strict=True)]
    torch.testing.assert_close(y.detach(), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(x.grad, torch.tensor([1.0, 2.0, 3 * a2, 4 * a2], dtype=torch.float64))
    assert quantizer.range_estimators[0].alpha.grad.item() == pytest.approx(a1 * 7)
    three = methods.build("dqa activation_grid=pact", "activation", 2)
    assert [type(span).__name__ for span in three.range_estimators] == ["PactRange"]


def test_the_clip_of_pact_has_an_optimizer_of_its_own():
    """Its role is `clip`, and it does not count as a weight of the network."""
    from qexp.quantizers import parameter_roles, weight_memory_bytes

    net = nn.Sequential(nn.Linear(8, 4, bias=False))
    quantize(net, methods.method("ste activation_grid=pact"), weight_bits=32, activation_bits=2, keep_float=[])
    roles = parameter_roles(net)
    assert {role: len(members) for role, members in roles.items()} == {"weight": 1, "clip": 1}
    assert roles["clip"][0] is dict(named_quantizers(net))["0.input_quantizer"].range_estimators[0].alpha
    assert weight_memory_bytes(net) == (128.0, 128.0)
