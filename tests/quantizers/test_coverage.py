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


def test_means_are_over_quantized_weights_and_over_inputs_of_layers():
    """144 weights of 2 bits and 24 of 8; what is left float counts for nothing."""
    coverage = covered(layer_bits=["2:8"])
    assert coverage.mean_bits == ((144 * 2 + 24 * 8) / 168, (3 + 8) / 2)
    assert covered(weight_bits=32).mean_bits == (32.0, 3.0)
    assert covered(weight_bits=32, activation_bits=32).mean_bits == (32.0, 32.0)


def test_other_bits_are_those_of_the_layers_that_are_named():
    before = covered()
    after = before.with_bits({"1": (1, 4)})
    assert after.as_data()["bits"] == {"0": [32, 32], "1": [1, 4], "2": [2, 3]}
    assert after.as_data()["float"] == before.as_data()["float"]
    assert before.as_data()["bits"]["1"] == [2, 3]
