"""Statistics, memory layouts and precision of quantizers, against torch in double precision."""

import pytest
import torch

from qexp.quantizers import numerics
from support import methods

SHAPE = (6, 5, 7, 3)
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "every second image": lambda x: torch.stack([x, x], 1).flatten(0, 1)[::2],
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "one image repeated": lambda x: x[:1].expand_as(x),
}


def values(layout="contiguous", dtype=torch.float64):
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return LAYOUTS[layout](x).to(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_statistics_are_those_of_torch_in_double_precision(layout, dtype):
    """In any layout, of any type."""
    x = values(layout, dtype)
    exact, close = x.double(), {"rel": 1e-13, "abs": 1e-13}
    mean, std = numerics.mean_and_std(x)
    assert mean == pytest.approx(exact.mean().item(), **close)
    assert std == pytest.approx(exact.std().item(), **close)
    assert [end.item() for end in numerics.value_range(x)] == [exact.min().item(), exact.max().item()]
    assert numerics.absolute_mean(x).item() == pytest.approx(exact.abs().mean().item(), **close)
    kept = exact.abs()[exact.abs() > 0.7]
    assert numerics.mean_above(x, 0.7).item() == pytest.approx(kept.mean().item(), **close)


def test_the_deviation_of_values_far_from_zero():
    """A sum of squares less the squared mean would lose all digits here."""
    x = 1e4 + torch.randn(5000, generator=torch.Generator().manual_seed(0))
    assert numerics.mean_and_std(x)[1] == pytest.approx(x.double().std().item(), rel=1e-4)
    assert numerics.mean_and_std(torch.full((500,), 0.3))[1] == pytest.approx(0, abs=1e-7)
    assert numerics.mean_and_std(torch.tensor([2.0])) == (2.0, 0.0)
    assert numerics.mean_above(torch.zeros(5), 1.0).item() == 0


SITES = [
    *[(name, side) for name in ("ste", "br", "dqa", "daq") for side in ("weight", "activation")],
    ("dqa grid=twn", "weight"),
    ("dqa grid=sawb", "weight"),
    ("dqa activation_grid=pact", "activation"),
    ("br mix=[sawb@2,fp] activation_mix=[pact@2,fp]", "activation"),
]


def forward_and_gradients(name, side, layout, dtype=torch.float64):
    """Value, and gradients of input and parameters; the upstream gradient is in another layout than the input."""
    quantizer = methods.build(name, side, 2).to(dtype if dtype == torch.float64 else torch.float32)
    x = values(layout, dtype)
    x = (x.relu() if side == "activation" else x).detach().requires_grad_()
    quantizer.calibrate(x.detach())
    for parameter in quantizer.parameters():
        parameter.data.mul_(0.8)  # so that something lies outside of learned ranges
    y = quantizer(x)
    upstream = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y.backward(upstream.to(y.dtype).transpose(0, 1).contiguous().transpose(0, 1))
    return [y.detach(), x.grad, *(parameter.grad for parameter in quantizer.parameters())]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "side"), SITES)
def test_quantizers_do_not_depend_on_the_layout(name, side, layout):
    """A tensor in any layout against the contiguous one, with a gradient in yet another layout."""
    whole = forward_and_gradients(name, side, "contiguous")
    if layout == "one image repeated":  # other values, so a reference of its own
        whole = forward_and_gradients(name, side, layout)
    for ours, expected in zip(forward_and_gradients(name, side, layout), whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("name", "side"), SITES)
def test_half_precision_is_computed_in_single(name, side):
    """bfloat16 values and gradients are those of the float32 arithmetic on the same values, rounded at the end."""
    half = forward_and_gradients(name, side, "channels last", torch.bfloat16)
    rounded = values("channels last", torch.bfloat16).float()
    assert half[0].dtype == half[1].dtype == torch.bfloat16
    quantizer = methods.build(name, side, 2)
    x = (rounded.relu() if side == "activation" else rounded).requires_grad_()
    quantizer.calibrate(x.detach())
    for parameter in quantizer.parameters():
        parameter.data.mul_(0.8)
    torch.testing.assert_close(half[0].float(), quantizer(x).detach().bfloat16().float(), rtol=0, atol=0)


def test_the_slope_of_daq_is_as_exact_as_its_position():
    """Single against double precision between two levels, where the slope has its ridge, up to the widest sigma."""
    for sigma in (0.5, 2.0, 100.0):
        results = []
        for dtype in (torch.float32, torch.float64):
            quantizer = methods.build("daq", "activation", 2, activation_sigma=sigma).to(dtype)
            quantizer.upper.data.fill_(3.0)
            x = torch.linspace(0.001, 2.999, 4001, dtype=torch.float32).to(dtype).requires_grad_()
            quantizer(x).sum().backward()
            results.append(x.grad.double())
        distance = (x.detach().frac() - 0.5).abs() + 0.5 / sigma**2
        tolerance = 1e-5 + 1e-6 / distance  # a position is known to 1e-7, and the slope goes with 1/distance
        assert ((results[0] - results[1]).abs() <= tolerance * results[1].abs()).all()
