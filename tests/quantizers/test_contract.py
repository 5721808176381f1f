"""What every method promises, at every bit-width it declares. New methods are found and tested without an edit here."""

import copy
import math

import pytest
import torch

from qexp.quantizers import evaluation, named_quantizers, quantize
from qexp.quantizers.channels import values_at
from qexp.utils.types import Progress, RoleOptimizers
from support import methods

sites = pytest.mark.parametrize(("name", "side", "bits"), methods.all_sites() + methods.BY_CHANNEL)
names = pytest.mark.parametrize("name", [name for name in methods.NAMES if name != "fp"])


def calibrated(name, side, bits, shape=methods.SHAPE):
    quantizer = methods.build(name, side, bits, shape=shape)
    quantizer.calibrate(methods.sample(side, *shape, seed=1))
    return quantizer


@sites
def test_hard_values_are_the_levels_of_the_codes(name, side, bits):
    """Evaluation returns levels[codes] bit for bit, and at most 2**bits different values; of a channel with its own."""
    shape = (64, 16, 3, 3)
    quantizer, x = calibrated(name, side, bits, shape).eval(), methods.sample(side, *shape)
    codes, levels = quantizer.codes(x)
    hard = quantizer(x)
    assert codes.dtype == torch.uint8
    assert codes.shape == hard.shape == x.shape
    assert levels.shape[-1] <= 2**bits
    assert torch.equal(hard, values_at(levels, codes))
    for values in hard if levels.dim() > 1 else [hard]:
        assert 2 <= len(values.unique()) <= 2**bits


@sites
def test_keeps_the_dtype(name, side, bits):
    """Half precision goes in and out; the arithmetic in between is single precision, so the codes agree."""
    quantizer, x = calibrated(name, side, bits).eval(), methods.sample(side).to(torch.bfloat16)
    assert quantizer(x).dtype == torch.bfloat16
    assert quantizer.double()(x.double()).dtype == torch.float64
    assert torch.equal(quantizer.float().codes(x)[0], quantizer.codes(x.float())[0])


@sites
def test_gradients_reach_the_input_and_every_parameter(name, side, bits):
    """Everything a recipe would optimize gets a finite gradient, and not only zeros."""
    quantizer, x = methods.build(name, side, bits).train(), methods.sample(side).requires_grad_()
    quantizer.calibrate(methods.sample(side, seed=1) / 2)  # so that some values lie outside
    quantizer.anneal(Progress(5, 10, 1, 2))
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    loss = (quantizer(x) * upstream).sum()
    penalty = quantizer.penalty()
    (loss if penalty is None else loss + penalty).backward()
    for tensor in (x, *quantizer.parameters()):
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().sum() > 0


@sites
def test_parameters_have_roles(name, side, bits):
    """Every parameter has a role, and every role of a shipped method is one that recipes know."""
    quantizer = methods.build(name, side, bits)
    for module in quantizer.modules():
        own, roles = {key for key, _ in module.named_parameters(recurse=False)}, getattr(module, "roles", {})
        assert own == set(roles)
        assert set(roles.values()) <= set(RoleOptimizers.__dataclass_fields__)


@sites
def test_annealing_is_a_pure_function_of_progress(name, side, bits):
    """Jumping to a point of the schedule equals walking there: nothing counts inside, so resuming is exact."""
    x = methods.sample(side)
    walked, jumped = calibrated(name, side, bits), calibrated(name, side, bits)
    for step in range(1, 8):
        walked.anneal(Progress(step, 10, (step - 1) // 2, 5))
    jumped.anneal(Progress(7, 10, 3, 5))
    assert torch.equal(walked(x), jumped(x))
    for quantizer in (walked, jumped):
        quantizer.anneal(Progress(2, 10, 0, 5))
    assert torch.equal(walked(x), jumped(x))


@sites
def test_state_dict_restores_evaluation(name, side, bits):
    """A fresh quantizer with the saved state gives the same values, without calibration."""
    x, quantizer = methods.sample(side), calibrated(name, side, bits)
    quantizer.anneal(Progress(5, 10, 1, 2))
    quantizer(methods.sample(side, seed=2))
    fresh = methods.build(name, side, bits)
    fresh.load_state_dict(quantizer.state_dict(), strict=True)
    for one in (quantizer.eval(), fresh.eval()):
        one.evaluation = "soft"
    assert torch.equal(quantizer(x), fresh(x))
    fresh.evaluation = quantizer.evaluation = "hard"
    assert torch.equal(quantizer(x), fresh(x))


@pytest.mark.parametrize(("name", "side", "bits"), [site for site in methods.all_sites() if site[1] == "activation"])
def test_evaluating_an_image_does_not_depend_on_its_batch(name, side, bits):
    """Inputs of layers are quantized by stored ranges in evaluation."""
    quantizer, x = calibrated(name, side, bits).eval(), methods.sample(side)
    assert torch.equal(quantizer(x)[:2], quantizer(x[:2]))


@sites
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_constant_tensor_stays_finite(name, side, bits, value):
    """No spread, no range: the guards hold in both directions."""
    x = torch.full((4, 3), value, requires_grad=True)
    quantizer = methods.build(name, side, bits, shape=(4, 3)).train()
    quantizer.calibrate(x.detach())
    y = quantizer(x)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(quantizer.eval()(x.detach())).all()


@sites
def test_signed_inputs_keep_their_sign(name, side, bits):
    """Where calibration sees negative values, quantization keeps some of them negative."""
    x = torch.randn(4, 256, generator=torch.Generator().manual_seed(0))
    quantizer = methods.build(name, side, bits, shape=(4, 256))
    quantizer.calibrate(x)
    y = quantizer.eval()(x)
    assert y.min() < 0 < y.max()


@sites
def test_stats_are_scalars(name, side, bits):
    """stats() gives 0-dim tensors, penalty() a scalar or nothing."""
    quantizer = calibrated(name, side, bits)
    assert all(value.dim() == 0 and not value.requires_grad for value in quantizer.stats().values())
    penalty = quantizer.penalty()
    assert penalty is None or (penalty.dim() == 0 and math.isfinite(penalty.item()))
    assert quantizer.converged() is True


@names
def test_a_bit_width_that_is_not_declared_is_refused(name):
    """check() names the bit-widths there are."""
    method = methods.method(name)
    listed = ", ".join(map(str, [*method.weight_bits, 32]))
    with pytest.raises(ValueError, match=f"has no 9-bit weights; bit-widths it has: {listed}"):
        method.check(9, methods.usual_bits(name, "activation"))
    with pytest.raises(ValueError, match="has no 16-bit activations"):
        method.check(methods.usual_bits(name), 16)


@names
def test_two_networks_in_one_process_are_independent(name):
    """Building and training a second network of other bits leaves the first as it was."""

    def net():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3))

    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    first, second = net().eval(), net()
    weight_bits, activation_bits = list(methods.method(name).weight_bits), list(methods.method(name).activation_bits)
    few, many = (weight_bits[0], activation_bits[0]), (weight_bits[-1], activation_bits[-1])
    quantize(first, methods.method(name), weight_bits=few[0], activation_bits=few[1], keep_float=["first"])
    before = first(x)
    quantize(second, methods.method(name), weight_bits=many[0], activation_bits=many[1], keep_float=["first"])
    for _, quantizer in named_quantizers(second):
        quantizer.anneal(Progress(9, 10, 1, 2))
    second(x).sum().backward()
    assert torch.equal(first(x), before)
    assert [quantizer.bits for _, quantizer in named_quantizers(first)] == list(few)
    assert not torch.equal(second.eval()(x), before)


@names
def test_the_soft_form_is_declared(name):
    """A method without a soft form evaluates the same both ways; one that declares it differs early in training."""
    x = methods.sample("weight")
    quantizer = methods.build(name, "weight", methods.usual_bits(name))
    quantizer.anneal(Progress(1, 100, 0, 10))
    model = copy.deepcopy(quantizer).eval()
    hard = model(x)
    with evaluation(model, "soft"):
        soft = model(x)
    assert torch.equal(hard, soft) is not quantizer.has_soft_form
    assert torch.equal(model(x), hard)
