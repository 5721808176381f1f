"""The training step in parts and in half precision, cached weights, and quantizing again in backward."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from qexp.engine.average import WeightAverage
from qexp.engine.divergence import LossGuard
from qexp.engine.metrics import Tally
from qexp.engine.optim import Optimizers
from qexp.engine.schedules import make_schedule
from qexp.quantizers import (
    anneal,
    named_quantizers,
    numerics,
    parameter_roles,
    penalty,
    quantized_layers,
    recompute,
)
from qexp.quantizers.freezing import Freezing
from qexp.utils.types import Progress, RoleOptimizers
from support import methods
from support.steps import (
    CONSTANT,
    SGD,
    WORDS,
    assert_same,
    batch,
    gradients,
    make,
    names,
    network,
    seen_by,
    small_resnet,
)

# Parts of a batch


@pytest.mark.parametrize("count", [12, 7, 5])
@pytest.mark.parametrize("name", ["fp", *WORDS])
def test_the_parts_of_a_batch_add_up_to_it(name, count):
    """Loss, logits, penalty and gradients against the whole batch written out; the weights against one step over it."""
    images, labels = batch(count, torch.float64)
    model = network(name, activation_bits=32, dtype=torch.float64)  # ranges of inputs are those of a part
    whole, reference = make(copy.deepcopy(model)), copy.deepcopy(model)
    ours = make(model, accumulate=3)
    outcome, extra = ours(images, labels), penalty(reference)
    logits = reference(images)
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.1)
    (loss + extra).backward()
    close = {"rtol": 1e-5, "atol": 1e-7}  # the loss is computed in single precision
    torch.testing.assert_close(outcome.logits, logits.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(outcome.loss, loss.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.as_tensor(outcome.penalty), torch.as_tensor(extra), check_dtype=False)
    assert_same(gradients(model), gradients(reference), **close)
    whole(images, labels)
    assert_same(dict(model.named_parameters()), dict(whole.model.named_parameters()), rtol=1e-5, atol=1e-6)


def test_the_penalty_is_counted_once():
    """One call for three parts; its gradient is not that of the loss, but its own."""
    model, calls = network(), []
    bias = model[0].bias

    def extra():
        calls.append(1)
        return 1000 * bias.sum()

    images, labels = batch()
    plain = copy.deepcopy(model)
    outcome = make(model, accumulate=3, penalty=extra)(images, labels)
    make(plain)(images, labels)
    assert len(calls) == 1
    assert outcome.penalty.item() == pytest.approx(1000 * sum(network()[0].bias.tolist()), rel=1e-3)
    torch.testing.assert_close(bias.grad, plain[0].bias.grad + 1000, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "parts"),
    [(1, [1]), (2, [2]), (3, [3]), (4, [2, 2]), (5, [3, 2]), (7, [3, 2, 2]), (8, [2] * 4), (9, [3, 2, 2, 2])],
)
def test_no_part_is_a_single_image(count, parts):
    """Four parts where there are two images for each, fewer where not; a batch of one stays one."""
    model, seen = network(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    make(model, accumulate=4)(*batch(count))
    assert seen == parts


# Gradients that are clipped


def clipped(model, largest, images, labels):
    """A step of torch's own clip over all parameters; return the norm before it."""
    step = make(model)
    for part in step.parts(images, labels):
        step.backward(step.forward(part))
    norm = nn.utils.clip_grad_norm_(model.parameters(), largest)
    step.update()
    return norm.item()


@pytest.mark.parametrize("factor", [0.1, 0.9, 2.0])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_gradients_are_clipped_as_torch_does_it_over_all_parameters(precision, factor):
    """After unscaling, SGD's and Adam's parameters together; a norm below the largest changes no bit."""
    images, labels = batch()
    model = network("daq")
    norm = clipped(copy.deepcopy(model), 1e9, images, labels)
    ours, reference = copy.deepcopy(model), copy.deepcopy(model)
    make(ours, clip_norm=factor * norm, precision=precision)(images, labels)
    clipped(reference, factor * norm, images, labels)
    if precision == "float32":
        assert_same(dict(ours.named_parameters()), dict(reference.named_parameters()))
        found = torch.cat([grad.flatten() for grad in gradients(ours).values()]).norm().item()
        assert found == pytest.approx(min(factor, 1) * norm, rel=1e-4)
    else:
        plain = copy.deepcopy(model)
        make(plain, precision=precision)(images, labels)
        if factor > 1:
            assert_same(dict(ours.named_parameters()), dict(plain.named_parameters()))
            return
        (own, free), start = (one.get_parameter("2.weight") for one in (ours, plain)), model.get_parameter("2.weight")
        decayed = start * (1 - 0.1 * 0.01)
        assert (own - decayed).norm().item() == pytest.approx(factor * (free - decayed).norm().item(), rel=0.02)


def test_clipping_sees_the_whole_batch_and_not_its_parts():
    images, labels = batch(dtype=torch.float64)
    model = network("daq", activation_bits=32, dtype=torch.float64)
    whole, parts = copy.deepcopy(model), copy.deepcopy(model)
    make(whole, clip_norm=0.05)(images, labels)
    make(parts, clip_norm=0.05, accumulate=3)(images, labels)
    assert_same(dict(parts.named_parameters()), dict(whole.named_parameters()), rtol=1e-5, atol=1e-7)
    assert torch.cat([grad.flatten() for grad in gradients(parts).values()]).norm().item() == pytest.approx(
        0.05, rel=1e-4
    )


def test_a_clipped_float16_step_that_overflows_changes_nothing():
    """In one optimizer alone: without care, the other one's gradients would become 0 or NaN and be stepped with."""
    model = network("daq")
    step, start = make(model, clip_norm=1.0, precision="float16"), copy.deepcopy(model.state_dict())
    scale = step.state_dict()["scaler"]
    for part in step.parts(*batch()):
        step.backward(step.forward(part))
    (first, *_), (second, *_) = (
        [p for g in one.param_groups for p in g["params"]] for one in step.optimizers.optimizers
    )
    first.grad.view(-1)[0] = float("inf")
    assert second.grad.isfinite().all()
    step.update()
    now = step.state_dict()["scaler"]
    assert (scale["scale"], now["scale"]) == (65536.0, 32768.0)
    assert_same(dict(model.state_dict()), start)


# Half precision


@names
def test_bfloat16_inputs_are_quantized_in_single_precision(name):
    """A quantizer gets bfloat16 and gives the float32 quantization of those values, rounded: no value changes level."""
    model = network(name, norm=True)
    pairs = []
    for _, layer in quantized_layers(model):
        own = layer.input_quantizer
        own.register_forward_pre_hook(lambda quantizer, x: pairs.append([copy.deepcopy(quantizer), x[0].detach()]))
        own.register_forward_hook(lambda *seen: pairs[-1].append(seen[-1].detach()))
    make(model, precision="bfloat16")(*batch())
    assert len(pairs) == 2
    for quantizer, x, ours in pairs:
        assert x.dtype == ours.dtype == torch.bfloat16
        twin = copy.deepcopy(quantizer)
        for module in twin.modules():
            module._forward_pre_hooks.clear()
            module._forward_hooks.clear()
        expected = twin(x.float())
        assert expected.dtype == torch.float32
        assert len(expected.unique()) > 2
        assert torch.equal(ours, expected.to(torch.bfloat16))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@names
def test_a_step_in_half_precision_is_close_to_that_in_float32(name, precision):
    """Products in half precision; parameters, gradients, buffers and loss in float32, near those of float32.

    Activations stay float here: at 2 bits, values beside a threshold change level with the rounding before it.
    """
    half, single = (network(name, activation_bits=32) for _ in range(2))
    outputs = seen_by(half, nn.Conv2d)
    start = {key: value.detach().clone() for key, value in half.named_parameters()}
    ours = make(half, precision=precision)(*batch(seed=2))
    expected = make(single)(*batch(seed=2))
    assert [output.dtype for _, _, output in outputs] == [getattr(torch, precision)] * 2
    assert ours.loss.dtype == torch.float32
    assert all(value.dtype in (torch.float32, torch.int64) for value in half.state_dict().values())
    assert ours.loss.item() == pytest.approx(expected.loss.item(), rel=1e-2)
    assert ours.loss.item() != expected.loss.item()
    error = 0.1 if precision == "bfloat16" else 0.005  # with this batch, where hardly a value crosses zero at a ReLU
    for key, grad in gradients(single).items():
        close = gradients(half)[key]
        assert close.dtype == torch.float32
        least = 1e-6 if grad.dim() else 2e-5  # a sum of all values may cancel
        assert (close - grad).norm() <= error * grad.norm() + least, key
    for key in ("0.weight", "2.weight", "7.weight", "9.weight"):
        parameter, own = half.get_parameter(key).detach(), single.get_parameter(key).detach()
        assert (parameter - own).norm() <= error * (own - start[key]).norm(), key


@names
def test_a_float16_step_with_infinite_gradients_is_skipped(name):
    """Every parameter stays as it was and the scale is halved; the step after it trains."""
    model = network(name)
    step = make(model, precision="float16")
    start = {key: value.detach().clone() for key, value in model.named_parameters()}
    scale = step._scaler.get_scale()
    hooks = [value.register_hook(lambda grad: torch.full_like(grad, torch.inf)) for value in model.parameters()]
    step(*batch())
    assert_same({key: value.detach() for key, value in model.named_parameters()}, start)
    assert step._scaler.get_scale() == scale / 2
    for hook in hooks:
        hook.remove()
    step(*batch())
    assert step._scaler.get_scale() == scale / 2
    assert all(not torch.equal(value, start[key]) for key, value in model.named_parameters())


# Waiting for the device


class Reads(TorchDispatchMode):
    """Fails where a value is read out of a tensor, or a size depends on one: on CUDA that waits for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2"), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("name", [*WORDS, "ste grid=twn", "ste grid=sawb", "ste grid=sawb sawb=formula"])
def test_a_step_reads_nothing_out_of_tensors(name, again, monkeypatch):
    """Annealing with new ranges, parts of a batch and metrics, in the form that other devices than the CPU use.

    SGD for all roles: Adam counts its steps on the CPU unless it is fused. tests/package/test_gpu.py asks CUDA itself.
    """
    monkeypatch.setattr(numerics, "_is_read", lambda x: False)
    model = network(name, norm=True)
    recompute(model, again)
    roles = RoleOptimizers(**dict.fromkeys(RoleOptimizers.__dataclass_fields__, SGD))
    step = make(model, accumulate=3, optimizers=Optimizers(parameter_roles(model), roles, make_schedule(CONSTANT)))
    step.guard = LossGuard(torch.device("cpu"), interval=50)
    images, labels = batch()
    tally = Tally(images.device)
    with Reads():
        anneal(model, Progress(101, 200, 1, 2))  # sawb finds its clip again after every 100 steps
        outcome = step(images, labels)
        tally.add(outcome.logits, labels, outcome.loss, outcome.penalty)
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            outcome.loss.item()


def layouts(model, images, labels):
    """The set of layouts of all feature maps larger than a pixel, in and out of convolutions and quantizers."""
    seen = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) or module in dict(named_quantizers(model)).values():
            module.register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0], output]))
    make(model)(images, labels)
    maps = [x for x in seen if x.dim() == 4 and len(x) == len(images) and x.shape[1] > 1 and x.shape[2] > 1]
    assert len(maps) > 40
    return {"contiguous" if x.is_contiguous() else "channels last" for x in maps}


@pytest.mark.parametrize("name", methods.NAMES)
def test_both_memory_layouts_compute_the_same(name, configure):
    """Images and feature maps lie as asked for, all of them; loss, logits and gradients agree, at 2 bits in float64."""
    found = []
    for value, layout in (("true", "channels last"), ("false", "contiguous")):
        model, images, labels = small_resnet(name, configure, f"channels_last={value}", dtype=torch.float64)
        assert layouts(copy.deepcopy(model), images, labels) == {layout}
        outcome = make(model)(images, labels)
        found.append((outcome.logits, gradients(model)))
    (logits, own), (others, expected) = found
    torch.testing.assert_close(logits, others, rtol=1e-9, atol=1e-9)
    assert_same(own, expected, rtol=1e-5, atol=1e-7)  # the loss is computed in single precision


@pytest.mark.parametrize("whose", [0, 1], ids=["one optimizer's gradients", "the other's"])
def test_a_float16_step_that_is_left_out_moves_neither_the_average_nor_what_freezing_remembers(whose):
    """Nor anything of the other optimizer, whose gradients are finite."""
    model = network("daq")
    step = make(model, precision="float16", average=WeightAverage(model, 0.9), freezing=Freezing(model))
    step(*batch())
    before = copy.deepcopy((step.freezing.state_dict(), step.average._average, dict(model.named_parameters())))
    for part in step.parts(*batch(seed=2)):
        step.backward(step.forward(part))
    parameters = [p for group in step.optimizers.optimizers[whose].param_groups for p in group["params"]]
    parameters[0].grad.view(-1)[0] = float("nan")
    step.update()
    frozen, average, weights = step.freezing.state_dict(), step.average._average, dict(model.named_parameters())
    assert_same(weights, before[2])
    assert all(map(torch.equal, average, before[1]))
    assert step.average.updates == 1
    for name, own in frozen.items():
        assert_same(own, before[0][name])
    step(*batch(seed=2))
    assert step.average.updates == 2
    assert not all(map(torch.equal, step.average._average, before[1]))


def test_a_first_step_that_overflows_leaves_no_trace():
    """Momentum with float16: weights stay, and the next step is the first one of a run without the overflow."""
    images, labels = batch()
    model = network()
    twin = copy.deepcopy(model)
    step, fresh = make(model, precision="float16"), make(twin, precision="float16")
    before = copy.deepcopy(dict(model.named_parameters()))
    scaler = step._scaler.state_dict()
    step._scaler.load_state_dict(scaler | {"scale": 2.0**100})
    step(images, labels)
    assert_same(dict(model.named_parameters()), before)
    step._scaler.load_state_dict(scaler)
    step(images, labels)
    fresh(images, labels)
    assert_same(dict(model.named_parameters()), dict(twin.named_parameters()))
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert not torch.equal(model[0].weight, before["0.weight"])
