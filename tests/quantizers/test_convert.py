"""`quantize`, `calibrate` and what acts on all quantizers of a network."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from qexp.models.resnet_cifar import resnet20
from qexp.quantizers import (
    QuantLayer,
    calibrate,
    evaluation,
    named_quantizers,
    parameter_roles,
    penalty,
    quantize,
    quantize_layer,
    quantized_layers,
    stats,
    weight_levels,
    weight_memory_bytes,
)
from support import methods


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(96, 5)
    )


def images(count=4, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def quantized(name="daq", **options):
    net = small_net()
    quantize(net, methods.method(name), **({"weight_bits": 2, "activation_bits": 2} | options))
    return net


def names_of(net):
    return [name for name, _ in quantized_layers(net)]


def test_parameters_stay_the_same_objects_and_float_checkpoints_load():
    """The swap shares every Parameter, keeps its name, and leaves first and last layer alone."""
    net = small_net()
    before = dict(net.named_parameters())
    state = copy.deepcopy(net.state_dict())
    quantize(net, methods.method("daq"), weight_bits=2, activation_bits=2)
    after = dict(net.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert names_of(net) == ["3"]
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all("quantizer" in key or key.endswith("output_scale") for key in missing)


def test_without_quantizers_a_layer_computes_what_it_did():
    """A swapped layer whose two sides stay float gives the same output, also strided, grouped, dilated, reflected."""
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=2, dilation=2, groups=2, padding_mode="reflect")
    x = torch.randn(2, 4, 9, 9)
    expected = conv(x)
    assert torch.equal(quantize_layer(conv, None, None)(x), expected)


@pytest.mark.parametrize(
    ("keep_float", "expected"),
    [
        (["first", "last"], ["3"]),
        ([], ["0", "3", "5"]),
        (["last"], ["0", "3"]),
        (["3"], ["0", "5"]),
        (["[35]"], ["0"]),
    ],
)
def test_keep_float_names_layers(keep_float, expected):
    """first, last, a name or a pattern."""
    assert names_of(quantized(keep_float=keep_float)) == expected


def test_keep_float_can_name_one_side():
    """first:input quantizes the first layer's weight and not the image: what the DQA paper's Figure 3 shows."""
    net = quantized(keep_float=["first:input", "last"])
    assert net[0].input_quantizer is None
    assert net[0].weight_quantizer is not None
    assert net[3].input_quantizer is not None


@pytest.mark.parametrize(
    ("entry", "message"), [("layer9", "fits no layer; layers: 0, 3, 5"), ("0:output", "the sides weight and input")]
)
def test_keep_float_that_fits_nothing_is_an_error(entry, message):
    """A typo would otherwise quantize the layer silently."""
    with pytest.raises(ValueError, match=message):
        quantized(keep_float=[entry])


def test_32_bits_leave_a_side_float():
    """W2A32 has no input quantizers, W32A2 no weight quantizers, W32A32 no quantized layer at all."""
    assert all(layer.input_quantizer is None for _, layer in quantized_layers(quantized(activation_bits=32)))
    assert all(layer.weight_quantizer is None for _, layer in quantized_layers(quantized(weight_bits=32)))
    assert names_of(quantized(weight_bits=32, activation_bits=32)) == []


def test_a_torchvision_model_can_be_quantized():
    """Any model made of convolutions and linear layers will do, shortcuts included."""
    net = resnet18(num_classes=10)
    quantize(net, methods.method("ste"), weight_bits=2, activation_bits=4)
    names = names_of(net)
    assert len(names) == 19
    assert "layer2.0.downsample.0" in names
    assert "conv1" not in names
    assert "fc" not in names


def test_calibration_goes_layer_by_layer_over_quantized_predecessors():
    """The second layer's range is that of the input it sees behind a quantized first layer; batch norm is untouched."""
    net = quantized(keep_float=["last"])
    reference, x = copy.deepcopy(net), images()
    running = {name: buffer.clone() for name, buffer in net.named_buffers() if "running" in name}
    calibrate(net, x)
    first = reference[0]
    first.calibrate(x)
    torch.testing.assert_close(net[0].input_quantizer.upper, first.input_quantizer.upper)
    assert net[0].input_quantizer.signed.item() == 1
    hidden = reference[2](reference[1].train()(first(x)))
    torch.testing.assert_close(net[3].input_quantizer.upper, (3 * hidden.std()).detach())
    expected = (reference[3]._conv_forward(hidden, reference[3].weight, None)).abs().mean()
    layer = net[3]
    operands = layer.input_quantizer(hidden), layer.weight_quantizer(layer.weight)
    torch.testing.assert_close(layer.output_scale * layer._conv_forward(*operands, None).abs().mean(), expected)
    for name, buffer in net.named_buffers():
        assert name not in running or torch.equal(buffer, running[name])
    assert net.training
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_layers_that_see_nothing_but_zeros_are_named():
    """The convolutions have no bias, and batch norm adds none yet. An input that stays float has no range."""
    net = quantized(keep_float=["last"])
    assert calibrate(net, images()) == []
    assert calibrate(net, torch.zeros_like(images())) == ["0", "3"]
    weights_only = quantized(keep_float=["last", "0:input"])
    assert calibrate(weights_only, torch.zeros_like(images())) == ["3"]


def test_calibration_without_samples_is_one_line():
    told = r"^calibrate needs samples, and was given none: a batch of shape \(0, 3, 8, 8\)$"
    with pytest.raises(ValueError, match=told):
        calibrate(small_net(), torch.empty(0, 3, 8, 8))


def test_calibration_restores_the_mode_and_hooks_after_an_error():
    """A batch that does not fit leaves no hook behind."""
    net = quantized().eval()
    with pytest.raises(RuntimeError):
        calibrate(net, torch.randn(2, 5, 8, 8))
    assert not net.training
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_output_scale_acts_as_its_absolute_value():
    """y = |beta| conv(Qa, Qw) + bias."""
    net, x = quantized().eval(), images(2, 6).relu()
    layer = quantize_layer(nn.Conv2d(3, 4, 3), net[3].weight_quantizer, net[3].input_quantizer, scale=True)
    layer.output_scale.data.fill_(-0.3)
    x_q, w_q = layer.input_quantizer(x), layer.weight_quantizer(layer.weight)
    expected = 0.3 * nn.functional.conv2d(x_q, w_q) + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("name", methods.NAMES)
def test_each_parameter_has_one_role(name):
    """Every parameter is optimized once, and norms, biases, ranges and scales go where a recipe expects them."""
    bits = 32 if name == "fp" else 2
    net = resnet20(10, 3, 32, width=0.25)
    quantize(net, methods.method(name), weight_bits=bits, activation_bits=bits)
    roles = parameter_roles(net)
    members = [id(parameter) for group in roles.values() for parameter in group]
    assert sorted(members) == sorted({id(parameter) for parameter in net.parameters()})
    assert len(roles["weight"]) == 20
    assert len(roles["norm"]) == 2 * 19 + 1
    relaxed = {"range": 36, "noise": 36}
    expected = {
        "daq": {"range": 18 * 3, "scale": 18},
        "dqa": {"attention": 36},
        "rq": relaxed,
        "srq": relaxed,
        "dropbits": relaxed,
    }.get(name, {})
    assert {role: len(group) for role, group in roles.items() if role not in ("weight", "norm")} == expected


def test_memory_counts_true_bits():
    """Quantized weights at their bits, everything else at 32; quantizer scalars are not weights."""
    at_bits, full = weight_memory_bytes(quantized())
    others = 3 * 8 * 9 + 16 + 6 + 96 * 5 + 5
    assert full == 4 * (others + 8 * 6 * 9)
    assert at_bits == 4 * others + 8 * 6 * 9 * 2 / 8


def test_a_weight_that_layers_share_counts_once():
    """At the bits of the layer that has the most: a float embedding and a quantized layer store it as floats."""
    net = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    net[1].weight = net[0].weight
    for keep_float, bits in (((), 2), (["0"], 32)):
        found = copy.deepcopy(net)
        quantize(found, methods.method("ste"), weight_bits=2, activation_bits=2, keep_float=keep_float)
        assert weight_memory_bytes(found) == (64 * bits / 8 + 64 * 2 / 8, 2 * 64 * 4)


def test_evaluation_mode_ends_with_its_block():
    """Soft evaluation is a scope, also when something fails inside."""
    net = quantized("br")
    with evaluation(net, "soft"):
        assert all(quantizer.evaluation == "soft" for _, quantizer in named_quantizers(net))
    assert all(quantizer.evaluation == "hard" for _, quantizer in named_quantizers(net))
    with pytest.raises(RuntimeError, match="channels"), evaluation(net, "soft"):
        net(torch.zeros(1, 1, 2, 2))
    assert all(quantizer.evaluation == "hard" for _, quantizer in named_quantizers(net))


def test_penalty_sums_over_layers_and_is_zero_without():
    """The term that the objective adds."""
    net = quantized("dqa", keep_float=[])
    total = sum(quantizer.penalty() for _, quantizer in named_quantizers(net))
    torch.testing.assert_close(penalty(net), total)
    assert penalty(quantized("daq")) == 0.0


def test_stats_name_layer_side_and_value():
    """What TensorBoard shows, in one read of the device."""
    found = stats(quantized("daq"))
    assert found["3/weight/lower"] == -3
    assert set(found) == {"3/weight/lower", "3/weight/upper", "3/input/upper", "3/input/signed", "3/output_scale"}
    assert stats(small_net()) == {}


@pytest.mark.parametrize("name", [name for name in methods.NAMES if name != "fp"])
def test_every_operand_of_every_layer_is_quantized(name):
    """Evaluated, each quantized layer multiplies at most 2**bits weight values with at most 2**bits input values."""
    net = resnet20(10, 3, 16, width=0.5)
    quantize(net, methods.method(name), weight_bits=2, activation_bits=3)
    x = torch.randn(8, 3, 16, 16)
    calibrate(net, x)
    seen = []

    def watch(layer: QuantLayer):
        original = layer.apply_operation

        def watched(x, weight, bias):
            seen.append((len(x.unique()), len(weight.unique())))
            return original(x, weight, bias)

        layer.apply_operation = watched

    for _, layer in quantized_layers(net):
        watch(layer)
    net.eval()(x)
    assert len(seen) == 18
    assert all(2 <= inputs <= 8 and 2 <= weights <= 4 for inputs, weights in seen)


@pytest.mark.parametrize(
    ("name", "bits", "most"), [("ste", 1, 2), ("ste", 2, 4), ("ste grid=twn", 2, 3), ("dqa", 4, 16)]
)
def test_weight_levels_counts_what_evaluation_uses(name, bits, most):
    """Per layer the number of different values of the hard weight, whatever training mixes."""
    net = quantized(name, weight_bits=bits, keep_float=["first"]).train()
    layers = dict(quantized_layers(net.eval()))
    expected = {name: len(layer.weight_quantizer(layer.weight).unique()) for name, layer in layers.items()}
    assert weight_levels(net.train()) == expected
    assert 2 <= min(expected.values()) <= max(expected.values()) <= most


def test_what_is_quantized_already_is_told():
    """A second call may quantize what the first left float; where that is nothing, it says why."""
    net = small_net()
    options = {"weight_bits": 2, "activation_bits": 2}
    quantize(net, methods.method("ste"), **options)
    with pytest.raises(ValueError, match="nothing to quantize: .*keep_float first.*; 1 layer quantized before$"):
        quantize(net, methods.method("ste"), **options)
    assert len(quantize(net, methods.method("daq"), keep_float=(), **options).quantized) > 1
    count = len(list(quantized_layers(net)))
    with pytest.raises(ValueError, match=f"the model is quantized already, in {count} layers$"):
        quantize(net, methods.method("ste"), **options)
