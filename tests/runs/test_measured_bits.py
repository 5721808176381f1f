"""What a summary tells of the bits of layers, also a damaged one."""

from typing import Any

import pytest

from qexp.runs.measured_bits import MeasuredBits, bits_of_layers, mean_of, measured_bits


def summary(*pairs: list[int], means: tuple[Any, Any], usual: tuple[int, int] = (4, 4)) -> dict[str, Any]:
    layers = {"bits": {f"layer{number}": pair for number, pair in enumerate(pairs)}}
    named = dict(zip(("mean_weight_bits", "mean_activation_bits"), means, strict=True))
    return {"weight_bits": usual[0], "activation_bits": usual[1], "layers": layers, **named}


@pytest.mark.parametrize(
    ("pairs", "means", "usual", "label"),
    [
        (([32, 32], [3, 4], [4, 4]), (3.24, 4.0), (4, 4), "W3.2A4"),
        (([3, 4], [3, 4]), (3.0, 4.0), (4, 4), "W3A4"),
        (([2, 4], [4, 4]), (3.0, 4.0), (4, 4), "W3.0A4"),  # not of 3 bits, though in the mean
        (([4, 2], [4, 8], [4, 8]), (4.0, 6.0), (4, 4), "W4A6.0"),
        (([4, 2], [4, 8]), (4, 5), (4, 4), "W4A5.0"),
        (([2, 32], [3, 32]), (2.96, 32.0), (2, 32), "W3.0A32"),
        (([4, 4], [32, 32]), (4.0, 4.0), (32, 32), "W4A4+"),  # most is float, and the label says that there is more
        (([32, 4], [32, 32]), (32.0, 4.0), (32, 4), "W32A4"),
    ],
)
def test_a_label_has_means_and_a_digit_where_layers_differ(
    pairs: Any, means: Any, usual: tuple[int, int], label: str
) -> None:
    found = measured_bits(summary(*pairs, means=means, usual=usual))
    assert found is not None
    assert (found.label, found.named("ste")) == (label, f"ste {label}")


def test_a_line_counts_layers() -> None:
    found = measured_bits(summary([32, 32], [3, 4], [4, 4], [4, 4], [32, 4], means=(3.5, 4.0)))
    assert found is not None
    counted = "2 layers W4A4, 1 layer W3A4, 1 layer W32A4, 1 layer float"
    assert found.line == f"3.5 in the mean of weights, 4 of inputs: {counted}"


@pytest.mark.parametrize(
    "means",
    [
        (None, 4.0),
        (3.2, None),
        ("3.2", 4.0),
        (float("nan"), 4.0),
        (float("inf"), 4.0),
        (True, 4.0),
        (0.5, 4.0),
        (33, 4.0),
        ([3.2], 4.0),
        (10**400, 4.0),
    ],
)
def test_means_that_are_none_tell_nothing(means: Any) -> None:
    assert measured_bits(summary([3, 4], means=means)) is None
    assert measured_bits({}) is None


LAYERS: list[Any] = [None, 3, [], "x", {}, {"bits": None}, {"bits": [[3, 4]]}, {"bits": {"a": 3, "b": [3], "c": "34"}}]


@pytest.mark.parametrize("layers", [*LAYERS, {"bits": {"a": [True, 4], "b": [3.0, 4], "c": [0, 4], "d": [10**9, 4]}}])
def test_layers_that_are_none_are_left_out(layers: Any) -> None:
    damaged = {**summary(means=(3.2, 4.0)), "layers": layers}
    assert bits_of_layers(damaged) == {}
    found = measured_bits(damaged)
    assert found is not None
    assert found.label == "W3.2A4"


def test_a_mean_over_runs_is_of_their_means() -> None:
    assert mean_of([]) is None
    one = MeasuredBits((3.0, 4.0), ((3, 4), (3, 4)))
    assert mean_of([one]) == one
    both = mean_of([one, MeasuredBits((4.0, 4.0), ((4, 4), (4, 4)))])
    assert both is not None
    assert both.label == "W3.5A4"
