"""BinaryRelax against its authors' released code (tests/golden/binaryrelax_official.npz) and eq. 8 of the DQA paper."""

import numpy as np
import pytest
import torch

from qexp.utils.types import Progress
from support import methods, plain

GOLDEN = np.load(methods.GOLDEN / "binaryrelax_official.npz")


def at(quantizer, epoch, epochs):
    quantizer.anneal(Progress(epoch + 1, epochs, epoch, epochs))
    return quantizer


@pytest.mark.parametrize("eta", GOLDEN["etas"].tolist())
def test_binary_mix_equals_the_released_code(eta):
    """(eta * proj(y) + y) / (eta + 1) with the recorded eta as omega; the mix is BWN and full precision."""
    quantizer = methods.build("br", "weight", 1, mix=["bwn@1", "fp"], omega_end=max(eta, 1.0) ** 2)
    mixed = at(quantizer, 1, 2)(torch.tensor(GOLDEN["w"]))
    torch.testing.assert_close(mixed, torch.tensor(GOLDEN[f"relaxed_bw_eta{eta:.6f}"]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(quantizer.eval()(torch.tensor(GOLDEN["w"])), torch.tensor(GOLDEN["bw"]))


def test_omega_is_1_02_per_epoch_over_300_epochs():
    """omega(0) = 1 in the first epoch, 1.02 times more in each one after it: eq. 8's schedule to the letter."""
    quantizer = methods.build("br", "weight", 2)
    for epoch in (0, 1, 2, 150, 299):
        omega = 1.02**epoch
        expected = torch.tensor([omega, 1, 1]) / (omega + 2)
        torch.testing.assert_close(at(quantizer, epoch, 300).mix, expected, rtol=1e-5, atol=1e-6)


def test_forward_is_equation_8():
    """q = (omega Q1 + Q2 + Q3) / (omega + 2) over 2, 4 and 8 bits of the tensor's own range."""
    x, omega = methods.sample("weight"), 380.2345080615 ** (7 / 10)
    q = [plain.uniform(x, x.min(), x.max(), bits) for bits in (2, 4, 8)]
    expected = (omega * q[0] + q[1] + q[2]) / (omega + 2)
    torch.testing.assert_close(at(methods.build("br", "weight", 2), 7, 10)(x), expected, rtol=1e-5, atol=1e-7)


def test_second_phase_trains_the_lowest_grid():
    """hard_from = 0.75: from that fraction of the epochs on, training sees what evaluation sees."""
    x, quantizer = methods.sample("weight"), methods.build("br", "weight", 2, hard_from=0.75)
    hard = methods.frozen(quantizer)(x)
    assert not torch.allclose(at(quantizer, 14, 20)(x), hard, atol=1e-4)
    assert torch.equal(at(quantizer, 15, 20)(x), hard)


def test_evaluation_is_hard_from_the_first_epoch():
    """The mix is for training; evaluation shows the lowest grid, whose levels a 2-bit network has."""
    x, quantizer = methods.sample("weight"), at(methods.build("br", "weight", 2), 0, 20)
    assert len(quantizer(x).unique()) > 4
    assert len(quantizer.eval()(x).unique()) == 4


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (["minmax@4", "minmax@8"], "begins with 4 bits where 2 are asked for"),
        (["minmax@2", "lsq@4"], "'lsq@4' is not GRID@BITS"),
        (["minmax@2", "minmax@2"], "from the lowest bit-width to the highest"),
        (["minmax@2", "minmax@16"], "has 1 to 8 bits"),
        (["bwn@2", "fp"], "bwn has 1 bit"),
        (["minmax", "fp"], "'minmax' is not GRID@BITS"),
    ],
)
def test_a_mix_that_makes_no_sense_is_refused(mix, message):
    """One line says which entry and why."""
    with pytest.raises(ValueError, match=message):
        methods.method("br", mix=mix).check(2, 32)
