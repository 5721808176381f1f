"""Integer forms and bins: what they say of a quantizer is what its codes do."""

import pytest
import torch

from qexp.quantizers.numerics import as_tensor
from support import methods

sites = pytest.mark.parametrize(("name", "side", "bits"), methods.all_sites())
weights = pytest.mark.parametrize(
    ("name", "side", "bits"), [site for site in methods.all_sites() if site[1] == "weight"]
)


def calibrated(name, side, bits):
    quantizer = methods.build(name, side, bits)
    quantizer.calibrate(methods.sample(side, seed=1))
    return quantizer.eval()


@sites
@pytest.mark.parametrize("is_signed", [False, True])
def test_integers_times_scale_are_the_levels_of_the_codes(name, side, bits, is_signed):
    """Whole numbers of the promised size; an even grid from 0, or around it, has no offset."""
    x = methods.sample("weight" if is_signed else side, 64, 3, 3)
    quantizer = methods.build(name, side, bits)
    quantizer.calibrate(x)
    codes, levels = quantizer.eval().codes(x)
    form = quantizer.integer_form(x)
    assert torch.equal(form.codes, codes.float())
    scale, offset = float(form.scale), float(form.offset)
    integers = form.integers()
    assert torch.equal(integers, integers.round())
    assert integers.abs().max() <= 2**bits - 1
    torch.testing.assert_close(
        integers * scale + offset, levels[codes.long()], rtol=1e-6, atol=1e-6 * levels.abs().max()
    )
    if side == "activation" and not is_signed:
        assert offset == 0


@weights
def test_codes_change_at_the_thresholds_of_the_bins(name, side, bits):
    """Far enough from a threshold for float32, the code is the number of thresholds below."""
    quantizer, x = calibrated(name, side, bits), methods.sample(side, 64, 16, 3, 3)
    codes, bins = quantizer.codes(x)[0], quantizer.bins(x)
    assert bins.centers.dtype == bins.thresholds.dtype == bins.step.dtype == torch.float64
    assert len(bins.centers) == len(bins.thresholds) + 1 <= 2**bits
    assert (bins.centers.diff() > 0).all()
    torch.testing.assert_close(bins.centers.diff(), bins.step.expand(len(bins.thresholds)))
    distance = (x.double()[..., None] - bins.thresholds).abs().amin(-1) / bins.step
    is_clear = distance > 1e-4
    assert is_clear.double().mean() > 0.9
    found = torch.bucketize(x.double(), bins.thresholds, right=True)
    assert torch.equal(found[is_clear], codes.long()[is_clear])


@weights
def test_the_code_of_a_center_is_its_own(name, side, bits):
    """Put on the center of its bin, a weight keeps its code: what freezing and dampening move it to."""
    quantizer, x = calibrated(name, side, bits), methods.sample(side, 64, 16, 3, 3)
    bins, codes = quantizer.bins(x), quantizer.codes(x)[0].long()
    moved = torch.bucketize(bins.centers[codes], bins.thresholds, right=True)
    assert torch.equal(moved, codes)
    levels = quantizer.codes(x)[1].double()
    assert torch.corrcoef(torch.stack([levels, as_tensor(bins.centers, levels)]))[0, 1] > 1 - 1e-9 or len(levels) < 2
