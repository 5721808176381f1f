"""Firmness: planted weights are counted, draws are what a literal loop over them gives, and the network stays."""

import copy
import json
from statistics import fmean

import pytest
import torch
from torch import nn

from qexp import quantizers
from qexp.experiment.firmness import measure_firmness
from support import methods
from support.planted import PLANTED, plant

TRAIN = [
    (torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).double(), torch.zeros(8)) for seed in (5, 6)
]
KEYS = {"top1_hard", "mean", "smallest", "largest", "changed", "spread", "top1"}


def network(name="daq", bits=2, *, is_planted=True):
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 8, 3),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        nn.Linear(32, 10),
    ).double()
    quantizers.quantize(model, methods.method(name), weight_bits=bits, activation_bits=bits)
    quantizers.calibrate(model.double(), TRAIN[0][0])
    model.eval()
    for _, layer in quantizers.quantized_layers(model):
        if is_planted and layer.weight_quantizer is not None:
            layer.weight.data = plant(layer.weight_quantizer, layer.weight.data).reshape(layer.weight.shape)
    return model


def images(model):
    """40 images, 32 of them with the class that the network gives them."""
    x = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(9)).double()
    with torch.no_grad():
        labels = model(x).argmax(1)
    labels[32:] = (labels[32:] + 1) % 10
    return [(x[:30], labels[:30]), (x[30:], labels[30:])]


def measured(model, **options):
    test = images(model)
    found = measure_firmness(model, lambda: test, lambda: TRAIN, **options)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "bits"),
    [(name, bits) for name in methods.NAMES for bits in (1, 2, 4, 8) if bits in methods.method(name).weight_bits],
)
def test_planted_weights_are_counted_in_every_layer(name, bits):
    found = measured(network(name, bits), draws=1)
    assert list(found["layers"]) == ["3", "6"]
    for key, layer in found["layers"].items():
        weights = {"3": 8 * 12 * 9, "6": 12 * 8 * 9}[key]
        assert layer == {"weights": weights, "within_1e-6": 15, "within_1e-5": sum(PLANTED.values())}
    assert (found["weights"], found["within_1e-6"], found["within_1e-5"]) == (1728, 30, 48)


def test_everything_is_plain_data():
    found = json.loads(json.dumps(measured(network(), draws=2)))
    assert set(found) == {
        *("weights", "within_1e-6", "within_1e-5", "layers", "seed", "draws", "spread", "drawn", "reestimated")
    }
    assert set(found["drawn"]) == set(found["reestimated"]) == KEYS
    assert found["drawn"]["top1_hard"] == 80.0, "the network as it is gives the labels that it was asked for"
    assert (found["draws"], found["seed"]) == (2, 0)


def literal(model, generator):
    """One draw, written into the weights themselves."""
    moved = copy.deepcopy(model)
    for (_, layer), (_, other) in zip(
        quantizers.quantized_layers(model), quantizers.quantized_layers(moved), strict=True
    ):
        weight, bins = layer.weight.detach().flatten(), layer.weight_quantizer.bins(layer.weight)
        distance = (weight[:, None] - bins.thresholds).abs() / bins.step
        near = (distance.amin(1) <= 1e-6).nonzero().flatten()
        codes, levels = layer.weight_quantizer.codes(layer.weight.detach())
        codes = codes.flatten().long()
        for index, coin in zip(
            near.tolist(), torch.randint(2, (len(near),), generator=generator).tolist(), strict=True
        ):
            below = int(distance[index].argmin())
            codes[index] = 2 * below + 1 - codes[index] if coin else codes[index]
        scale = 1 if layer.output_scale is None else layer.output_scale.detach().abs()
        other.cached_weight = (levels[codes] * scale).reshape(layer.weight.shape)
    return moved


@torch.no_grad()
def literal_predictions(model, test, *, estimate):
    if estimate:
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        for batch, _ in TRAIN:
            model(batch)
        model.eval()
    return torch.cat([model(x) for x, _ in test]).argmax(1)


@pytest.mark.parametrize("name", ["daq", "dqa", "br"])
@pytest.mark.parametrize("estimate", [False, True])
def test_the_statistics_are_those_of_a_literal_loop(name, estimate):
    model = network(name)
    test = images(model)
    labels = torch.cat([labels for _, labels in test])
    found = measure_firmness(model, lambda: test, lambda: TRAIN, draws=6, seed=4)[
        "reestimated" if estimate else "drawn"
    ]
    generator = torch.Generator().manual_seed(4)
    own = literal_predictions(copy.deepcopy(model), test, estimate=estimate)
    predictions = [literal_predictions(literal(model, generator), test, estimate=estimate) for _ in range(6)]
    top1 = [100 * float((one == labels).double().mean()) for one in predictions]
    undrawn = 100 * float((own == labels).double().mean())
    assert len(set(top1)) > 2
    assert found["top1"] == pytest.approx(top1)
    assert found["top1_hard"] == pytest.approx(undrawn)
    expected = {
        "mean": fmean(top1),
        "smallest": min(top1),
        "largest": max(top1),
        "changed": fmean(100 * float((one != own).double().mean()) for one in predictions),
        "spread": max(*top1, undrawn) - min(*top1, undrawn),
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_a_seed_gives_the_same_twice_and_another_one_something_else():
    model = network()
    first, again, other = (measured(model, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first["drawn"]["top1"] != other["drawn"]["top1"]
    assert len(first["drawn"]["top1"]) == first["draws"] == 5
    assert first["spread"] == first["drawn"]["spread"] > 0


def test_the_network_stays_as_it_is():
    model = network("dqa").train()
    before, mode = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    test = [(x, torch.zeros(len(x), dtype=torch.int64)) for x, _ in TRAIN]
    measure_firmness(model, lambda: test, lambda: TRAIN)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), mode)
    assert all(layer.cached_weight is None for _, layer in quantizers.quantized_layers(model))
    assert model.training


def test_without_a_weight_on_a_threshold_nothing_is_drawn():
    model = network(is_planted=False)
    for _, layer in quantizers.quantized_layers(model):
        planted = plant(layer.weight_quantizer, layer.weight.data)[sum(PLANTED.values()) :]
        centers = layer.weight_quantizer.bins(layer.weight).centers
        layer.weight.data.view(-1)[: sum(PLANTED.values())] = centers[0]
        layer.weight.data.view(-1)[sum(PLANTED.values()) :] = planted

    def refuse():
        raise AssertionError("nothing has to be evaluated")

    found = measure_firmness(model, refuse, refuse)
    assert (found["within_1e-6"], found["draws"], found["spread"]) == (0, 0, 0.0)
    assert (found["drawn"], found["reestimated"]) == (None, None)


def test_a_network_without_batch_norm_is_not_estimated_again():
    model = network()
    for name, module in list(model.named_children()):
        if isinstance(module, nn.BatchNorm2d):
            model.set_submodule(name, nn.Identity())
    found = measured(model)
    assert found["reestimated"] is None
    assert set(found["drawn"]) == KEYS


def test_float_weights_have_no_firmness():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    assert measure_firmness(model, list, list) is None
    quantizers.quantize(model, methods.method("ste"), weight_bits=32, activation_bits=2, keep_float=["first"])
    assert measure_firmness(model, list, list) is None
