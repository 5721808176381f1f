"""SRQ and CPQ against vectors of an independent implementation (tests/golden/family_public.npz), and by themselves."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from qexp.quantizers import srq
from qexp.quantizers.srq import semi_relaxed, semi_relaxed_plain
from support import methods
from support.family import family

CASES = family("srq")
BACKWARD = ("mode", "all")
# low, high and whether points lie at halves
GRIDS = {
    "1 bit": (0.0, 1.0, False),
    "1 bit, signed": (-0.5, 0.5, True),
    "2 bits": (-1.0, 1.0, False),
    "2 bits, full": (-2.0, 1.0, False),
    "4 bits, unsigned": (0.0, 15.0, False),
    "5 bits": (-15.0, 15.0, False),
    "8 bits, unsigned": (0.0, 255.0, False),
}


def on_shifted_grid(function, case, dtype, backward):
    """y and the gradients of x, alpha, sigma and beta on the points alpha k + beta; ours have beta = 0.

    Shifting x and y is all for the mean of the grid; under `mode` beta multiplies the chosen probability besides.
    """
    names = ("x", "alpha", "sigma", "beta")
    x, alpha, sigma, beta = leaves = [torch.tensor(case[name], dtype=dtype, requires_grad=True) for name in names]
    k = torch.tensor(case["k"], dtype=dtype)
    options = {"points": 2 ** int(case["bits"])} if function is semi_relaxed else {}
    y = function(x - beta, alpha, sigma, float(k[0]), float(k[-1]), backward=backward, **options) + beta
    if backward == "mode":
        distance = (alpha * k - (x - beta)[:, None]) / sigma
        half = alpha / sigma / 2
        chosen = torch.softmax(F.logsigmoid(distance + half) + F.logsigmoid(half - distance), -1).amax(-1)
        y = y + beta.detach() * (chosen - chosen.detach())
    y.backward(torch.tensor(case["go"], dtype=dtype))
    return [y.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("backward", BACKWARD)
@pytest.mark.parametrize("function", [semi_relaxed, semi_relaxed_plain])
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_recorded_values_and_gradients_in_double(case, function, backward):
    found = on_shifted_grid(function, case, torch.float64, backward)
    expected = [case["y"], *(case[f"{name}_{backward}"] for name in ("gx", "galpha", "gsigma", "gbeta"))]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, torch.tensor(theirs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backward", BACKWARD)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_recorded_values_and_gradients_in_single(case, backward):
    """The same points; alpha's gradient is ill-conditioned for large k: x - g loses digits, and g k multiplies it."""
    y, *gradients = on_shifted_grid(semi_relaxed, case, torch.float32, backward)
    points = ((y.double() - case["beta"]) / case["alpha"]).round()
    assert torch.equal(points, torch.tensor((case["y"] - case["beta"]) / case["alpha"]).round())
    torch.testing.assert_close(y, torch.tensor(case["y"]).float(), rtol=1e-5, atol=1e-5)
    for name, ours in zip(("gx", "galpha", "gsigma", "gbeta"), gradients, strict=True):
        tolerance = 7e-3 if name == "galpha" and case["bits"] >= 6 else 1e-4
        expected = torch.tensor(case[f"{name}_{backward}"]).float()
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def gradients(function, x, upstream, alpha, sigma, grid, backward, **options):
    """y and the gradients of x, alpha and sigma."""
    leaves = [x.clone().requires_grad_(), *(torch.tensor(v, dtype=x.dtype, requires_grad=True) for v in (alpha, sigma))]
    y = function(*leaves, *grid[:2], backward=backward, **options)
    y.backward(upstream)
    return [y.detach(), *(leaf.grad for leaf in leaves)]


def drawn(grid, dtype, alpha=0.3):
    """Values over the whole grid, and up to 4 points beyond; and an upstream gradient."""
    draw = torch.Generator().manual_seed(0)
    x = (torch.rand(300, generator=draw, dtype=torch.float64) * (grid[1] - grid[0] + 8) + grid[0] - 4) * alpha
    return x.to(dtype), torch.randn(300, generator=draw, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("ratio", [0.02, 0.2, 1 / 3, 0.6])
@pytest.mark.parametrize("backward", BACKWARD)
@pytest.mark.parametrize("name", GRIDS)
def test_closed_form_equals_the_plain_one(name, backward, ratio):
    """All there is, in double; in single as far as differences of numbers of the size of x allow."""
    grid, bits = GRIDS[name], math.ceil(math.log2(GRIDS[name][1] - GRIDS[name][0] + 1))
    options = {"halves": grid[2], "points": 2**bits}
    x, upstream = drawn(grid, torch.float64)
    x = torch.where((x > 0.3 * (grid[1] + 15 * ratio)) | (x < 0.3 * (grid[0] - 15 * ratio)), 0.01, x)
    plain = gradients(semi_relaxed_plain, x, upstream, 0.3, 0.3 * ratio, grid, backward)
    fused = gradients(semi_relaxed, x, upstream, 0.3, 0.3 * ratio, grid, backward, **options)
    for ours, expected in zip(fused, plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9 * max(1, expected.abs().max().item()))
    single = gradients(semi_relaxed, x.float(), upstream.float(), 0.3, 0.3 * ratio, grid, backward, **options)
    tolerance = (1e-5 + 3e-7 * grid[1]) / ratio
    is_clear = ((x / 0.3 - grid[0]) % 1 - 0.5).abs() > 1e-3  # of a threshold
    for ours, expected in zip(single[:2], plain[:2], strict=True):
        size = 1 + expected.abs().max().item()
        torch.testing.assert_close(ours.double()[is_clear], expected[is_clear], rtol=0, atol=tolerance * size)


def probability(x, k, low, high, alpha, sigma):
    """Return pi_k by differences of the logistic distribution, in NumPy."""

    def below(edge):
        return 1 / (1 + np.exp(-(alpha * edge - x) / sigma))

    return (below(k + 0.5) - below(k - 0.5)) / (below(high + 0.5) - below(low - 0.5))


@pytest.mark.parametrize("name", ["1 bit, signed", "2 bits", "2 bits, full", "4 bits, unsigned"])
@pytest.mark.parametrize("backward", BACKWARD)
def test_gradients_are_finite_differences_of_the_probabilities(name, backward):
    """sum G g pi with the points' own alpha held still, and sum G k for it: what the one-hot step leaves."""
    low, high, halves = grid = GRIDS[name]
    x, upstream = (value[:40].numpy() for value in drawn(grid, torch.float64))
    x = np.clip(x, 0.3 * (low - 1), 0.3 * (high + 1))
    points = np.arange(low, high + 1)
    chosen = points[np.abs(x[:, None] / 0.3 - points).argmin(1)]

    def relaxed(x, alpha, sigma):
        wanted = [chosen] if backward == "mode" else [np.full_like(x, k) for k in points]
        return sum((upstream * 0.3 * k * probability(x, k, low, high, alpha, sigma)).sum() for k in wanted)

    def difference(place):
        at, step = [x, 0.3, 0.12], 1e-6
        above, below = ([*at[:place], at[place] + sign * step, *at[place + 1 :]] for sign in (1, -1))
        return (relaxed(*above) - relaxed(*below)) / (2 * step)

    options = {"halves": halves, "points": 16}
    found = gradients(semi_relaxed, torch.tensor(x), torch.tensor(upstream), 0.3, 0.12, grid, backward, **options)
    assert found[1].sum().item() == pytest.approx(difference(0), rel=1e-6, abs=1e-7)
    assert found[2].item() == pytest.approx(difference(1) + (upstream * chosen).sum(), rel=1e-6, abs=1e-7)
    assert found[3].item() == pytest.approx(difference(2), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backward", BACKWARD)
def test_far_beyond_the_ends_gradients_are_finite_and_small(backward, dtype):
    """Where masses underflow x is taken for one 15 (36) sigma beyond."""
    x = torch.tensor([-1e30, -300.0, 300.0, 1e6], dtype=dtype)
    found = gradients(semi_relaxed, x, torch.ones_like(x), 0.3, 0.1, (-1.0, 1.0), backward, points=4)
    assert all(torch.isfinite(one).all() for one in found)
    assert found[1].abs().max() < 1e-5
    assert found[0].tolist() == pytest.approx([-0.3, -0.3, 0.3, 0.3])


def test_weights_of_the_zero_bin_get_no_gradient_under_mode():
    """A property of this reading: g = 0 multiplies it. Elsewhere the gradient changes sign at the grid point."""
    x = torch.tensor([-0.14, -0.01, 0.0, 0.1, 0.149, 0.2, 0.29, 0.31, 0.4])
    mode, all_of_them = (
        gradients(semi_relaxed, x, torch.ones_like(x), 0.3, 0.1, (-3.0, 3.0), backward, points=8)[1]
        for backward in BACKWARD
    )
    assert mode[:5].tolist() == [0] * 5
    assert mode[5:].sign().tolist() == [1, 1, -1, -1]
    assert (all_of_them > 0.1).all()


@pytest.mark.parametrize(("name", "side"), [("srq", "weight"), ("srq grid=full", "weight"), ("srq", "activation")])
def test_training_and_evaluation_round_alike(name, side):
    quantizer, x = methods.build(name, side, 2), methods.sample(side)
    quantizer.calibrate(x)
    assert torch.equal(quantizer.train()(x), quantizer.eval()(x))
    if side == "weight":
        assert len(quantizer(x).unique()) == (4 if "full" in name else 3)


@pytest.mark.parametrize(
    ("side", "bits", "values", "points"),
    [
        ("activation", 1, [0.0, 1.0, 1.0], [0.0, 1.0]),
        ("activation", 1, [-1.0, 1.0, -1.0, 1.0], [-0.5, 0.5]),
        ("activation", 2, [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]),
        ("activation", 3, [-1.0, 2.0, -3.0, 2.0], list(range(-3, 4))),
        ("weight", 2, [-2.0, 0.0, -2.0, 2.0], [-1.0, 0.0, 1.0]),
        ("weight", 4, [-1.4, 0.0, 0.2, 0.6], list(range(-7, 8))),
    ],
)
def test_grids_after_calibration(side, bits, values, points):
    """Values that lie on a grid are nearly on it, with the points of their side; sigma is a third of alpha."""
    quantizer, x = methods.build("srq", side, bits), torch.tensor(values)
    quantizer.calibrate(x)
    levels = quantizer.codes(x)[1]
    torch.testing.assert_close(
        levels / quantizer.alpha, torch.tensor(points, dtype=torch.float32), rtol=1e-5, atol=1e-6
    )
    assert (quantizer.eval()(x) - x).abs().max() < 0.05 * x.abs().max()
    torch.testing.assert_close(quantizer.sigma, quantizer.alpha / 3)


def test_sigma_stays_between_a_fiftieth_and_five_times_alpha():
    quantizer = methods.build("srq", "weight", 2)
    for log_sigma, ratio in ((-50.0, 0.02), (50.0, 5.0)):
        quantizer.log_sigma.data.fill_(log_sigma)
        assert quantizer.stats()["sigma_by_alpha"].item() == pytest.approx(ratio)
        quantizer(methods.sample("weight").requires_grad_()).sum().backward()
        assert torch.isfinite(quantizer.log_alpha.grad)
        assert quantizer.log_sigma.grad == 0


def test_alpha_is_rounded_once():
    """exp in double precision, of which libraries differ in the last bit only, then single."""
    quantizer = methods.build("srq", "weight", 2)
    for value in torch.linspace(-9, 1, 50):
        quantizer.log_alpha.data.copy_(value)
        assert quantizer.alpha.item() == np.float32(np.exp(np.float64(value)))


@pytest.mark.parametrize("backward", BACKWARD)
def test_pieces_and_layout_change_nothing(backward, monkeypatch):
    """A tensor with the channels last, its gradient in another layout, in pieces of 7 values."""
    x = methods.sample("weight", 6, 4, 3, 3, dtype=torch.float64)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = gradients(semi_relaxed, x, upstream, 0.05, 0.02, (-3.0, 3.0), backward, points=8)
    monkeypatch.setattr("qexp.quantizers.numerics.PIECE", 7)
    last = x.to(memory_format=torch.channels_last)
    parts = gradients(semi_relaxed, last, upstream, 0.05, 0.02, (-3.0, 3.0), backward, points=8)
    for ours, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    assert parts[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("backward", BACKWARD)
def test_half_precision_is_computed_in_single(backward):
    """A sum over 200,000 values would drown in float16."""
    values = torch.rand(200_000, generator=torch.Generator().manual_seed(0)).half()
    found = []
    for dtype in (torch.float16, torch.float64):
        quantizer = methods.build("srq", "activation", 2, activation_backward=backward).to(
            torch.float32 if dtype == torch.float16 else dtype
        )
        x = values.to(dtype, copy=True).requires_grad_()
        y = quantizer(x)
        (y.float() if dtype == torch.float16 else y).sum().backward()
        assert x.grad.dtype == y.dtype == dtype
        found.append(quantizer.log_alpha.grad.item())
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_a_wide_grid_is_summed_near_the_chosen_point(monkeypatch):
    """With sigma = alpha / 3 the mass 16 points away is below 1e-20: twice as many give the same gradient."""
    x, upstream = drawn(GRIDS["8 bits, unsigned"], torch.float64)
    given = (semi_relaxed, x, upstream, 0.3, 0.1, GRIDS["8 bits, unsigned"], "all")
    near = gradients(*given)
    monkeypatch.setattr(srq, "MOST_POINTS", 32)
    for ours, expected in zip(near, gradients(*given), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("changes", [{"backward": "soft"}, {"activation_backward": "ste"}, {"grid": "even"}])
def test_other_words_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        methods.method("srq", **changes)


@pytest.mark.parametrize("name", ["rq", "srq", "dropbits"])
def test_a_scale_beyond_all_numbers_divides_nothing_by_0(name):
    """Such a run has diverged, which its loss says, and not an error."""
    quantizer, x = methods.build(name, "weight", 3), methods.sample("weight").requires_grad_()
    quantizer.log_alpha.data.fill_(-1e4)
    quantizer(x).sum().backward()
    assert quantizer.alpha.item() == pytest.approx(2.0**-149)
    assert quantizer.sigma.item() >= 2.0**-149
