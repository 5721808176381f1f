"""Hard evaluation does not hang on the order of a sum: the same logits for any threads, batches, layout and library."""

import itertools
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch
from torch import nn

from qexp.models.lenet import lenet5
from qexp.models.mobilenet import mobilenetv2
from qexp.models.resnet_cifar import resnet20
from qexp.models.vgg import vgg7
from qexp.quantizers import calibrate, hard_evaluation, quantize, weight_codes
from qexp.quantizers.sums import FixedPoint, double_convolution, fixed_point_bits, integer_sums, window_totals
from support import methods
from support.hard_nets import BITS, IMAGES, check_layers, images, logits, quantized, small


def of_all(pairs):
    """(method, bits) for each pair of bit-widths that a method declares."""
    declared = [(name, methods.method(name)) for name in methods.NAMES]
    return [(name, both) for name, own in declared for both in pairs if both[0] in own.weight_bits]


@contextmanager
def without_onednn():
    torch._C._set_mkldnn_enabled(False)  # torch.backends.mkldnn.flags warns of Intel's GPUs
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(True)


@pytest.mark.parametrize(("name", "bits"), [*of_all(BITS), *(("ste grid=sawb activation_grid=pact", b) for b in BITS)])
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


@pytest.mark.parametrize("name", ["daq", "ste", "br"])
@pytest.mark.parametrize("make", [lenet5, vgg7])
def test_logits_of_networks_with_max_pooling_are_equal(name, make):
    """With every layer quantized, first and last too; LeNet-5 needs larger images than there are here."""

    def larger():
        return nn.Sequential(nn.Upsample(scale_factor=2), make(classes=10, channels=3, image_size=24, width=0.25))

    model = quantized(name, 2, 3, larger, keep_float=())
    expected = logits(model)
    assert expected.std() > 0
    for batch, threads in ((1, 2), (7, 1), (5, 4)):
        assert torch.equal(logits(model, batch, threads), expected)
    check_layers(model)


@pytest.mark.parametrize("name", ["ste", "daq", "dqa"])
def test_of_one_sided_and_float_layers_too(name):
    """Layers kept float, or on one side, do not break it as long as others are quantized on both."""
    model = quantized(name, 2, 2, keep_float=("first", "3:weight", "7:input", "last"))
    expected = logits(model)
    assert torch.equal(logits(model, 1, 2), expected)
    assert torch.equal(logits(model, 7, 4), expected)


@pytest.mark.parametrize(("name", "bits"), of_all(BITS))
def test_a_layer_gives_what_its_levels_give(name, bits):
    """Each against the product of its levels in double precision, with signed inputs, by the largest sum of sizes."""
    model = quantized(name, *bits, keep_float=())
    check_layers(model)


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


def test_a_layer_gives_the_same_without_onednn():
    """Behind it the next quantizer hides most differences; NNPACK's, off by 1e-4, are seen here."""
    model, seen = quantized("daq", 2, 2), []
    model[7].register_forward_hook(lambda _, inputs, output: seen.append(output))
    logits(model)
    with without_onednn():
        logits(model)
    assert torch.equal(*seen)


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
    found = FixedPoint.of(x, bits)
    assert torch.equal(found.integers, found.integers.round())
    assert found.integers.abs().max() <= 2**bits
    assert (torch.frexp(found.unit).mantissa == 0.5).all()
    size = x.abs().amax((1, 2, 3), keepdim=True)
    assert ((found.integers / found.unit - x).abs() <= 2.0**-bits * size).all()
    alone = FixedPoint.of(x[1:2], bits)
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


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 2, "stride": 2},
        {"dilation": (2, 1), "padding": "same"},
        {"padding_mode": "reflect", "padding": 1},
    ],
)
def test_double_convolutions_are_those_of_torch(groups, options):
    """In double precision, up to its rounding: of all channels, of groups, of single channels, and of no image."""
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 12 if groups != 6 else 6, 3, groups=groups, bias=False, **options).double()
    x = torch.randn(3, 6, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(double_convolution(layer, x, layer.weight), layer(x), rtol=1e-12, atol=1e-12)
    assert double_convolution(layer, x[:0], layer.weight).shape == layer(x[:0]).shape


def assert_near_to_fake(model, x, tolerance=1e-4):
    with torch.inference_mode():
        fake = model(x)
        with hard_evaluation(model):
            found = model(x)
    assert (found - fake).abs().max() <= tolerance * fake.abs().max()


@pytest.mark.parametrize("bits", [1, 2])
def test_an_output_scale_of_0_is_0(bits):
    """A layer that saw only zeros when it was calibrated."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 4))
    model[0].bias.data.fill_(-10)
    quantize(model, methods.method("daq"), weight_bits=bits, activation_bits=bits)
    x = torch.randn(32, 8)
    calibrate(model, x)
    assert model[2].output_scale.item() == 0
    assert_near_to_fake(model.eval(), 20 * x)


class Cosine(nn.Linear):
    def forward(self, x):
        return 10 * nn.functional.linear(nn.functional.normalize(x), nn.functional.normalize(self.weight))


class Shifted(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + 3


def test_layers_that_compute_something_else_are_left_alone():
    """Subclasses, and modules whose `forward` somebody has replaced."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), Shifted(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, Cosine(8, 5))
    quantize(model, methods.method("ste"), weight_bits=2, activation_bits=2)
    x = images()
    calibrate(model, x)
    model.eval()
    model[4].forward = own = lambda x: x.amax((2, 3), keepdim=True)
    assert_near_to_fake(model, x)
    assert model[4].forward is own


def test_one_evaluation_inside_another():
    model = quantized("daq", 2, 2)
    expected = logits(model)
    codes = {name: 3 - own for name, own in weight_codes(model).items()}
    with hard_evaluation(model), torch.inference_mode():
        with hard_evaluation(model, codes):
            assert not torch.equal(model(images()), expected)
        assert torch.equal(model(images()), expected)
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("bits", [(2, 2), (2, 32)])
def test_inputs_of_any_dimension_and_of_no_image(bits):
    """What the float network takes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 4))
    quantize(model, methods.method("ste"), weight_bits=bits[0], activation_bits=bits[1])
    calibrate(model, torch.randn(9, 6))
    model.eval()
    for shape in ((6,), (1, 6), (2, 3, 6), (0, 6)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode(), hard_evaluation(model):
            assert model(x).shape == (*shape[:-1], 4)
        if x.numel():
            assert_near_to_fake(model, x)
    model = quantized("ste", *bits)
    with torch.inference_mode(), hard_evaluation(model):
        assert model(images()[:0]).shape == (0, 5)


def test_filters_of_very_different_size_keep_their_digits():
    """Each has a power of two of its own, which a batch norm may make up for."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=1e-30), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    model[0].weight.data *= (10.0 ** -torch.arange(8))[:, None, None, None]
    for _ in range(50):
        model(images())
    quantize(model, methods.method("ste"), weight_bits=8, activation_bits=8)
    calibrate(model, images())
    assert_near_to_fake(model.eval(), images(), 1e-3)


def test_a_single_image_of_a_network_with_several_outputs():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return self.layer(x), {"x": [x]}

    model = Both()
    with torch.inference_mode(), hard_evaluation(model):
        first, others = model(torch.ones(1, 4))
        assert model(x=torch.ones(1, 4))[0].shape == (1, 3)
    assert first.shape == (1, 3)
    assert others["x"][0].shape == (1, 4)


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


class Standardized(nn.Conv2d):
    """Weight standardization, in the method that torch's own forward calls."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight / weight.std(), bias)


def test_a_float_layer_with_a_convolution_of_its_own_keeps_it():
    """Beside quantized layers, where other float convolutions are taken apart into whole numbers."""
    model = quantized("ste", 2, 2, lambda: nn.Sequential(Standardized(3, 8, 3), *list(small())[1:]))
    assert_near_to_fake(model, images())


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_weight_that_a_hook_makes_is_the_one_of_now():
    """Before the first forward pass after an update it is the one from before."""

    def build():
        model = small()
        model[0] = torch.nn.utils.weight_norm(model[0])
        return model

    model = quantized("ste", 2, 2, build)
    before = logits(model)
    with torch.no_grad():
        model[0].weight_g.mul_(3)
    after = logits(model)
    assert not torch.equal(after, before)
    assert torch.equal(logits(model), after)
    assert torch.equal(logits(model, 1), after)


class Outcome(NamedTuple):
    """What a network returns."""

    logits: torch.Tensor
    mean: torch.Tensor


class Entries(dict):
    """A dictionary whose entries are attributes too, as those of Hugging Face."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        setattr(self, key, value)


def test_a_single_image_of_a_network_with_several_inputs_and_outputs_of_their_own_classes():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 3)

        def forward(self, x, y, *, z):
            found, entries = self.layer(torch.cat([x, y], 1)) + z, Entries()
            entries["logits"] = found
            return Outcome(found, found.mean()), entries

    model, x = Net(), torch.ones(1, 4)
    with torch.inference_mode(), hard_evaluation(model):
        outcome, entries = model(x, x, z=torch.ones(1, 3))
    assert isinstance(outcome, Outcome)
    assert outcome.logits.shape == entries["logits"].shape == entries.logits.shape == (1, 3)
    torch.testing.assert_close(outcome.mean, outcome.logits.mean())
