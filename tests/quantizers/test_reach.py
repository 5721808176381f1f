"""What `quantize` reaches, what it leaves alone and names, and that what it touches stays what it was."""

import copy
import pickle
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from qexp.quantizers import QuantLayer, calibrate, hard_evaluation, quantize, quantized_layers, weight_codes
from support import methods

KINDS = {
    "conv1d": (lambda **more: nn.Conv1d(4, 6, 3, **more), (2, 4, 9)),
    "conv2d": (lambda **more: nn.Conv2d(4, 6, 3, **more), (2, 4, 9, 8)),
    "conv3d": (lambda **more: nn.Conv3d(4, 6, 3, **more), (2, 4, 5, 6, 7)),
    "transposed1d": (lambda **more: nn.ConvTranspose1d(4, 6, 3, **more), (2, 4, 9)),
    "transposed2d": (lambda **more: nn.ConvTranspose2d(4, 6, 3, **more), (2, 4, 9, 8)),
    "transposed3d": (lambda **more: nn.ConvTranspose3d(4, 6, 3, **more), (2, 4, 5, 6, 7)),
}
GEOMETRY = [{}, {"stride": 2, "padding": 1, "groups": 2, "bias": False}, {"dilation": 2, "padding": 2}]
kinds = pytest.mark.parametrize("kind", KINDS)


def two_bits(model, name="daq", **options):
    usual = {"weight_bits": 2, "activation_bits": 2, "keep_float": []}
    return quantize(model, methods.method(name), **(usual | options))


def alone(layer, name="ste", **options):
    """A network of this layer, quantized."""
    net = nn.Sequential(layer)
    two_bits(net, name, **options)
    return net


class WithForward(nn.Conv2d):
    """A forward that pads by itself, as timm's Conv2dSame."""

    def forward(self, x):
        return nn.functional.conv2d(nn.functional.pad(x, (0, 1, 0, 1)), self.weight, self.bias)


class Standardized(nn.Conv2d):
    """Weight standardization."""

    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class Shifted(nn.Linear):
    """A forward that changes its input."""

    def forward(self, x):
        return nn.functional.linear(x + 0.1, self.weight, self.bias)


class OtherInEvaluation(nn.Linear):
    """A forward that scales its weight, but not while it trains."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight if self.training else self.weight / 2, self.bias)


class Twice(nn.Linear):
    """A forward that multiplies twice."""

    def forward(self, x):
        return nn.functional.linear(nn.functional.linear(x, self.weight), self.weight, self.bias)


class LowRank(nn.Linear):
    """A layer with a second weight."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.extra = nn.Parameter(torch.randn(self.out_features, self.in_features))

    def forward(self, x):
        return super().forward(x) + nn.functional.linear(x, self.extra)


class Named(nn.Conv2d):
    """A subclass with something of its own, and torch's forward."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.note = "kept"

    def describe(self):
        return f"{self.note} {self.out_channels}"


@kinds
@pytest.mark.parametrize("geometry", GEOMETRY)
def test_every_kind_of_convolution_multiplies_what_its_quantizers_give(kind, geometry):
    """Against the float layer whose weight is the quantized one, on the quantized input."""
    make, shape = KINDS[kind]
    torch.manual_seed(0)
    layer = make(**geometry)
    reference, x = copy.deepcopy(layer), torch.randn(shape)
    net = alone(layer, "daq")
    calibrate(net, x)
    net.eval()
    with torch.no_grad():
        reference.weight.copy_(layer.quantized_weight())
        expected = reference(layer.input_quantizer(x))
    torch.testing.assert_close(net(x), expected)
    assert len(layer.quantized_weight().unique()) <= 4
    assert len(layer.input_quantizer(x).unique()) <= 4


@kinds
@pytest.mark.parametrize("geometry", GEOMETRY)
@pytest.mark.parametrize(("name", "bits"), [("daq", 2), ("ste", 8), ("ste", 3)])
def test_exact_evaluation_of_every_kind_is_that_of_training_mode_up_to_rounding(kind, geometry, name, bits):
    """The same output as fake quantization to 1e-5, and the same bits for one image and for many."""
    make, shape = KINDS[kind]
    torch.manual_seed(0)
    net, x = nn.Sequential(make(**geometry)), torch.randn(shape).relu()
    two_bits(net, name, weight_bits=bits, activation_bits=bits)
    calibrate(net, x)
    net.eval()
    expected = net(x)
    with hard_evaluation(net):
        found, single = net(x), net(x[:1])
        without_batch = net(x[0])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert torch.equal(found[:1], single)
    assert torch.equal(found[0], without_batch)


def test_a_transposed_convolution_keeps_its_output_size():
    """An argument of its forward, in training and in exact evaluation."""
    layer = nn.ConvTranspose2d(3, 4, 3, stride=2)
    x = torch.randn(2, 3, 5, 5)
    quantize(holder := nn.ModuleList([layer]), methods.method("ste"), weight_bits=4, activation_bits=4, keep_float=[])
    layer.calibrate(x)
    holder.eval()
    expected = layer(x, output_size=[12, 12])
    assert expected.shape == (2, 4, 12, 12)
    with hard_evaluation(holder):
        torch.testing.assert_close(layer(x, output_size=[12, 12]), expected)


def test_hooks_stay():
    """Forward hooks, hooks before the forward, and those on gradients of parameters."""
    layer, seen = nn.Conv2d(3, 4, 3), []
    layer.register_forward_pre_hook(lambda *_: seen.append("before"))
    layer.register_forward_hook(lambda *_: seen.append("after"))
    layer.weight.register_hook(lambda grad: seen.append("gradient"))
    net = alone(layer)
    net(torch.randn(2, 3, 6, 6)).sum().backward()
    assert seen == ["before", "after", "gradient"]


def test_a_subclass_stays_what_it_is():
    """With its attributes, its methods and its class among the bases."""
    layer = Named(3, 4, 3)
    net = alone(layer)
    assert net[0] is layer
    assert isinstance(layer, Named)
    assert isinstance(layer, QuantLayer)
    assert layer.describe() == "kept 4"
    assert repr(layer).startswith("QuantNamed(\n  3, 4, kernel_size=(3, 3)")


def test_a_forward_of_ones_own_is_kept_where_it_multiplies_once():
    """It pads the quantized input and multiplies by the quantized weight; also when evaluated by given codes."""
    torch.manual_seed(0)
    layer, x = WithForward(3, 4, 2), torch.randn(2, 3, 6, 6)
    net = alone(layer, "daq")
    calibrate(net, x)
    net.eval()
    padded = nn.functional.pad(layer.input_quantizer(x), (0, 1, 0, 1))
    torch.testing.assert_close(net(x), nn.functional.conv2d(padded, layer.quantized_weight(), layer.bias))
    with hard_evaluation(net):
        torch.testing.assert_close(net(x), nn.functional.conv2d(padded, layer.quantized_weight(), layer.bias))
    codes = {name: 3 - own for name, own in weight_codes(net).items()}
    with hard_evaluation(net, codes):
        levels = layer.weight_quantizer.codes(layer.weight)[1]
        weight = levels[codes["0"].long()] * layer.output_scale.abs()
        torch.testing.assert_close(net(x), nn.functional.conv2d(padded, weight, layer.bias))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Standardized(3, 4, 2), r"Standardized.forward changes its weight \(mean\)"),
        (Shifted(3, 4), "Shifted.forward changes its input before it multiplies"),
        (Twice(4, 4), "Twice.forward (multiplies by its weight 2 times|changes its input)"),
        (LowRank(3, 4), "LowRank.forward multiplies by another tensor than its weight"),
        (parametrizations.weight_norm(nn.Linear(3, 4)), "made from other parameters"),
        (nn.utils.spectral_norm(nn.Linear(3, 4)), "made from other parameters"),
        (nn.LazyLinear(4), "no shape before its first batch"),
    ],
)
def test_what_would_be_changed_is_left_alone_and_named(layer, reason):
    """The layer is the same object of the same class, and the report says why."""
    net, before = nn.Sequential(nn.Linear(3, 3), layer), type(layer)
    coverage = two_bits(net)
    (left,) = coverage.left_float
    assert left.name == "1"
    assert type(net[1]) is before
    assert [name for name, _ in quantized_layers(net)] == ["0"]
    with pytest.raises(ValueError, match="nothing to quantize: 0: "):
        alone(layer)
    assert re.search(reason, left.reason), left.reason


def test_a_parametrization_that_is_registered_is_seen():
    """`torch.nn.utils.parametrize` makes a property of the weight."""

    class Symmetric(nn.Module):
        def forward(self, weight):
            return weight + weight.T

    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    assert two_bits(nn.Sequential(nn.Linear(4, 4), layer)).left_float[0].name == "1"


def test_a_layer_at_two_places_is_quantized_at_both():
    """One object under two names has one pair of quantizers, and both names are told."""
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    coverage = two_bits(net)
    assert net[0] is net[2]
    assert isinstance(net[2], QuantLayer)
    assert coverage.layers[0].also == ("2",)
    assert "also 2" in str(coverage)
    assert len([name for name, _ in net.named_parameters() if name.endswith("output_scale")]) == 1


def test_a_model_that_is_a_layer_can_be_quantized():
    """In place, under the name that it has: none."""
    layer = nn.Linear(4, 3)
    coverage = two_bits(layer)
    assert isinstance(layer, QuantLayer)
    assert str(coverage).startswith("(model)  Linear  W2A2")


def test_the_fast_path_of_a_transformer_is_left():
    """torch's encoder layer would read the weights of its linear layers and call none of them in evaluation."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    coverage = two_bits(encoder, "ste")
    x, mask = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    calls = []
    for name, layer in quantized_layers(encoder):
        layer.weight_quantizer.register_forward_hook(lambda *_, name=name: calls.append(name))
    with torch.no_grad():
        encoder.eval()(x)
        encoder(x, src_key_padding_mask=mask)
    assert calls == [f"layers.{layer}.linear{part}" for layer in (0, 1) for part in (1, 2)] * 2
    left = {one.name: one.reason for one in coverage.left_float}
    assert set(left) == {"layers.0.self_attn.out_proj", "layers.1.self_attn.out_proj"}
    assert "without calling it" in left["layers.0.self_attn.out_proj"]
    assert coverage.others["layers.0.self_attn"] == "the products of nn.MultiheadAttention"


def test_a_layer_of_somebodys_own_attention_is_left_for_a_reason_that_is_true():
    """This one does call it, which nobody knows before."""

    class Own(nn.MultiheadAttention):
        def forward(self, x):
            return self.out_proj(x)

    (left,) = two_bits(nn.Sequential(Own(8, 2), nn.Linear(8, 8))).left_float
    assert left.name == "0.out_proj"
    assert left.reason == "Own is an nn.MultiheadAttention, and may multiply by its weight without calling it"


def test_embeddings_recurrent_layers_and_single_parameters_are_named():
    """They hold weights and stay float."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.memory, self.out = nn.Embedding(5, 4), nn.LSTM(4, 4), nn.Linear(4, 2)
            self.places = nn.Parameter(torch.zeros(1, 3, 4))

    others = two_bits(Net()).others
    assert others["words"] == "an embedding"
    assert others["memory"] == "a recurrent layer"
    assert others[""] == "parameters of Net itself (places)"


def test_a_layer_that_is_never_called_is_an_error_of_calibration():
    """A function that takes the weight of a layer, as in torchvision's Swin: no forward pass reaches its quantizers."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.ModuleDict({"qkv": nn.Linear(4, 4), "out": nn.Linear(4, 4)})

        def forward(self, x):
            return self.block["out"](nn.functional.linear(x, self.block["qkv"].weight))

    net = Net()
    two_bits(net)
    with pytest.raises(ValueError, match=r"block.qkv: never called .* float by adding \*\.qkv to keep_float"):
        calibrate(net, torch.randn(2, 4))


def test_a_model_without_layers_has_nothing_to_quantize():
    """And 32 bits ask for nothing."""
    with pytest.raises(ValueError, match="no convolution and no linear layer"):
        two_bits(nn.Sequential(nn.ReLU()))
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    with pytest.raises(ValueError, match="nothing to quantize: 0: keep_float first, 1: keep_float last"):
        two_bits(net, keep_float=["first", "last"])
    assert two_bits(net, "fp", weight_bits=32, activation_bits=32).quantized == ()


def test_a_printed_model_says_bits_and_method():
    """In the line of each layer."""
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    two_bits(net, "daq", weight_bits=1, activation_bits=4, keep_float=["last:input"])
    first, second = repr(net[0]), repr(net[1])
    assert "weight=1 bit, input=4 bits, method=DAQ" in first
    assert "weight=1 bit, input=float, method=DAQ" in second


def test_quantized_models_can_be_copied():
    """Deep copies compute the same and share nothing."""
    net = alone(Named(3, 4, 3))
    x = torch.randn(2, 3, 6, 6)
    calibrate(net, x)
    other = copy.deepcopy(net).eval()
    assert torch.equal(other(x), net.eval()(x))
    assert other[0].weight is not net[0].weight


def test_quantized_models_can_be_saved_whole():
    """Also those with layers of somebody's own class."""
    net = nn.Sequential(Named(3, 4, 3), nn.Conv2d(4, 4, 3))
    two_bits(net)
    x = torch.randn(2, 3, 6, 6)
    calibrate(net, x)
    other = pickle.loads(pickle.dumps(net)).eval()
    assert type(other[0]) is type(net[0])
    assert torch.equal(other(x), net.eval()(x))


def test_a_layer_that_multiplies_otherwise_in_evaluation_stays_float():
    net = nn.Sequential(nn.Linear(4, 4), OtherInEvaluation(4, 4))
    assert two_bits(net).left_float[0].reason == "OtherInEvaluation.forward changes its weight (div)"


@pytest.mark.filterwarnings("ignore:Initializing zero-element:UserWarning")
def test_a_layer_without_weights_stays_float():
    """Nothing could be calibrated."""
    net = nn.Sequential(nn.Linear(4, 0), nn.Linear(0, 4))
    with pytest.raises(ValueError, match="nothing to quantize: 0: it has no weights"):
        two_bits(net)


def test_a_layer_may_be_called_by_the_name_of_its_input():
    """As torch's own layers: in calibration, training and exact evaluation."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.second(input=self.first(input=x))

    net, x = Net(), torch.randn(5, 4)
    two_bits(net)
    calibrate(net, x)
    usual = nn.Sequential(net.first, net.second)
    assert torch.equal(net(x), usual(x))
    with hard_evaluation(net.eval()):
        found = net(x)
    with hard_evaluation(usual.eval()):
        assert torch.equal(found, usual(x))


def test_exact_evaluation_quantizes_each_weight_once():
    """For all the batches of an evaluation, whatever else a layer might be called with."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ConvTranspose2d(4, 4, 3))
    two_bits(net, "ste", keep_float=["1:input"])
    x = torch.randn(2, 3, 9, 9)
    calibrate(net, x)
    asked = []

    def watch(name, own, call):
        usual = getattr(own, call)
        setattr(own, call, lambda *given: asked.append(name) or usual(*given))

    for name, layer in quantized_layers(net.eval()):
        for call in ("codes", "integer_form", "forward"):
            watch(name, layer.weight_quantizer, call)
    with hard_evaluation(net):
        net(x)
        net(x)
    assert sorted(asked) == ["0", "1", "2"]
