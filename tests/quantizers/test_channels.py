"""Ranges by output channel: each channel is quantized as a tensor of its own would be, in training and when hard."""

import itertools

import pytest
import torch
from torch import nn

from qexp.quantizers import (
    Dampening,
    calibrate,
    check_conversion,
    nearest_threshold,
    nearest_thresholds,
    quantize,
    quantized_layers,
    stats,
    weight_levels,
    weight_memory_bytes,
)
from qexp.quantizers.base import LayerInfo
from qexp.quantizers.channels import channel_shape, per_output, place_among, values_at
from qexp.quantizers.dampening import squared_distance
from qexp.quantizers.daq import distance_aware, distance_aware_plain
from qexp.quantizers.freezing import resting_places
from qexp.quantizers.functional import mix_grids, mix_grids_plain
from qexp.quantizers.grids import Binary, Float, Ternary, Uniform
from qexp.quantizers.layers import quantize_layer
from support import methods
from support.hard_nets import BITS, check_layers, images, logits, quantized

SHAPES = {
    "convolution": (6, 5, 3, 3),
    "depthwise": (7, 1, 3, 3),
    "linear": (9, 4),
    "1-d": (6, 5, 3),
    "one filter": (1, 8),
}
MEASURED = [  # methods whose ranges follow from the weights alone
    *[("ste", bits) for bits in range(1, 9)],
    ("ste grid=twn", 2),
    ("br", 2),
    ("dqa", 4),
    ("dqa mix=[bwn@1,twn@2,fp]", 1),
]
measured = pytest.mark.parametrize(("name", "bits"), MEASURED)


def uneven(shape, seed=0):
    """Filters of very different size and middle."""
    draw = torch.Generator().manual_seed(seed)
    factors = torch.logspace(-2, 1, shape[0]).view(-1, *[1] * (len(shape) - 1))
    return (torch.randn(shape, generator=draw) + 0.3) * factors


def made(name, bits, shape, granularity="channel", axis=0):
    numbers = tuple(size if place == axis else 1 for place, size in enumerate(shape))
    return methods.method(name, granularity=granularity).weight(bits, LayerInfo(channel_shape=numbers))


@measured
@pytest.mark.parametrize("kind", SHAPES)
def test_a_channel_is_quantized_as_a_tensor_of_its_own(name, bits, kind):
    """Codes, values, bins, and training values with their gradient; min-max bit for bit."""
    weight, upstream = uneven(SHAPES[kind]), torch.randn(SHAPES[kind], generator=torch.Generator().manual_seed(5))
    quantizer = made(name, bits, weight.shape)
    quantizer.calibrate(weight)
    x = weight.clone().requires_grad_()
    trained = quantizer.train()(x)
    trained.backward(upstream)
    codes, levels = quantizer.eval().codes(weight)
    hard, bins = quantizer(weight), quantizer.bins(weight)
    assert torch.equal(values_at(levels, codes), hard)
    for channel, filter_ in enumerate(weight):
        alone = made(name, bits, weight.shape, "tensor")
        own = filter_.clone().requires_grad_()
        expected = alone.train()(own)
        expected.backward(upstream[channel])
        torch.testing.assert_close(trained[channel], expected, rtol=2e-6, atol=0)
        torch.testing.assert_close(x.grad[channel], own.grad, rtol=1e-6, atol=0)
        alone.eval()
        assert torch.equal(codes[channel], alone.codes(filter_)[0])
        if name == "ste" and bits > 1:
            assert torch.equal(hard[channel], alone(filter_))
        torch.testing.assert_close(hard[channel], alone(filter_), rtol=2e-7, atol=0)
        centers = bins.centers.reshape(-1, bins.centers.shape[-1])[channel]
        torch.testing.assert_close(centers, alone.bins(filter_).centers, rtol=1e-12, atol=0)


@measured
def test_the_size_of_a_filter_does_not_matter_to_the_others(name, bits):
    """By tensor, one filter that grows a hundredfold moves all codes."""
    weight = uneven((6, 5, 3, 3))
    grown = weight.clone()
    grown[2] *= 100
    for granularity, is_same in (("channel", True), ("tensor", False)):
        quantizer = made(name, bits, weight.shape, granularity).eval()
        before, after = (quantizer(own) for own in (weight, grown))
        others = [0, 1, 3, 4, 5]
        assert torch.equal(before[others], after[others]) is is_same


def test_the_scale_of_a_filter_is_that_of_the_bwn_paper():
    """XNOR-Net, algorithm 1: alpha = mean|W| of each filter, its values alpha * sign(W)."""
    weight = uneven((6, 5, 3, 3))
    hard = made("ste grid=bwn", 1, weight.shape).eval()(weight)
    alpha = weight.double().abs().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(hard, (alpha * weight.sign()).float(), rtol=1e-6, atol=0)


CHANNEL_MIXES = {
    "one grid": ([Uniform(3)], None),
    "three grids": ([Uniform(2), Uniform(4), Uniform(8)], [0.5, 0.3, 0.2]),
    "binary, ternary and full precision": ([Binary(1), Ternary(2), Float(32)], [0.5, 0.3, 0.2]),
}


@pytest.mark.parametrize("case", CHANNEL_MIXES)
def test_a_mix_with_ranges_by_channel_is_its_definition(case):
    """Value, gradient of x and of the mixing weights, in double precision."""
    grids, shares = CHANNEL_MIXES[case]
    found = []
    for function in (mix_grids, mix_grids_plain):
        x = uneven((6, 5, 3, 3)).double().requires_grad_()
        beta = x.detach().abs().amax((1, 2, 3), keepdim=True)
        bounds = {Ternary: (-beta, beta, beta / 3), Float: ()}
        scaled = [grid.scaled(bounds.get(type(grid), (-beta, beta))) for grid in grids]
        weights = None if shares is None else torch.tensor(shares, dtype=torch.float64, requires_grad=True)
        y = function(x, scaled, weights)
        y.backward(torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
        found.append([y.detach(), x.grad, *([] if weights is None else [weights.grad])])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_learned_ranges_by_channel_have_the_gradients_of_the_definition(bits):
    """DAQ's range of each filter, against autograd through the soft argmax in double precision."""
    weight = uneven((6, 5, 3, 3)).double()
    standard = (weight.mean().item(), weight.std().item())
    found = []
    for function in (distance_aware, distance_aware_plain):
        x = weight.clone().requires_grad_()
        lower = torch.linspace(-3, -0.2, 6).double().view(6, 1, 1, 1).requires_grad_()
        upper = torch.linspace(0.1, 2.5, 6).double().view(6, 1, 1, 1).requires_grad_()
        scale = torch.tensor(-1.7, dtype=torch.float64, requires_grad=True)
        signed = torch.tensor(1.0, dtype=torch.float64)
        y = function(x, lower, upper, signed, bits, sigma=1.0, gamma=2.0, scale=scale, standard=standard)
        y.backward(torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
        found.append((y.detach(), x.grad, lower.grad, upper.grad, scale.grad))
    for ours, expected in zip(*found, strict=True):
        assert expected.abs().sum() > 0
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_daq_by_channel_starts_as_daq_by_tensor(bits):
    """All ranges start at -3 and 3 deviations; then each filter learns its own."""
    weight = uneven((6, 5, 3, 3))
    by_channel, by_tensor = made("daq", bits, weight.shape), made("daq", bits, weight.shape, "tensor")
    assert by_channel.lower.shape == by_channel.upper.shape == (6, 1, 1, 1)
    assert torch.equal(by_channel(weight), by_tensor(weight))
    sums = []
    for quantizer in (by_channel, by_tensor):
        x = weight.clone().requires_grad_()
        quantizer(x).backward(torch.ones_like(weight))
        sums.append((x.grad, quantizer.lower.grad.sum(), quantizer.upper.grad.sum()))
    for ours, expected in zip(*sums, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    assert set(by_channel.stats()) == {
        f"{end}_{which}" for end in ("lower", "upper") for which in ("smallest", "largest")
    }


CHANNEL = [f"{name} granularity=channel" for name in ("ste", "br", "dqa", "daq")]


def apart(model):
    """Give learned ranges of channels different values, so that a mix-up of channels is seen."""
    for _, layer in quantized_layers(model):
        if getattr(layer.weight_quantizer, "roles", {}).get("lower"):
            count = layer.weight_quantizer.lower.numel()
            steps = torch.linspace(0.3, 1, count).view(layer.weight_quantizer.lower.shape)
            layer.weight_quantizer.lower.data.mul_(steps)
            layer.weight_quantizer.upper.data.mul_(steps.flip(0))
    return model


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", [*CHANNEL, "ste grid=twn granularity=channel"])
def test_exact_evaluation_holds_by_channel(name, bits):
    """For any threads, batches and layout; each layer against the product of its levels in double precision."""
    if "twn" in name and bits[0] != 2:
        bits = (2, bits[1])
    model = apart(quantized(name, *bits, keep_float=()))
    expected = logits(model)
    for batch, threads in itertools.product((1, 7), (1, 2)):
        assert torch.equal(logits(model, batch, threads), expected)
    check_layers(model)


TRANSPOSED = {
    "1-d": (nn.ConvTranspose1d(6, 4, 3), (2, 6, 9)),
    "2-d in groups": (nn.ConvTranspose2d(6, 4, 3, groups=2, stride=2), (2, 6, 5, 5)),
    "3-d": (nn.ConvTranspose3d(3, 5, 2), (2, 3, 4, 4, 4)),
}


@pytest.mark.parametrize("kind", TRANSPOSED)
def test_transposed_convolutions_count_channels_along_their_second_dimension(kind):
    """In groups, the channels of the same place in each group share a range; evaluation is that of the levels."""
    layer, shape = TRANSPOSED[kind]
    torch.manual_seed(0)
    layer.reset_parameters()
    with torch.no_grad():
        layer.weight.mul_(torch.logspace(-1, 1, layer.weight.shape[1]).view(1, -1, *[1] * (layer.weight.dim() - 2)))
    numbers = channel_shape(layer, layer.weight)
    assert numbers == (1, layer.out_channels // layer.groups, *[1] * (layer.weight.dim() - 2))
    method = methods.method("ste", granularity="channel")
    own = quantize_layer(layer, method.weight(3, LayerInfo(channel_shape=numbers)), method.activation(3))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    own.calibrate(x)
    own.eval()
    codes, levels = own.weight_quantizer.codes(own.weight)
    for channel in range(numbers[1]):
        part = own.weight[:, channel]
        assert levels[0, channel].flatten()[0] == part.min()
        assert levels[0, channel].flatten()[-1].item() == pytest.approx(part.max().item(), rel=1e-6)
    assert len(codes.unique()) == 8
    found = logits_of(own, x)
    expected = own.apply_operation(own.input_quantizer(x), values_at(levels, codes), own.bias)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(found[:1], logits_of(own, x[:1]))


def logits_of(model, x):
    from qexp.quantizers import hard_evaluation

    with torch.inference_mode(), hard_evaluation(model):
        return model(x)


def test_numbers_of_channels_meet_the_output_of_every_kind_of_layer():
    """Shaped for N, C, H, W and for N, ..., C; repeated for the groups of a transposed convolution."""
    values = torch.arange(4.0)
    assert per_output(nn.Conv2d(2, 4, 3), values.view(4, 1, 1, 1)).shape == (4, 1, 1)
    assert per_output(nn.Linear(3, 4), values.view(4, 1)).shape == (4,)
    grouped = per_output(nn.ConvTranspose2d(4, 8, 3, groups=2), values.view(1, 4, 1, 1))
    assert grouped.flatten().tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert per_output(nn.Linear(3, 4), torch.tensor(2.0)) == 2.0


@pytest.mark.parametrize("shape", [(6, 1, 1, 1), (1, 6, 1, 1), (1, 1, 1, 1)])
def test_tables_are_read_by_channel(shape):
    """Entries and places of values, against a loop."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(6, 6, 2, 2, generator=draw)
    table = torch.randn(*shape, 5, generator=draw).sort(-1).values
    index = torch.randint(5, x.shape, generator=draw)
    rows = table.expand(*x.shape, 5)
    entries, places = values_at(table, index), place_among(table, x)
    for position in itertools.product(*map(range, x.shape)):
        assert entries[position] == rows[position][index[position]]
        assert places[position] == sum(bound < x[position] for bound in rows[position])


@pytest.mark.parametrize("name", [*CHANNEL, "ste grid=twn granularity=channel"])
def test_what_lies_around_a_weight_is_that_of_its_channel(name):
    """Nearest threshold, resting places and dampening of each filter against the filter alone."""
    weight = uneven((6, 5, 3, 3))
    quantizer = made(name.removesuffix(" granularity=channel"), 2, weight.shape).eval()
    near, bins = nearest_threshold(quantizer, weight), quantizer.bins(weight)
    ends = resting_places(bins)
    assert near.codes.shape == near.others.shape == near.distances.shape == weight.shape
    for channel, filter_ in enumerate(weight):
        thresholds = bins.thresholds[channel].flatten()
        distance = (filter_.double()[..., None] - thresholds).abs().amin(-1) / bins.step[channel]
        torch.testing.assert_close(near.distances[channel], distance, rtol=1e-9, atol=1e-12)
        eighth = bins.step[channel] / 8 if "twn" not in name else None
        lower = ends[0][channel].flatten()
        assert lower[0] == -torch.inf
        if eighth is not None:
            torch.testing.assert_close(lower[1:], thresholds + eighth.flatten())
        is_beside = near.codes[channel].int() - near.others[channel].int()
        assert is_beside.abs().eq(1).all()


@pytest.mark.parametrize("name", CHANNEL)
def test_dampening_pulls_to_the_middle_of_the_channel_s_own_bins(name):
    """The penalty of a layer is the sum of that of its filters."""
    torch.manual_seed(0)
    model = apart(quantized(name, 2, 2, keep_float=()))
    layer = model[3]
    total = 0.0
    codes, bins = layer.weight_quantizer.codes(layer.weight)[0], layer.weight_quantizer.bins(layer.weight)
    for channel, own in enumerate(layer.weight.detach().double()):
        code, centers = codes[channel].long(), bins.centers[channel].flatten()
        if layer.weight_quantizer.is_scale_free:
            means = {k: own[code == k].mean() for k in code.unique().tolist()}
            total += sum(((own[code == k] - mean) ** 2).sum() for k, mean in means.items())
        else:
            total += ((own.clamp(centers[0], centers[-1]) - centers[code]) ** 2).sum()
    torch.testing.assert_close(squared_distance(layer).double(), total, rtol=1e-5, atol=1e-9)
    dampening = Dampening(model)
    dampening.strength = 1.0
    dampening().backward()
    assert layer.weight.grad.isfinite().all()
    assert len(nearest_thresholds(model)) == len(dict(quantized_layers(model)))


def test_scales_of_channels_are_counted():
    """One float for each filter with BWN and TWN, two with min-max; none for DAQ, whose levels are the layer's."""

    def size(name, bits):
        model = quantized(name, bits, 2)
        return weight_memory_bytes(model)[0]

    filters = 16 + 16 + 12 + 9  # of the layers between the first and the last
    for name, bits, numbers in (("ste", 2, 2), ("ste grid=twn", 2, 1), ("ste", 1, 1), ("daq", 2, 0), ("dqa", 4, 2)):
        assert size(f"{name} granularity=channel", bits) - size(name, bits) == 4 * numbers * filters


def test_levels_are_counted_within_a_channel():
    model = quantized("ste granularity=channel", 2, 2)
    assert set(weight_levels(model).values()) <= {3, 4}
    assert all(value == value for value in stats(model).values())


@pytest.mark.parametrize("name", ["ste", "br", "dqa"])
def test_a_clip_of_the_whole_tensor_is_refused(name):
    """SAWB's, also as a member of a mix; at 1 bit weights use BWN whatever the grid."""
    with pytest.raises(ValueError, match="granularity=channel: the grid sawb has one clip for a whole tensor"):
        methods.method(name, grid="sawb", granularity="channel").check(2, 2)
    methods.method("ste", grid="sawb", granularity="channel").check(1, 2)
    with pytest.raises(ValueError, match="granularity=channel: the grid sawb"):
        methods.method("dqa", mix=("minmax@2", "sawb@4", "fp"), activation_mix=None, granularity="channel").check(2, 32)


def test_a_network_trains_and_its_ranges_come_apart():
    """DAQ with a range for each filter: they start equal and end different."""
    torch.manual_seed(0)
    model = quantized("daq granularity=channel", 2, 2).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    target = torch.arange(len(images())) % 5
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images()), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for _, layer in quantized_layers(model):
        assert layer.weight_quantizer.upper.unique().numel() > layer.weight.shape[0] // 2
    calibrate(model, images())


def test_quantize_counts_the_channels_of_each_layer():
    """Also in a network with groups and a linear layer; a conversion check stays what it was."""
    model = quantized("daq granularity=channel", 2, 2, keep_float=())
    for _, layer in quantized_layers(model):
        expected = (layer.weight.shape[0], *[1] * (layer.weight.dim() - 1))
        assert layer.weight_quantizer.upper.shape == expected
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    assert check_conversion(plain, torch.randn(2, 3, 9, 9)).difference == 0
    quantize(plain, methods.method("ste", granularity="channel"), weight_bits=2, activation_bits=2, keep_float=())
