"""Integer forms and bins: what they say of a quantizer is what its codes do."""

import pytest
import torch

from qexp.quantizers.channels import values_at
from support import methods

SITES = methods.all_sites() + methods.BY_CHANNEL
SHAPE = (64, 16, 3, 3)

sites = pytest.mark.parametrize(("name", "side", "bits"), SITES)
weights = pytest.mark.parametrize(("name", "side", "bits"), [site for site in SITES if site[1] == "weight"])


def calibrated(name, side, bits):
    quantizer = methods.build(name, side, bits, shape=SHAPE)
    quantizer.calibrate(methods.sample(side, *SHAPE, seed=1))
    return quantizer.eval()


def per_tensor(value):
    """A row for all channels, or one for each: with dimensions to be compared with values of the shape of a weight."""
    return value if value.dim() > 1 else value.view(1, 1, 1, 1, -1)


@sites
@pytest.mark.parametrize("is_signed", [False, True])
def test_integers_times_scale_are_the_levels_of_the_codes(name, side, bits, is_signed):
    """Whole numbers of the promised size; an even grid from 0, or around it, has no offset."""
    x = methods.sample("weight" if is_signed else side, 64, 3, 3)
    quantizer = methods.build(name, side, bits, shape=(64, 3, 3))
    quantizer.calibrate(x)
    codes, levels = quantizer.eval().codes(x)
    form = quantizer.integer_form(x)
    assert torch.equal(form.codes, codes.float())
    scale, offset = form.scale, form.offset
    integers = form.integers()
    assert torch.equal(integers, integers.round())
    assert integers.abs().max() <= 2**bits - 1
    found = (integers.double() * scale + offset).float()
    torch.testing.assert_close(found, values_at(levels, codes), rtol=1e-6, atol=1e-6 * levels.abs().max())
    if side == "activation" and not is_signed:
        assert offset == 0


@weights
def test_codes_change_at_the_thresholds_of_the_bins(name, side, bits):
    """Far enough from a threshold for float32, the code is the number of thresholds below."""
    quantizer, x = calibrated(name, side, bits), methods.sample(side, *SHAPE)
    codes, bins = quantizer.codes(x)[0], quantizer.bins(x)
    assert bins.centers.dtype == bins.thresholds.dtype == bins.step.dtype == torch.float64
    assert bins.centers.shape[-1] == bins.thresholds.shape[-1] + 1 <= 2**bits
    assert bins.centers.shape[:-1] == bins.thresholds.shape[:-1] == bins.step.shape
    assert (bins.centers.diff() > 0).all()
    torch.testing.assert_close(bins.centers.diff(), bins.step[..., None].expand(bins.thresholds.shape))
    differences = x.double()[..., None] - per_tensor(bins.thresholds)
    is_clear = differences.abs().amin(-1) / bins.step > 1e-4
    assert is_clear.double().mean() > 0.9
    assert torch.equal((differences >= 0).sum(-1)[is_clear], codes.long()[is_clear])


@weights
def test_the_code_of_a_center_is_its_own(name, side, bits):
    """Put on the center of its bin, a weight keeps its code: what freezing and dampening move it to."""
    quantizer, x = calibrated(name, side, bits), methods.sample(side, *SHAPE)
    bins, codes = quantizer.bins(x), quantizer.codes(x)[0].long()
    centers = values_at(bins.centers, codes)
    assert torch.equal((centers[..., None] >= per_tensor(bins.thresholds)).sum(-1), codes)
    levels = quantizer.codes(x)[1].double()
    rows = [rows.reshape(-1, rows.shape[-1]) for rows in (levels, bins.centers)]
    for own, places in zip(*(part.expand(max(map(len, rows)), -1) for part in rows), strict=True):
        assert torch.corrcoef(torch.stack([own, places]))[0, 1] > 1 - 1e-9 or len(own) < 2
