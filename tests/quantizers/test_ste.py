"""STE on its grids, against literal loops."""

import pytest
import torch

from qexp.quantizers.ranges import RunningMinMaxRange
from support import methods


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_min_max_is_the_nearest_point_of_equation_10(bits, seed):
    """Each value goes to the nearest of x_min + i (x_max - x_min) / (2^n - 1)."""
    x = methods.sample("weight", 6, 5, seed=seed, dtype=torch.float64)
    quantized = methods.build("ste", "weight", bits)(x)
    step = (x.max() - x.min()).item() / (2**bits - 1)
    grid = [x.min().item() + i * step for i in range(2**bits)]
    expected = [min(grid, key=lambda level: abs(level - value)) for value in x.flatten().tolist()]
    torch.testing.assert_close(quantized.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    assert [quantized.min().item(), quantized.max().item()] == pytest.approx([x.min().item(), x.max().item()])


def test_equation_13_needs_its_offset():
    """The example of the specification: range -1..2 at 2 bits, 0.4 goes to 0 and not, as eq. 13 prints, to -1."""
    x = torch.tensor([-1.0, 0.4, 2.0])
    assert methods.build("ste", "weight", 2)(x).tolist() == [-1.0, 0.0, 2.0]


def test_one_bit_weights_are_bwn():
    """+-mean|w|, with zero on the positive side (eq. 14)."""
    x = torch.tensor([0.0, -0.1, 0.5, -1.0])
    torch.testing.assert_close(methods.build("ste", "weight", 1)(x), torch.tensor([0.4, -0.4, 0.4, -0.4]))


def test_one_bit_activations_are_zero_and_the_upper_end_of_the_range():
    """{0, max} after a ReLU: BWN would have a single value there."""
    quantizer = methods.build("ste", "activation", 1)
    assert quantizer(torch.tensor([0.0, 0.9, 1.1, 2.0])).tolist() == [0.0, 0.0, 2.0, 2.0]


def test_gradient_passes_straight_through():
    """The upstream gradient, unchanged, everywhere."""
    for side in ("weight", "activation"):
        x = methods.sample(side).requires_grad_()
        upstream = torch.randn_like(x)
        methods.build("ste", side, 2)(x).backward(upstream)
        assert torch.equal(x.grad, upstream)


def test_inputs_use_the_batch_range_in_training_and_the_running_range_in_evaluation():
    """A running average with momentum 0.1 that starts at calibration."""
    estimator = RunningMinMaxRange()
    estimator.calibrate(torch.tensor([0.0, 2.0]))
    lower, upper = estimator(torch.tensor([-1.0, 4.0]))
    assert (lower.item(), upper.item()) == (-1.0, 4.0)
    estimator.update((lower, upper))
    estimator.eval()
    lower, upper = estimator(torch.tensor([-100.0, 100.0]))
    assert (lower.item(), upper.item()) == (pytest.approx(-0.1), pytest.approx(2.2))


def test_evaluation_clips_at_the_running_range():
    """A test image may exceed the range; it gets the last level."""
    quantizer = methods.build("ste", "activation", 2)
    quantizer.calibrate(torch.tensor([0.0, 3.0]))
    assert quantizer.eval()(torch.tensor([-5.0, 1.4, 50.0])).tolist() == [0.0, 1.0, 3.0]
