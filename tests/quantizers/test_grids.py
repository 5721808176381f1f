"""Grids and ranges against published vectors and literal loops: SAWB, BWN, TWN, PACT, and mixes by name."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from qexp.quantizers import anneal, calibrate, named_quantizers, quantize
from qexp.quantizers.grids import Float, make_mix, usual_mix
from qexp.quantizers.sawb import formula_clip, search_clip
from qexp.utils.types import Progress
from support import methods, plain

SAWB = np.load(methods.GOLDEN / "sawb_ibm_fms.npz")
BINARYRELAX = np.load(methods.GOLDEN / "binaryrelax_official.npz")
DISTRIBUTIONS = {
    "normal": torch.distributions.Normal(0.0, 0.3),
    "laplace": torch.distributions.Laplace(0.0, 0.3),
    "uniform": torch.distributions.Uniform(-0.3, 0.3),
}


def drawn(name, count, seed=0):
    torch.manual_seed(seed)
    return DISTRIBUTIONS[name].sample((count,))


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


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_twn_is_equation_15(seed):
    """Threshold 0.7 E|x|; the scale is the mean of what lies above it, and of nothing else."""
    x = methods.sample("weight", seed=seed)
    values = x.flatten().tolist()
    threshold = 0.7 * sum(map(abs, values)) / len(values)
    kept = [abs(value) for value in values if abs(value) > threshold]
    beta = sum(kept) / len(kept)
    expected = [math.copysign(beta, value) if abs(value) > threshold else 0.0 for value in values]
    torch.testing.assert_close(methods.build("ste grid=twn", "weight", 2)(x).flatten(), torch.tensor(expected))


def test_twn_differs_from_the_released_binaryrelax_by_their_scale_alone():
    """Their code divides by all entries instead of the kept ones: the same pattern, a scale too small."""
    theirs, w = torch.tensor(BINARYRELAX["tnn"]), torch.tensor(BINARYRELAX["w"])
    ours = methods.build("ste grid=twn", "weight", 2)(w)
    kept = (theirs != 0).float().mean()
    assert 0.3 < kept < 0.9
    torch.testing.assert_close(ours * kept, theirs, rtol=1e-5, atol=1e-7)


def test_bwn_equals_the_released_binaryrelax_and_zero_is_positive():
    """beta sign(w) with beta = E|w|; eq. 14 has >= where their sign(0) would be 0."""
    quantizer = methods.build("ste grid=bwn", "weight", 1)
    torch.testing.assert_close(quantizer(torch.tensor(BINARYRELAX["w"])), torch.tensor(BINARYRELAX["bw"]))
    torch.testing.assert_close(quantizer(torch.tensor([0.0, -1.0, 2.0])), torch.tensor([1.0, -1.0, 1.0]))


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
    (estimator,) = quantizer.range_estimators
    assert estimator.alpha.item() == pytest.approx(x.abs().max().item())
    estimator.alpha.data.fill_(0.9)
    leaf = x.clone().requires_grad_()
    y = quantizer(leaf)
    y.backward(upstream)
    values, to_x, to_alpha = pact_oracle(x.tolist(), upstream.tolist(), 0.9, bits, signed)
    torch.testing.assert_close(y.detach(), torch.tensor(values, dtype=torch.float64))
    torch.testing.assert_close(leaf.grad, torch.tensor(to_x, dtype=torch.float64))
    assert estimator.alpha.grad.item() == pytest.approx(to_alpha)


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
    assert [type(estimator).__name__ for estimator in three.range_estimators] == ["PactRange"]


@pytest.mark.parametrize(
    ("grid", "bits", "of_weights", "expected"),
    [
        ("minmax", 2, True, "minmax@2 minmax@4 minmax@8"),
        ("sawb", 2, True, "sawb@2 sawb@4 sawb@8"),
        ("sawb", 1, True, "bwn@1 sawb@2 sawb@4"),
        ("minmax", 1, False, "minmax@1 minmax@2 minmax@4"),
        ("twn", 2, True, "twn@2 minmax@4 minmax@8"),
        ("bwn", 1, True, "bwn@1 minmax@2 minmax@4"),
        ("pact", 2, False, "pact@2 pact@4 pact@8"),
        ("sawb", 4, True, "sawb@4 sawb@8 fp@16"),
    ],
)
def test_the_usual_mix_of_a_grid(grid, bits, of_weights, expected):
    """n, 2n and 4n bits; TWN beside 4 and 8 bits of min-max, as the DQA paper's Table 1 prints it."""
    entries = usual_mix(grid, (bits, 2 * bits, 4 * bits), of_weights=of_weights)
    assert " ".join(entries) == expected
    widths = [member.grid.bits for member in make_mix(entries, of_weights=of_weights, sawb="search")]
    assert widths == [bits, 2 * bits, 4 * bits]


@pytest.mark.parametrize(
    ("words", "bits", "message"),
    [
        ("ste grid=twn", (4, 32), "'twn@4': the grid twn has 2 bits, not 4"),
        ("ste grid=bwn", (2, 32), "'bwn@2': the grid bwn has 1 bit, not 2"),
        ("br mix=[sawb@2,fp]", (2, 2), "activation_mix= gives layer inputs a mix of their own"),
        ("br activation_mix=[pact@4,fp]", (2, 2), r"activation_mix \[pact@4,fp\] begins with 4 bits where 2"),
        (
            "dqa mix=[pact@2,minmax@4,fp]",
            (2, 32),
            "'pact@2' is not GRID@BITS with a grid of minmax, sawb, bwn, twn",
        ),
    ],
)
def test_a_grid_in_the_wrong_place_is_refused(words, bits, message):
    """One line that says which entry, and what there is."""
    with pytest.raises(ValueError, match=message):
        methods.method(words).check(*bits)


def test_figure_2_of_the_dqa_paper():
    """Absolute error over temperature: DQA's mix stays below BR's down to T = 0.03, where both are the 2-bit error."""
    x = drawn("normal", 200_000) / 0.3
    copies = {bits: plain.uniform(x, x.min(), x.max(), bits) for bits in (2, 4, 8)} | {32: x}

    def error(alpha, bits, temperature):
        attention = torch.softmax(torch.tensor(alpha) / temperature, 0)
        return (x - plain.weighted_sum([copies[width] for width in bits], attention)).abs().mean().item()

    printed = {100: (0.430, 0.298), 10: (0.440, 0.304), 1: (0.534, 0.367), 0.5: (0.627, 0.441), 0.2: (0.793, 0.638)}
    printed |= {0.1: (0.852, 0.802), 0.03: (0.858, 0.858)}
    for temperature, expected in printed.items():
        errors = (
            error((3 / 4, 1 / 4), (2, 32), temperature),
            error((4 / 7, 2 / 7, 1 / 7), (2, 4, 8), temperature),
        )
        assert errors == pytest.approx(expected, rel=0.06)
    for temperature in torch.logspace(2, math.log10(0.031), 40).tolist():
        br, dqa = error((3 / 4, 1 / 4), (2, 32), temperature), error((4 / 7, 2 / 7, 1 / 7), (2, 4, 8), temperature)
        assert dqa < br
    limit = (x - copies[2]).abs().mean().item()
    assert error((3 / 4, 1 / 4), (2, 32), 0.01) == pytest.approx(limit, rel=1e-6)
    assert error((4 / 7, 2 / 7, 1 / 7), (2, 4, 8), 0.01) == pytest.approx(limit, rel=1e-6)


def test_the_clip_of_pact_has_an_optimizer_of_its_own():
    """Its role is `clip`, and it does not count as a weight of the network."""
    from qexp.quantizers import parameter_roles, weight_memory_bytes

    net = nn.Sequential(nn.Linear(8, 4, bias=False))
    quantize(net, methods.method("ste activation_grid=pact"), weight_bits=32, activation_bits=2, keep_float=[])
    roles = parameter_roles(net)
    assert {role: len(members) for role, members in roles.items()} == {"weight": 1, "clip": 1}
    assert roles["clip"][0] is dict(named_quantizers(net))["0.input_quantizer"].range_estimators[0].alpha
    assert weight_memory_bytes(net) == (128.0, 128.0)


def test_full_precision_has_no_codes():
    """As a member of a mix it is the tensor itself; asked for codes it refuses, and does not make some up."""
    x = torch.tensor([-0.3, 0.7])
    assert torch.equal(Float(32).scaled(()).to_levels(x), x)
    with pytest.raises(ValueError, match="no codes"):
        Float(32).codes(x, ())
