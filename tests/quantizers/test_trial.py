"""A bad method is found before it trains."""

from dataclasses import dataclass

import pytest
import torch

from qexp.quantizers import Method, Quantizer, check_method, straight_through
from support import methods


class Sign(Quantizer):
    """Correct, and each defect overrides one thing."""

    def forward(self, x):
        codes, levels = self.codes(x)
        return straight_through(x, levels[codes.long()])

    def codes(self, x):
        return (x.detach() >= 0).to(torch.uint8), torch.tensor([-1.0, 1.0])


def method_of(**defects):
    kind = type("Defect", (Sign,), defects)

    @dataclass(frozen=True)
    class Own(Method):
        def weight(self, bits, layer=None):
            return kind(bits)

        activation = weight

    return Own()


def drawing(when):
    """Return a forward pass that adds noise under a condition, straight-through."""
    return lambda self, x: straight_through(x, Sign.forward(self, x - when(self) * self.noise.exponential(1, x)[0]))


class NoGradient(torch.autograd.Function):
    """Defined, and not finished."""

    @staticmethod
    def forward(ctx, x):
        return x.sign()


def fails(*_):
    raise KeyError("spam")


def test_a_correct_method_passes():
    """Ours at every bit-width that they declare, and the one above."""
    assert check_method(method_of(), 1, 1) is None
    assert check_method(method_of(is_random=True, forward=drawing(lambda own: own.training)), 1, 1) is None
    for name, side, bits in methods.all_sites():
        sides = (bits, 32) if side == "weight" else (32, bits)
        assert check_method(methods.method(name), *sides) is None  # raises where it finds a defect


@pytest.mark.parametrize(
    ("defects", "message"),
    [
        ({"codes": fails, "forward": lambda _, x: x * 1}, r"Defect.codes failed in a trial \(KeyError: 'spam'\)"),
        ({"stats": fails}, "Defect.stats failed"),
        ({"stats": lambda _: {"m": 1.0}}, r"stats\(\)\['m'\] is no tensor"),
        ({"stats": lambda _: [1]}, "stats returned an object of builtins.list"),
        ({"converged": fails}, "Defect.converged failed"),
        ({"bins": fails}, "Defect.bins failed"),
        ({"integer_form": fails}, "Defect.integer_form failed"),
        ({"penalty": fails}, "Defect.penalties failed"),
        ({"anneal": fails}, "Defect.anneal failed"),
        ({"calibrate": fails}, "Defect.calibrate failed"),
        ({"requantize": lambda _, x: torch.randn_like(x)}, "the same values twice"),
        ({"forward": drawing(lambda own: own.training)}, "only with is_random = True"),
        ({"forward": drawing(lambda own: own.is_soft), "is_random": True}, "soft evaluation draws random numbers"),
        ({"forward": lambda _, x: x.detach()}, "passes no gradient"),
        ({"forward": lambda _, x: NoGradient.apply(x)}, r"Defect.forward has no gradient \(You must implement"),
        ({"forward": lambda _, x: x[0]}, "tensor of the shape of its argument"),
        ({"forward": lambda _, x: x * 2}, r"forward is not levels\[codes\]"),
        ({"codes": lambda _, x: (x, x), "forward": lambda _, x: x * 1}, "no uint8 tensor"),
        ({"codes": lambda _, x: x, "forward": lambda _, x: x * 1}, "does not return two tensors"),
        ({"codes": lambda _, x: ((x >= 0).byte(), torch.arange(3.0))}, "one row of at most 2"),
        ({"bits": 3, "__init__": lambda self, bits: Quantizer.__init__(self, 3)}, "bits is 3, not 1"),
    ],
)
def test_each_defect_is_named(defects, message):
    """With the class and the method of it that fails."""
    with pytest.raises(ValueError, match=message):
        check_method(method_of(**defects), 1, 1)
