"""Bit-widths of single layers, by name and pattern."""

import pytest

from qexp.quantizers.layer_bits import check_choices, choose_bits
from support import methods

NAMES = ["stem", "layer1.conv1", "layer1.conv2", "head"]


def bits_of(keep_float=(), layer_bits=(), bits=(2, 3), fixed=()):
    return [choice.bits for choice in choose_bits(NAMES, bits, keep_float, layer_bits, fixed).values()]


@pytest.mark.parametrize(
    ("keep_float", "layer_bits", "expected"),
    [
        ([], [], [(2, 3), (2, 3), (2, 3), (2, 3)]),
        (["first", "head:input"], [], [(32, 32), (2, 3), (2, 3), (2, 32)]),
        ([], ["layer1.*:4"], [(2, 3), (4, 4), (4, 4), (2, 3)]),
        ([], ["layer1.*:4", "layer1.conv2:weight:8"], [(2, 3), (4, 4), (8, 4), (2, 3)]),
        ([], ["layer1.conv2:8", "layer1.*:4"], [(2, 3), (4, 4), (4, 4), (2, 3)]),
        (["first:input"], ["first:weight:8", "last:input:1"], [(8, 32), (2, 3), (2, 3), (2, 1)]),
        (["first"], ["*:32"], [(32, 32)] * 4),
        ([], ["stem:32", "head:weight:32"], [(32, 32), (2, 3), (2, 3), (32, 3)]),
    ],
)
def test_entries_decide_by_name_and_side_and_the_last_one_counts(keep_float, layer_bits, expected):
    """A layer that no entry names has the bits of the network."""
    assert bits_of(keep_float, layer_bits) == expected


@pytest.mark.parametrize(
    ("keep_float", "layer_bits", "fixed", "message"),
    [
        ([], ["layer9:4"], (), "'layer9:4' fits no layer; layers: stem, layer1.conv1, layer1.conv2, head"),
        ([], ["stem"], (), "'stem' is not NAME:BITS"),
        ([], ["stem:9"], (), "1 to 8 bits, or 32"),
        ([], ["stem:²"], (), "1 to 8 bits, or 32"),
        ([], [":4"], (), "is not NAME:BITS"),
        ([], ["stem:output:4"], (), "the sides weight and input"),
        (["first"], ["stem:8"], (), "stem's weight, which keep_float first leaves float; take it out of keep_float"),
        (["last:input"], ["last:8"], (), "head's input, which keep_float last:input leaves float"),
        ([], ["head:4"], ("head",), "names only layers that cannot be quantized: head"),
    ],
)
def test_an_entry_that_says_nothing_or_a_contradiction_is_an_error(keep_float, layer_bits, fixed, message):
    """Each with the entry and what to do."""
    with pytest.raises(ValueError, match="entry") as caught:
        bits_of(keep_float, layer_bits, fixed=fixed)
    assert message in str(caught.value)


def test_the_entries_that_decided_are_kept():
    """For the report."""
    choice = choose_bits(NAMES, (2, 2), ["first:input"], ["*:weight:4"])["stem"]
    assert choice.entries == ("layer_bits *:weight:4", "keep_float first:input")


def test_float_contradicts_nothing():
    """Of a layer that keep_float names, which stays the reason, and of one that cannot be quantized."""
    found = choose_bits(NAMES, (2, 2), ["first"], ["stem:weight:32", "head:32"], fixed=("head",))
    assert found["stem"].bits == found["head"].bits == (32, 32)
    assert found["stem"].entries == ("keep_float first", "keep_float first")


def test_a_width_that_a_method_lacks_is_told_with_the_entry():
    """That of the network without one."""
    method = methods.method("fp")
    for bits, entries, message in (
        ((32, 32), ["stem:weight:3"], "^layer_bits stem:weight:3: has no 3-bit weights"),
        ((32, 32), ["stem:3", "head:input:4"], "^layer_bits stem:3: has no 3-bit weights"),
        ((4, 32), ["stem:weight:3"], "^has no 4-bit weights"),
    ):
        with pytest.raises(ValueError, match=message):
            check_choices(method, bits, choose_bits(NAMES, bits, (), entries))
    check_choices(methods.method("ste"), (2, 2), choose_bits(NAMES, (2, 2), ["first"], ["head:8"]))
