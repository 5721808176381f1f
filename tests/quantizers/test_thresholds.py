"""Weights on thresholds: found where they were put, counted exactly, and what is on the other side."""

import pytest
import torch

from qexp import quantizers
from qexp.quantizers import STE, drawn_codes, nearest_threshold, nearest_thresholds
from support import methods
from support.planted import FAR, PLANTED, planted

weights = pytest.mark.parametrize(
    ("name", "side", "bits"), [site for site in methods.all_sites() if site[1] == "weight" and site[2] in (1, 2, 4, 8)]
)


@weights
def test_weights_on_thresholds_are_counted_exactly(name, side, bits):
    quantizer, weight = planted(name, bits)
    near = nearest_threshold(quantizer, weight)
    counts = {within: near.count(within) for within in (1e-12, 1e-6, 1e-5, 1e-3, 10**9)}
    assert counts == {
        1e-12: PLANTED[0.0],
        1e-6: PLANTED[0.0] + PLANTED[3e-7],
        1e-5: sum(PLANTED.values()),
        1e-3: sum(PLANTED.values()),
        10**9: weight.numel(),
    }
    assert near.codes.shape == near.others.shape == near.distances.shape == weight.shape
    assert torch.equal(near.codes, quantizer.codes(weight)[0])
    assert near.codes.dtype == near.others.dtype == torch.uint8


@weights
def test_the_distance_is_that_to_the_nearest_of_all_thresholds(name, side, bits):
    quantizer, weight = planted(name, bits)
    near, bins = nearest_threshold(quantizer, weight), quantizer.bins(weight)
    expected = ((weight[..., None] - bins.thresholds).abs() / bins.step).amin(-1)
    torch.testing.assert_close(near.distances, expected, rtol=1e-9, atol=1e-12)
    assert near.distances.dtype == torch.float64
    assert (near.distances > FAR).any()


@weights
def test_the_other_side_is_what_the_code_becomes_across_the_threshold(name, side, bits):
    """Each of some weights is nudged over its threshold and back; the rest holds the range where it is."""
    quantizer, weight = planted(name, bits)
    near, bins = nearest_threshold(quantizer, weight), quantizer.bins(weight)
    flat = weight.flatten()
    middles = (bins.thresholds[1:] + bins.thresholds[:-1]) / 2
    for index in (near.distances.flatten() <= 1e-5).nonzero().flatten()[::4].tolist():
        threshold = bins.thresholds[torch.bucketize(flat[index], middles)]
        sides = []
        for nudge in (-0.01, 0.01):
            moved = weight.clone()
            moved.view(-1)[index] = threshold + nudge * bins.step
            sides.append(int(quantizer.codes(moved)[0].flatten()[index]))
        ours = [int(near.codes.flatten()[index]), int(near.others.flatten()[index])]
        assert sorted(ours) == sides
        assert sides[1] - sides[0] == 1


def test_a_code_on_neither_side_is_left_alone(monkeypatch):
    """As rounding may have it where a range has no width."""
    quantizer, weight = planted("ste", 2)
    codes, levels = quantizer.codes(weight)
    near = nearest_threshold(quantizer, weight)
    wrong = (codes + 2) % 4
    monkeypatch.setattr(type(quantizer), "codes", lambda self, x: (wrong, levels))
    found = nearest_threshold(quantizer, weight)
    is_alone = found.distances.isinf()
    assert is_alone.any()
    assert torch.equal(found.others[is_alone], wrong[is_alone])
    # threshold j: of the codes j and j + 1, those that are wrong by two
    assert torch.equal(is_alone, (wrong != near.codes) & (wrong != near.others))


def test_the_memory_layout_does_not_matter(recwarn):
    """Neither for what is found, nor for the coins."""
    quantizer, weight = planted("daq", 2)
    weight, found = weight.float(), []
    for layout in (torch.contiguous_format, torch.channels_last):
        layers = {"a": nearest_threshold(quantizer, weight.to(memory_format=layout))}
        coins = torch.Generator().manual_seed(0)
        found.append((*layers["a"], drawn_codes(layers, 1e-5, coins)["a"]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)  # of double precision, and codes exactly
    assert recwarn.list == []


def test_weights_without_a_width_count_as_nothing():
    for name, bits in (("ste", 2), ("ste", 1), ("daq", 1), ("dqa grid=twn", 2)):
        found = nearest_threshold(methods.build(name, "weight", bits).eval(), torch.zeros(3, 2))
        assert found is None or found.codes.shape == (3, 2)


def test_a_quantizer_that_does_not_tell_its_thresholds_is_left_out(monkeypatch):
    model = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(4)))
    quantizers.quantize(model, methods.method("ste"), weight_bits=2, activation_bits=32)
    assert list(nearest_thresholds(model)) == ["1", "2"]
    monkeypatch.setattr(type(model[1].weight_quantizer), "bins", lambda self, x: None)
    assert nearest_thresholds(model) == {}
    assert nearest_threshold(model[1].weight_quantizer, model[1].weight) is None


def test_float_weights_have_no_thresholds():
    model = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(4)))
    assert nearest_thresholds(model) == {}
    method = methods.method("ste")
    assert isinstance(method, STE)
    quantizers.quantize(model, method, weight_bits=32, activation_bits=2)
    assert nearest_thresholds(model) == {}


def test_coins_are_fair_and_fall_for_near_weights_only():
    quantizer, weight = planted("daq", 2)
    near = nearest_threshold(quantizer, weight)
    layers = {"a": near, "b": near._replace(distances=near.distances + 1)}
    heads = torch.zeros(weight.shape)
    for seed in range(200):
        (codes,) = drawn_codes(layers, 1e-6, torch.Generator().manual_seed(seed)).values()
        assert torch.equal(codes, torch.where(codes == near.codes, near.codes, near.others))
        heads += codes != near.codes
    is_near = near.distances <= 1e-6
    assert torch.equal(heads > 0, is_near)
    assert ((heads[is_near] - 100).abs() < 40).all()
    assert abs(float(heads[is_near].mean()) - 100) < 8
    (same,) = drawn_codes(layers, 1e-6, None).values()
    assert torch.equal(same, near.codes)
    assert drawn_codes(layers, -1.0, torch.Generator()) == {}


def test_the_largest_layer_of_resnet18_takes_no_time():
    """No (weights, levels) tensor: that of 8 bits would have 600 million values."""
    weight = torch.randn(2_400_000, generator=torch.Generator().manual_seed(0))
    near = nearest_threshold(methods.build("daq", "weight", 8).eval(), weight)
    assert near.count(0.5) > 2_300_000
