"""Grids and ranges against published vectors and literal loops: SAWB, BWN, TWN, PACT, and mixes by name."""

import math

import numpy as np
import pytest
import torch

from qexp.quantizers.grids import Float, make_mix, usual_mix
from support import methods, plain
from support.distributions import drawn

BINARYRELAX = np.load(methods.GOLDEN / "binaryrelax_official.npz")


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


def test_full_precision_has_no_codes():
    """As a member of a mix it is the tensor itself; asked for codes it refuses, and does not make some up."""
    x = torch.tensor([-0.3, 0.7])
    assert torch.equal(Float(32).scaled(()).to_levels(x), x)
    with pytest.raises(ValueError, match="no codes"):
        Float(32).codes(x, ())
