"""RQ, against an independent implementation's vectors, its own definition, exact probabilities and differences."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from qexp.quantizers import sampling
from qexp.quantizers.noise import Noise
from qexp.quantizers.rq import RQQuantizer
from qexp.quantizers.sampling import Sampling, sampled, sampled_plain
from qexp.utils.types import Progress
from support import methods
from support.family import family

CASES = [(name, index) for name in ("rq", "rqlocal") for index in range(len(family(name)))]
LOWEST = {0: lambda bits: -(2 ** (bits - 1)), 1: lambda bits: 0, 2: lambda bits: 1 - 2 ** (bits - 1)}
HIGHEST = {0: lambda bits: 2 ** (bits - 1) - 1, 1: lambda bits: 2**bits - 1, 2: lambda bits: 2 ** (bits - 1) - 1}


def as_drawn(gumbel: np.ndarray, values: int, dtype: torch.dtype) -> Tensor:
    """Gumbel noise, a row for each value, as exponential noise, a row for each point."""
    return torch.tensor(gumbel, dtype=dtype).view(values, -1).neg().exp().T.contiguous()


def case_of(name: str, index: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    """A recorded case, its leaves x, alpha and sigma with x counted from beta, and how to sample; with its noise."""
    case = family(name)[index]
    x, alpha, sigma = (
        torch.as_tensor(value, dtype=dtype).requires_grad_()
        for value in (case["x"] - case["beta"], case["alpha"], case["sigma"])
    )
    bits, kind = int(case["bits"]), int(case["kind"])
    low, high = LOWEST[kind](bits), HIGHEST[kind](bits)
    m = int(case["neighbours"]) if name == "rqlocal" else None
    first, points = (None, high - low + 1) if m is None else (-m, 2 * m + 1)
    monkeypatch.setattr(sampling, "draw", lambda *_: as_drawn(case["gumbel"], len(x), dtype))
    return case, x, alpha, sigma, Sampling(low, high, False, first, points, float(case["temperature"]), False)


def assert_near(found: Tensor, expected: Any, tolerance: float) -> None:
    """Relative to 1 + |value|."""
    reference = torch.as_tensor(expected, dtype=torch.float64)
    assert ((found.detach().double() - reference).abs() / (1 + reference.abs())).max() < tolerance


KEY = torch.zeros((), dtype=torch.int64)


@pytest.mark.parametrize(("dtype", "value", "gradient"), [(torch.float64, 1e-9, 1e-9), (torch.float32, 1e-5, 1e-4)])
@pytest.mark.parametrize("ending", ["", "_st"])
@pytest.mark.parametrize(("name", "index"), CASES)
def test_recorded_values_and_gradients(
    name: str,
    index: int,
    ending: str,
    dtype: torch.dtype,
    value: float,
    gradient: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case, x, alpha, sigma, how = case_of(name, index, dtype, monkeypatch)
    if f"y{ending}" not in case:
        assert name == "rqlocal"
        return
    y = sampled(x, alpha, sigma, how._replace(hard=bool(ending)), KEY)
    upstream = torch.as_tensor(case["go"], dtype=dtype)
    y.backward(upstream)
    assert_near(y, case[f"y{ending}"] - case["beta"], value)
    assert_near(x.grad, case[f"gx{ending}"], gradient)
    assert_near(upstream.sum() - x.grad.sum(), case[f"gbeta{ending}"], gradient)
    # x - alpha k loses digits of single precision where k is large, and alpha's gradient has k as a factor.
    assert_near(alpha.grad, case[f"galpha{ending}"], 1e-3 if gradient == 1e-4 and case["bits"] > 6 else gradient)
    assert_near(sigma.grad, case[f"gsigma{ending}"], gradient)


@pytest.mark.parametrize("index", range(len(family("rq"))))
def test_recorded_evaluation(index: int) -> None:
    """Algorithm 2: rounding to the grid, without noise; for the grids that the quantizer has."""
    case = family("rq")[index]
    bits, kind = int(case["bits"]), int(case["kind"])
    if bits == 1 or kind == 2:
        assert (bits, kind) not in ((2, 0), (2, 1))
        return
    quantizer = methods.build("rq", "activation" if kind else "weight", bits).double().eval()
    quantizer.log_alpha.data.fill_(math.log(case["alpha"]))
    assert_near(quantizer(torch.tensor(case["x"] - case["beta"])), case["y_test"] - case["beta"], 1e-12)


SHAPES = [(2, 0.3, 1.0), (4, 1.0, 0.5), (3, 0.05, 2.0), (2, 4.0, 0.7), (4, 0.02, 1.0)]


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(("bits", "ratio", "temperature"), SHAPES)
def test_the_fused_form_is_the_definition(bits: int, ratio: float, temperature: float, hard: bool) -> None:
    """Values far outside of the grid too, in double precision: value and all gradients."""
    generator = torch.Generator().manual_seed(bits)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    x = (torch.randn(500, generator=generator, dtype=torch.float64) * 2**bits).requires_grad_()
    alpha = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor(0.7 * ratio, dtype=torch.float64, requires_grad=True)
    how = Sampling(low, high, False, None, 2**bits, temperature, hard)
    noise = Noise()
    found = sampled(x, alpha, sigma, how, noise.key)
    upstream = torch.randn(500, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad(found, (x, alpha, sigma), upstream)
    gumbel = -noise.exponential(2**bits, x.detach()).log().T
    k = torch.arange(low, high + 1, dtype=torch.float64)
    plain = sampled_plain(x, alpha, sigma, k, gumbel, temperature, straight_through=hard)
    inside = ((x / alpha > low - 30 * ratio) & (x / alpha < high + 30 * ratio)).detach()
    expected = torch.autograd.grad(plain, (x, alpha, sigma), upstream)
    torch.testing.assert_close(found, plain, rtol=1e-10, atol=1e-10)
    for own, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-8)
    assert inside.any()


@pytest.mark.parametrize("m", [1, 2])
def test_the_local_grid_is_the_definition_on_the_points_near_a_value(m: int) -> None:
    """Each value alone, with the points that lie on the grid among its neighbours."""
    low, high, alpha, sigma = 0, 7, torch.tensor(0.5, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64)
    x = torch.linspace(-2, 6, 81, dtype=torch.float64)
    how = Sampling(low, high, False, -m, 2 * m + 1, 0.8, False)
    noise = Noise()
    found, gumbel = sampled(x, alpha, sigma, how, noise.key), -noise.exponential(2 * m + 1, x).log()
    for index, value in enumerate(x):
        nearest = round(min(max(value.item() / 0.5, low), high))
        k = [(j, nearest - m + j) for j in range(2 * m + 1) if low <= nearest - m + j <= high]
        points = torch.tensor([own for _, own in k], dtype=torch.float64)
        own = torch.stack([gumbel[j, index] for j, _ in k])
        assert abs(sampled_plain(value, alpha, sigma, points, own, 0.8) - found[index]) < 1e-10


def test_samples_have_the_frequencies_of_the_exact_categorical() -> None:
    """Of bins under a logistic density, truncated to the grid: 5 deviations, for RQ ST whose samples are points."""
    count, alpha, sigma = 200_000, torch.tensor(1.0), torch.tensor(0.6)
    for value in (-0.3, 0.5, 1.9, 3.4):
        how = Sampling(-2, 1, False, None, 4, 1.0, True)
        found = sampled(torch.full((count,), value), alpha, sigma, how, KEY)
        edges = torch.sigmoid((torch.arange(-2, 3, dtype=torch.float64) - 0.5 - value) / 0.6)
        exact = edges.diff() / (edges[-1] - edges[0])
        for k, share in zip(range(-2, 2), exact.tolist(), strict=True):
            assert abs((found == k).double().mean().item() - share) < 5 * math.sqrt(share * (1 - share) / count) + 1e-6


@pytest.mark.parametrize("first", [None, -1])
def test_gradients_are_those_of_differences(first: int | None) -> None:
    """Of the soft sample with its noise held fixed."""
    x = torch.tensor([-0.9, -0.2, 0.31, 0.77, 1.6], dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor(0.21, dtype=torch.float64, requires_grad=True)
    how = Sampling(-2, 1, False, first, 4 if first is None else 3, 0.9, False)
    assert torch.autograd.gradcheck(lambda *of: sampled(*of, how, KEY), (x, alpha, sigma), eps=1e-6, atol=1e-7)


def test_scaling_everything_scales_the_sample() -> None:
    """x d/dx + alpha d/dalpha + sigma d/dsigma of the sample is the sample: probabilities have no scale."""
    x = torch.linspace(-3, 3, 101, dtype=torch.float64).requires_grad_()
    alpha = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    found = sampled(x, alpha, sigma, Sampling(-4, 3, False, -2, 5, 1.0, False), KEY)
    by_x, by_alpha, by_sigma = torch.autograd.grad(found.sum(), (x, alpha, sigma))
    assert abs((x * by_x).sum() + alpha * by_alpha + sigma * by_sigma - found.sum()) < 1e-9


@pytest.mark.parametrize("straight_through", [False, True])
def test_values_far_outside_stay_finite(straight_through: bool) -> None:
    """The printed form is 0 / 0 there in single precision; gradients vanish."""
    quantizer = methods.build("rq", "weight", 4, straight_through=straight_through, neighbours=None)
    x = torch.tensor([-1e4, -40.0, 0.0, 40.0, 1e4], requires_grad=True)
    y = quantizer(x)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert x.grad[[0, 4]].abs().max() < 1e-6
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("neighbours", [1, None])
def test_how_far_outside_a_value_lies_does_not_change_the_gradient_of_the_scales(
    sign: int, neighbours: int | None
) -> None:
    """What is left of its own gradient in single precision is a rounding error, and must not be multiplied by it."""
    quantizer = methods.build("rq", "weight", 2, straight_through=True, neighbours=neighbours)
    quantizer.log_alpha.data.zero_()
    quantizer.log_sigma.data.fill_(math.log(1 / 3))
    found = []
    for far in (20.0, 1e8, 1e30):
        sample = quantizer(torch.full((100,), sign * far)).sum()
        found.append(torch.stack(torch.autograd.grad(sample, (quantizer.log_alpha, quantizer.log_sigma))))
    torch.testing.assert_close(found[1:], found[:1] * 2, rtol=1e-4, atol=1e-3)


def test_the_noise_is_that_of_the_quantizers_step() -> None:
    quantizer, x = methods.build("rq", "weight", 2), methods.sample("weight")
    quantizer.calibrate(x)
    quantizer.noise.go_to(5)
    how = Sampling(-2, 1, False, -1, 3, 1.0, False)
    expected = sampled(x, quantizer.alpha, quantizer.sigma, how, quantizer.noise.key)
    assert torch.equal(quantizer(x), expected)
    quantizer.noise.go_to(6)
    assert not torch.equal(quantizer(x), expected)


def test_a_backward_pass_after_the_next_step_sees_the_noise_of_its_own() -> None:
    quantizer, x = methods.build("rq", "weight", 2), methods.sample("weight").requires_grad_()
    quantizer.calibrate(x.detach())
    quantizer.noise.go_to(1)
    expected = torch.autograd.grad(quantizer(x).square().sum(), x)[0]
    late = quantizer(x)
    quantizer.noise.go_to(2)
    assert torch.equal(torch.autograd.grad(late.square().sum(), x)[0], expected)


def test_temperature_falls_geometrically() -> None:
    quantizer = methods.build("rq", "weight", 2, temperature_start=2.0, temperature_end=0.5)
    quantizer.anneal(Progress(50, 100, 0, 2))
    assert quantizer.temperature.item() == pytest.approx(1.0)
    x = methods.sample("weight")
    how = Sampling(-2, 1, False, -1, 3, 1.0, False)
    assert torch.allclose(quantizer(x), sampled(x, quantizer.alpha, quantizer.sigma, how, quantizer.noise.key))


def test_the_grid_begins_at_zero_where_inputs_do_and_has_both_signs_where_they_have() -> None:
    for sample, low, high in ((torch.rand(1000), 0, 3), (torch.randn(1000), -2, 1)):
        quantizer = methods.build("rq", "activation", 2)
        quantizer.calibrate(sample)
        assert (quantizer.k_low, quantizer.k_high) == (low, high)
        levels = quantizer.codes(sample)[1] / quantizer.alpha
        assert levels.round().tolist() == list(range(low, high + 1))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("of", ["weight", "activation", "sparse", "signed"])
def test_calibration_starts_at_the_least_squared_error(of: str, bits: int) -> None:
    """No alpha of a fine search is better by more than 2 % of the error; sigma is a third of it (readings)."""
    side = "weight" if of == "weight" else "activation"
    x = methods.sample(side, 64, 8, 3, 3)
    x = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)) if of == "signed" else x
    x = x * (x > 1.0) if of == "sparse" else x
    quantizer = methods.build("rq", side, bits)
    quantizer.calibrate(x)
    assert (quantizer.sigma / quantizer.alpha).item() == pytest.approx(1 / 3, rel=1e-5)

    def error(alpha: float) -> float:
        quantizer.log_alpha.data.fill_(math.log(alpha))
        return (quantizer.hard(x) - x).square().mean().item()

    found = error(quantizer.alpha.item())
    largest = x.abs().max().item()
    assert found <= 1.02 * min(error(largest * 2 ** (power / 40)) for power in range(-40 * (bits + 2), 41))


def test_calibration_sees_values_of_all_places() -> None:
    """Of more values than it looks at, each channel, row and column has its part, in any layout."""
    x = torch.zeros(16, 64, 16, 16)
    x[:, 5] = 1.0
    quantizer = methods.build("rq", "activation", 2)
    quantizer.calibrate(x)
    expected = quantizer.log_alpha.item()
    assert error_of(quantizer, x) < 1e-3
    quantizer.calibrate(x.to(memory_format=torch.channels_last))
    assert quantizer.log_alpha.item() == expected
    rows = torch.zeros(16, 64, 16, 16)
    rows[..., 3, :] = 1.0
    quantizer.calibrate(rows)
    assert error_of(quantizer, rows) < 1e-3
    late = torch.zeros(16, 64, 16, 16)
    late[8:] = 1.0
    quantizer.calibrate(late)
    assert error_of(quantizer, late) < 1e-3


def error_of(quantizer: RQQuantizer, x: Tensor) -> float:
    return (quantizer.hard(x) - x).square().sum().item() / x.square().sum().item()


def test_the_strength_of_the_noise_has_limits() -> None:
    """0.02 alpha to 5 alpha, with no gradient beyond."""
    for start, ratio in ((-20.0, 0.02), (20.0, 5.0)):
        quantizer = methods.build("rq", "weight", 2)
        quantizer.log_sigma.data.fill_(quantizer.log_alpha.item() + start)
        assert (quantizer.sigma / quantizer.alpha).item() == pytest.approx(ratio, rel=1e-5)


def test_the_whole_grid_has_at_most_4_bits() -> None:
    with pytest.raises(ValueError, match="neighbours=null: the whole grid of 5 bits has 32 points; at most 4 bits"):
        methods.method("rq", neighbours=None).check(5, 32)
    assert isinstance(methods.build("rq", "weight", 4, neighbours=None), RQQuantizer)


def test_neighbours_that_cover_the_grid_are_the_whole_grid() -> None:
    one, other = (methods.build("rq", "weight", 2, neighbours=own) for own in (2, None))
    assert (one.first, one.points) == (other.first, other.points) == (None, 4)


def test_samples_of_half_precision_are_those_of_single() -> None:
    quantizer, x = methods.build("rq", "weight", 2), methods.sample("weight").bfloat16()
    assert torch.equal(quantizer(x), quantizer(x.float()).bfloat16())


def test_points_of_the_definition_are_not_shifted() -> None:
    """A value on a point, with noise that decides nothing, stays there; T small, sigma small."""
    k = torch.arange(-2, 2, dtype=torch.float64)
    x = 0.5 * k
    flat = torch.zeros(4, 4, dtype=torch.float64)
    found = sampled_plain(x, torch.tensor(0.5), torch.tensor(0.02), k, flat, 0.5)
    assert torch.allclose(found, x, atol=1e-6)
    assert F.softplus(torch.zeros(())).item() == pytest.approx(math.log(2))
