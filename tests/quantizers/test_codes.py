"""Codes hang on the checkpoint alone: not on threads, layout, library, or the order of a sum."""

import numpy as np
import pytest
import torch

from qexp.quantizers import codes_digest, codes_that_differ, pack_codes, quantize, weight_codes
from support import methods

weights = pytest.mark.parametrize(
    ("name", "side", "bits"), [site for site in methods.all_sites() if site[1] == "weight"]
)
SHAPE = (96, 64, 3, 3)


def layouts(x):
    """The same values, differently laid out in memory."""
    strided = torch.empty(*x.shape[:3], 2 * x.shape[3])[..., ::2].copy_(x)
    return {"contiguous": x, "channels_last": x.contiguous(memory_format=torch.channels_last), "strided": strided}


@weights
def test_codes_are_the_same_for_any_number_of_threads_and_any_layout(name, side, bits):
    x = methods.sample(side, *SHAPE)
    found = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        for laid_out in layouts(x).values():
            quantizer = methods.build(name, side, bits).eval()
            quantizer.calibrate(laid_out)
            found.append(quantizer.codes(laid_out)[0])
    assert all(torch.equal(codes, found[0]) for codes in found)


def crowd(seed=0):
    """40,000 weights, a third of them on a threshold of DAQ, as near as float32 can say, or next to it."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(40_000, generator=draw) * 0.05 + 0.013
    place, ulps = torch.randint(0, 3, (13_000,), generator=draw), torch.randint(-2, 3, (13_000,), generator=draw)
    quantizer = methods.build("daq", "weight", 2)
    quantizer.lower.data.fill_(-2.71), quantizer.upper.data.fill_(2.93)
    for _ in range(60):  # mean and deviation move with the values
        x[: len(place)] = quantizer.bins(x).thresholds[place].float() * (1 + ulps * 2.0**-23)
    return quantizer, x


def test_daq_has_one_order_of_operations():
    """Moments exact and rounded once, then four operations of float32, as NumPy has them: the last bit decides."""
    quantizer, x = crowd()
    values = x.numpy().astype(np.longdouble)
    mean = values.mean()
    std = np.sqrt(np.square(values - mean).sum() / (len(values) - 1))
    low, high = quantizer.lower.item(), quantizer.upper.item()
    t = (((x.numpy() - np.float32(mean)) / np.float32(std)) - np.float32(low)) / np.float32((high - low) / 3)
    expected = np.ceil(np.clip(t, np.float32(0), np.float32(3)) - np.float32(0.5))
    codes = quantizer.codes(x)[0].numpy()
    assert (codes == expected).all()
    t = (
        ((x.numpy() - np.float32(mean)) / np.nextafter(np.float32(std), np.float32(9))) - np.float32(low)
    ) / np.float32((high - low) / 3)
    moved = np.ceil(np.clip(t, np.float32(0), np.float32(3)) - np.float32(0.5))
    assert (codes != moved).mean() > 0.01  # the next deviation that float32 knows


@pytest.mark.parametrize("name", ["ste", "ste grid=sawb", "ste grid=twn", "ste grid=bwn"])
def test_grids_have_one_order_of_operations(name):
    """Subtract, divide, round; compare with 0.7 of an exact mean."""
    draw, bits = torch.Generator().manual_seed(3), {"ste grid=bwn": 1, "ste grid=twn": 2}.get(name, 8)
    quantizer, x = methods.build(name, "weight", bits), torch.randn(50_000, generator=draw)
    quantizer.calibrate(x)
    place, ulps = torch.arange(16_000), torch.randint(-2, 3, (16_000,), generator=draw)
    for _ in range(60):  # a threshold may move with the values
        thresholds = quantizer.bins(x).thresholds.float()
        x[: len(place)] = thresholds[place % len(thresholds)] * (1 + ulps * 2.0**-23)
    array = x.numpy()
    if "twn" in name:
        limit = np.float32(0.7 * float(np.abs(array.astype(np.longdouble)).mean()))
        expected = 1 + (array > limit).astype(int) - (array < -limit)
    elif "bwn" in name:
        expected = array >= 0
    else:
        lower, upper = (float(end) for end in quantizer.range_estimators[0](x))
        expected = np.clip(np.round((array - np.float32(lower)) / np.float32((upper - lower) / 255)), 0, 255)
    assert (quantizer.codes(x)[0].numpy() == expected).all()


def network(name="daq", bits=2):
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[torch.nn.Linear(7, 7) for _ in range(4)])
    quantize(model, methods.method(name), weight_bits=bits, activation_bits=32)
    return model


@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_codes_are_compared_one_by_one(bits):
    """Nothing differs from itself; planted differences are counted, by layer."""
    model = network("ste", bits)
    codes = weight_codes(model)
    packed = pack_codes(codes)
    assert list(codes) == ["1", "2"]
    assert codes_that_differ(codes, packed) == {}
    assert len(packed["1"]) <= 1 + -(-49 * {3: 4, 5: 8, 6: 8, 7: 8}.get(bits, bits) // 8)
    changed = {name: own.clone() for name, own in codes.items()}
    changed["1"][0, :3] ^= 1
    changed["2"][6, 6] ^= 1
    assert codes_that_differ(changed, packed) == {"1": 3, "2": 1}
    assert codes_digest(changed) != codes_digest(codes) == codes_digest(weight_codes(network("ste", bits)))


def test_what_cannot_be_compared_differs_in_all_its_codes():
    codes = weight_codes(network())
    packed = pack_codes(codes)
    assert codes_that_differ(codes, {"1": packed["1"]}) == {"2": 49}
    assert codes_that_differ({"1": codes["1"]}, packed) == {"2": 0}
    for damaged in (packed["1"][:-1], packed["1"].float(), torch.zeros(0, dtype=torch.uint8), packed["1"][None]):
        assert codes_that_differ(codes, packed | {"1": damaged}) == {"1": 49}
    assert codes_digest({}) is None


def test_a_digest_tells_layers_and_shapes_apart():
    codes = torch.zeros(4, dtype=torch.uint8)
    digests = [codes_digest(one) for one in ({"a": codes}, {"b": codes}, {"a": codes.view(2, 2)}, {"a": codes[:3]})]
    assert len(set(digests)) == 4
    assert all(len(digest) == 16 for digest in digests)
