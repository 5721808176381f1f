"""The report on what is quantized."""

from torch import nn

from qexp.quantizers import quantize
from support import methods


def covered(**options):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 6), nn.Embedding(3, 2))
    usual = {"weight_bits": 2, "activation_bits": 3, "keep_float": ["first"]}
    return quantize(net, methods.method("ste"), **(usual | options))


def test_a_report_has_a_line_for_each_layer():
    """Name, class, bits and reason; other modules with weights below."""
    assert str(covered(layer_bits=["2:input:8"])).splitlines() == [
        "0  Conv2d  float  keep_float first",
        "1  Conv2d  W2A3",
        "2  Linear  W2A8   layer_bits 2:input:8",
        "3          float  an embedding",
    ]


def test_a_report_in_one_line_counts_layers_and_weights():
    """144 + 24 of 276 weights; rounded down, so that 100 % is all of them."""
    assert covered().line() == (
        "quantized: 2 W2A3 of 3 layers, 60.8 % of their weights; float: 0 (keep_float first), 3 (an embedding)"
    )
    assert covered(weight_bits=32, activation_bits=32).line() == "quantized: nothing"


def test_layers_that_are_float_since_others_alone_are_named_say_so():
    """32 bits for all, and layer_bits for one."""
    coverage = covered(weight_bits=32, activation_bits=32, layer_bits=["1:4"])
    assert {one.name: one.reason for one in coverage.left_float} == {
        "0": "keep_float first",
        "2": "of 32 bits, as layers are that no entry names",
    }


def test_a_report_is_data():
    """What stands in summary.json."""
    assert covered(keep_float=["0", "2:weight"]).as_data() == {
        "bits": {"0": [32, 32], "1": [2, 3], "2": [32, 3]},
        "float": {"0": "keep_float 0"},
        "others": {"3": "an embedding"},
    }
