"""DAQ against vectors recorded from the authors' layer (golden/golden_daq.npz) and against its printed formulas."""

import numpy as np
import pytest
import torch
from torch import nn

from qexp.quantizers import calibrate, quantize
from qexp.quantizers.daq import distance_aware, distance_aware_plain
from support import methods

GOLDEN = np.load(methods.GOLDEN / "golden_daq.npz")
QUANTIZER_CASES = [str(case) for case in GOLDEN["cases"] if not str(case).startswith("layer")]
LAYER_CASES = [str(case) for case in GOLDEN["cases"] if str(case).startswith("layer")]


def tensor(case, key, dtype=torch.float64):
    return torch.tensor(GOLDEN[f"{case}/{key}"], dtype=dtype)


@pytest.mark.parametrize("case", QUANTIZER_CASES)
@pytest.mark.parametrize(("suffix", "dtype"), [("f64", torch.float64), ("f32", torch.float32)])
def test_forward_and_gradients_equal_the_recorded_ones(case, suffix, dtype):
    """Double precision to 1e-12 and 1e-10; single precision as far as the published code itself is exact."""
    bits, sigma, gamma = GOLDEN[f"{case}/meta"]
    x, lower, upper = (tensor(case, key, dtype).requires_grad_() for key in ("x", "l", "u"))
    signed = torch.tensor(1.0 if "w_" in case else 0.0, dtype=dtype)
    y = distance_aware(x, lower, upper, signed, int(bits), sigma=float(sigma), gamma=float(gamma))
    y.backward(tensor(case, "g", dtype))
    forward = {"rtol": 0, "atol": 1e-12 if suffix == "f64" else 1e-6}
    backward = {"rtol": 1e-10, "atol": 1e-12} if suffix == "f64" else {"rtol": 2e-5, "atol": 2e-5}
    torch.testing.assert_close(y.detach(), tensor(case, f"soft_{suffix}", dtype), **forward)
    assert torch.equal(y.detach() + 0.0, tensor(case, "hard_f32", torch.float32).to(dtype) + 0.0) or suffix == "f64"
    torch.testing.assert_close(y.detach(), tensor(case, f"hard_{suffix}", dtype), **forward)
    for key, leaf in (("dx", x), ("du", upper), ("dl", lower)):
        torch.testing.assert_close(leaf.grad, tensor(case, f"{key}_{suffix}", dtype), **backward)


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
@pytest.mark.parametrize(("sigma", "gamma"), [(1.0, 2.0), (2.0, 2.0), (0.6, 1.3)])
@pytest.mark.parametrize(
    ("signed", "scale", "standard"), [(0.0, None, None), (1.0, None, None), (1.0, -1.7, None), (1.0, 0.6, (0.1, 1.2))]
)
def test_closed_form_equals_the_printed_formulas(bits, sigma, gamma, signed, scale, standard):
    """Other seeds, bit-widths and constants than the recorded ones: autograd through the paper's soft argmax."""
    generator = torch.Generator().manual_seed(bits)
    results = []
    for function in (distance_aware_plain, distance_aware):
        x = torch.randn(500, generator=generator.manual_seed(7), dtype=torch.float64).requires_grad_()
        numbers = [-0.9, 1.1] if scale is None else [-0.9, 1.1, scale]
        leaves = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in numbers]
        options = {"sigma": sigma, "gamma": gamma, "standard": standard, "scale": None if scale is None else leaves[2]}
        y = function(x, *leaves[:2], torch.tensor(signed, dtype=torch.float64), bits, **options)
        y.backward(torch.randn(500, generator=generator, dtype=torch.float64))
        results.append((y.detach(), x.grad, *(leaf.grad for leaf in leaves)))
    for expected, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-10)


def layer_of(case, dtype):
    bits, *_ = GOLDEN[f"{case}/meta"]
    conv = nn.Conv2d(3, 4, 3, padding=1, bias=False, dtype=dtype)
    conv.weight.data.copy_(tensor(case, "weight", dtype))
    net = nn.Sequential(conv).to(dtype)
    quantize(net, methods.method("daq"), weight_bits=int(bits), activation_bits=int(bits), keep_float=[])
    return net.to(dtype)


@pytest.mark.parametrize("case", LAYER_CASES)
def test_whole_layer_equals_the_recorded_one(case):
    """Initial ranges and scale, output in training and evaluation, and all six gradients, in double precision."""
    net = layer_of(case, torch.float64)
    layer, x = net[0], tensor(case, "x").requires_grad_()
    own = {
        "lW": layer.weight_quantizer.lower,
        "uW": layer.weight_quantizer.upper,
        "uA": layer.input_quantizer.upper,
        "beta": layer.output_scale,
    }
    calibrate(net, x.detach())
    close = {"rtol": 1e-10, "atol": 1e-10}
    for key, parameter in own.items():
        torch.testing.assert_close(parameter.detach(), tensor(case, f"init_{key}_f64"), **close)
        parameter.data.copy_(tensor(case, f"{key}_f64"))
    y = net(x)
    y.backward(tensor(case, "gy"))
    torch.testing.assert_close(y.detach(), tensor(case, "y_train_f64"), **close)
    torch.testing.assert_close(net.eval()(x).detach(), tensor(case, "y_eval_f64"), **close)
    for key, parameter in (own | {"x": x, "weight": layer.weight}).items():
        torch.testing.assert_close(parameter.grad, tensor(case, f"d{key}_f64"), **close)


def test_rounding_is_half_down_and_ends_are_inclusive():
    """At a midpoint the lower level wins, also above an odd one; x = l and x = u get a gradient, beyond do not."""
    x = torch.tensor([0.5, 1.5, 2.5, 0.0, 3.0, -0.001, 3.001], dtype=torch.float64, requires_grad=True)
    zero, three = torch.tensor(0.0).double(), torch.tensor(3.0).double()
    y = distance_aware(x, zero, three, zero, 2, sigma=1.0, gamma=2.0)
    y.sum().backward()
    assert (3 * y).tolist() == [0, 1, 2, 0, 3, 0, 3]
    assert (x.grad != 0).tolist() == [True] * 5 + [False] * 2


def test_one_bit_activations_are_zero_and_one():
    """At 1 bit an input above half the range is 1, else 0; a weight is +1 or -1."""
    activation = methods.build("daq", "activation", 1).eval()
    assert activation(torch.tensor([0.0, 0.5, 0.51, 2.0])).tolist() == [0, 0, 1, 1]
    assert sorted(methods.build("daq", "weight", 1).eval()(methods.sample("weight")).unique().tolist()) == [-1, 1]


def test_signed_range_is_symmetric():
    """Our extension: after negative calibration the range is [-u, u], and u's gradient counts lower and upper."""
    quantizer = methods.build("daq", "activation", 2).double()
    x = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    quantizer.calibrate(x)
    y = quantizer(x)
    y.sum().backward()
    upper = quantizer.upper.detach().clone().requires_grad_()
    one = torch.tensor(1.0, dtype=torch.float64)
    reference = distance_aware_plain(x, -upper, upper, one, 2, sigma=2.0, gamma=2.0)
    reference.sum().backward()
    torch.testing.assert_close(y.detach(), reference.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(quantizer.upper.grad, upper.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("upper", [0.0, -0.5])
def test_a_range_turned_inside_out_stays_finite(upper):
    """u <= l can only be learned by accident: values saturate, and nothing, least of all infinity, flows back."""
    x = torch.tensor([-1.0, 0.0, 0.5], requires_grad=True)
    low, up = torch.tensor(0.0, requires_grad=True), torch.tensor(upper, requires_grad=True)
    y = distance_aware(x, low, up, torch.tensor(0.0), 2, sigma=2.0, gamma=2.0)
    y.sum().backward()
    assert set(y.tolist()) <= {0.0, 1.0}
    assert [low.grad.item(), up.grad.item(), *x.grad.tolist()] == [0.0] * 5


def test_half_precision_inputs_are_computed_in_single_precision():
    """The sum over 200,000 elements for u's gradient would overflow or drown in float16."""
    values = torch.rand(200_000, generator=torch.Generator().manual_seed(0)).half()
    gradients = []
    for dtype in (torch.float16, torch.float64):
        quantizer = methods.build("daq", "activation", 2).to(torch.float32 if dtype == torch.float16 else dtype)
        x = values.to(dtype).requires_grad_()
        y = quantizer(x)
        (y.float() if dtype == torch.float16 else y).sum().backward()
        gradients.append(quantizer.upper.grad.double().item())
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-3)


def test_a_constant_weight_becomes_one_level():
    """std = 0: no division by zero, in either direction."""
    w = torch.full((4, 3), 0.3, requires_grad=True)
    y = methods.build("daq", "weight", 2)(w)
    y.sum().backward()
    assert len(y.unique()) == 1
    assert torch.isfinite(w.grad).all()


@pytest.mark.parametrize("option", ["weight_sigma", "activation_sigma"])
def test_sigma_has_an_upper_end(option):
    """Without a kernel the slope has a pole half-way between levels."""
    with pytest.raises(ValueError, match=f"{option}.*at most 100"):
        methods.method("daq", **{option: 1e6})


@pytest.mark.parametrize("option", ["weight_sigma", "weight_gamma", "activation_sigma", "activation_gamma"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_constants_must_be_positive(option, value):
    """sigma or gamma of zero or less has no meaning in the paper's formulas."""
    with pytest.raises(ValueError, match=option):
        methods.method("daq", **{option: value})
