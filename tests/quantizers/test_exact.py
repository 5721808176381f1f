"""Hard evaluation does not hang on the order of a sum: the same logits for any threads, batches, layout and library."""

import itertools
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from qexp.models.mobilenet import mobilenetv2
from qexp.models.resnet_cifar import resnet20
from qexp.quantizers import calibrate, hard_evaluation, quantize, quantized_layers, weight_codes
from qexp.quantizers.sums import FixedPoint, fixed_point_bits, integer_sums, window_totals
from support import methods

IMAGES = 24


def images(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(IMAGES, 3, 12, 12, generator=draw).contiguous(memory_format=torch.channels_last)


def small(classes=5):
    """A network with all kinds of layers: a stride, groups, a bias, padding by copies, two linear layers."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.Conv2d(16, 16, 3, groups=4, padding=1, padding_mode="reflect", dilation=1),
        nn.ReLU(),
        nn.Conv2d(16, 12, 1, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 9),
        nn.ReLU(),
        nn.Linear(9, classes),
    )


def quantized(name, weight_bits, activation_bits, make=small, **options):
    torch.manual_seed(1)
    model = make()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    options = {"weight_bits": weight_bits, "activation_bits": activation_bits} | options
    model = quantize(model, methods.method(name), **options).to(memory_format=torch.channels_last)
    calibrate(model, images(1))
    return model.eval()


def logits(model, batch=IMAGES, threads=1, codes=None):
    torch.set_num_threads(threads)
    with torch.inference_mode(), hard_evaluation(model, codes):
        return torch.cat([model(part) for part in images().split(batch)])


@contextmanager
def without_onednn():
    torch._C._set_mkldnn_enabled(False)  # torch.backends.mkldnn.flags warns of Intel's GPUs
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(True)


BITS = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 8), (8, 8), (1, 8)]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(
    "name", [*(name for name in methods.NAMES if name != "fp"), "ste grid=sawb activation_grid=pact"]
)
def test_logits_are_equal_for_any_threads_batches_layout_and_library(name, bits):
    model = quantized(name, *bits)
    expected = logits(model)
    assert expected.std() > 0
    for batch, threads in itertools.product((1, 7, 10), (1, 2, 4)):
        assert torch.equal(logits(model, batch, threads), expected)
    with without_onednn():
        assert torch.equal(logits(model), expected)
    model.to(memory_format=torch.contiguous_format)
    assert torch.equal(logits(model, threads=2), expected)


@pytest.mark.training
@pytest.mark.parametrize("name", ["daq", "ste"])
@pytest.mark.parametrize("make", [resnet20, mobilenetv2])
def test_logits_of_our_models_are_equal(name, make):
    model = quantized(name, 2, 2, lambda: make(classes=10, channels=3, image_size=12, width=0.25))
    expected = logits(model)
    for batch, threads in ((1, 2), (7, 1), (5, 4)):
        assert torch.equal(logits(model, batch, threads), expected)


@pytest.mark.parametrize("name", ["ste", "daq", "dqa"])
def test_of_one_sided_and_float_layers_too(name):
    """Layers kept float, or on one side, do not break it as long as others are quantized on both."""
    model = quantized(name, 2, 2, keep_float=("first", "3:weight", "7:input", "last"))
    expected = logits(model)
    assert torch.equal(logits(model, 1, 2), expected)
    assert torch.equal(logits(model, 7, 4), expected)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", [name for name in methods.NAMES if name != "fp"])
def test_a_layer_gives_what_its_levels_give(name, bits):
    """Each against the product of its levels in double precision, with signed inputs, by the largest sum of sizes."""
    model = quantized(name, *bits, keep_float=())
    seen = {}
    with torch.inference_mode():
        for key, layer in quantized_layers(model):
            layer.register_forward_hook(lambda _, inputs, output, key=key: seen.update({key: (inputs[0], output)}))
        logits(model)
        for key, layer in quantized_layers(model):
            x, found = seen[key]
            values = [
                quantizer.codes(value)[1].double()[quantizer.codes(value)[0].long()]
                for quantizer, value in ((layer.input_quantizer, x), (layer.weight_quantizer, layer.weight))
            ]
            scale = 1.0 if layer.output_scale is None else layer.output_scale.abs().double()
            bias = None if layer.bias is None else layer.bias.double()
            size = (layer.apply_operation(*(value.abs() for value in values), None) * scale).max()
            exact = layer.apply_operation(*values, None) * scale
            exact = exact if bias is None else exact + (bias[:, None, None] if exact.dim() == 4 else bias)
            assert (found - exact).abs().max() <= 1e-6 * size
            assert seen[key][1].dtype == torch.float32


def test_scale_is_applied_to_the_sum():
    """DAQ without offsets: the exact sum of whole numbers times one factor, rounded once each, bit for bit."""
    model = quantized("daq", 2, 2)
    seen = {}
    layer = model[3]
    layer.register_forward_hook(lambda _, inputs, output: seen.update(x=inputs[0], y=output))
    layer.bias.data.zero_()
    logits(model)
    codes, signed = layer.input_quantizer.codes(seen["x"])[0].double(), layer.input_quantizer.signed.item()
    weight = 2 * layer.weight_quantizer.codes(layer.weight)[0].double() - 3
    total = layer.apply_operation(codes * (1 + signed) - 3 * signed, weight, None)
    factor = torch.tensor(1 / 3 * layer.output_scale.abs().item() * (1 / 3)).float()
    assert torch.equal(seen["y"], total.float() * factor)


@pytest.mark.parametrize(("x_bits", "weight_bits", "terms"), [(4, 4, 4608), (8, 8, 4608), (8, 8, 70_000), (24, 8, 300)])
def test_sums_beyond_24_bits_are_right(x_bits, weight_bits, terms):
    """Digits, and double precision where even digits are too large: within two roundings of the exact sum."""
    draw = torch.Generator().manual_seed(0)
    largest, top = 2**x_bits - 1, 2**weight_bits - 1
    x = torch.randint(-largest, largest + 1, (3, terms), generator=draw).float()
    weight = torch.randint(-top, top + 1, (5, terms), generator=draw).float()
    weight[0], x[0] = top, largest
    calls = []

    def product(a, b):
        calls.append(a.dtype)
        if a.dtype == torch.float32:
            assert (a.double().abs() @ b.double().abs().T).max() <= 2**24
        return a @ b.T

    found = integer_sums(product, x, weight, largest=largest, weight_sum=int(weight.abs().sum(1).max()))
    exact = x.double() @ weight.double().T
    assert (found.double() - exact).abs().max() <= 2 * 2**-24 * exact.abs().max()
    assert len(calls) == {(4, 4): 1, (8, 8): 3 if terms == 4608 else 1, (24, 8): 4}[x_bits, weight_bits]


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"stride": 2, "padding": (1, 0)},
        {"padding": 2},
        {"padding": "same", "dilation": 2},
        {"padding": 1, "padding_mode": "circular"},
        {"dilation": (1, 2)},
    ],
)
def test_sums_of_windows_are_the_same_by_pooling(options):
    """What CUDA does, on a CPU: a padding of 2 for a window of 3, and what is no plain window, go by convolution."""
    layer = nn.Conv2d(1, 1, 3, bias=False, **options)
    layer.weight.data.fill_(1)
    x = torch.randint(-255, 256, (4, 1, 9, 11), generator=torch.Generator().manual_seed(0)).float()
    for pooled in (False, True):
        assert torch.equal(window_totals(layer, x, pooled=pooled), layer(x))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 3.7e20])
def test_fixed_point_is_a_power_of_two_apart(scale):
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * scale
    x[2] = 0
    bits = fixed_point_bits(27)
    assert bits == 24
    found = FixedPoint.of(x, bits, by_image=True)
    assert torch.equal(found.integers, found.integers.round())
    assert found.integers.abs().max() <= 2**bits
    assert (torch.frexp(found.unit).mantissa == 0.5).all()
    assert (found.integers / found.unit - x).abs().max() <= 2.0**-bits * x.abs().max()
    alone = FixedPoint.of(x[1:2], bits, by_image=True)
    assert torch.equal(alone.integers, found.integers[1:2])


@pytest.mark.parametrize("bits", [(2, 2), (2, 32)])
def test_given_codes_are_used(bits):
    """Its own codes change nothing; others give another network, and afterwards all is as before."""
    model = quantized("daq", *bits)
    codes, expected = weight_codes(model), logits(model)
    assert torch.equal(logits(model, codes=codes), expected)
    codes["3"] = 3 - codes["3"]
    assert not torch.equal(logits(model, codes=codes), expected)
    assert torch.equal(logits(model), expected)
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("name", ["fp", "daq"])
def test_without_quantized_inputs_a_single_image_is_evaluated_beside_its_copy(name):
    """oneDNN sums in another order for a batch of one."""
    model = quantized(name, 32, 32) if name == "fp" else quantized(name, 1, 32)
    sizes = []
    model[0].register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    expected = logits(model)
    torch.testing.assert_close(logits(model, 1), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits(model, 7), expected, rtol=1e-5, atol=1e-5)
    assert sizes == [IMAGES, *[2] * IMAGES, 7, 7, 7, 3]
