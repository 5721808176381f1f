"""SRQ and CPQ against vectors of an independent implementation (tests/golden/family_public.npz), and by themselves."""

import pytest
import torch

from qexp.quantizers.srq import semi_relaxed, semi_relaxed_plain
from support.family import family

CASES = family("srq")
BACKWARD = ("mode", "all")


def leaves(case, dtype):
    """(x, alpha, sigma, beta) of a recorded case."""
    return [torch.tensor(case[name], dtype=dtype, requires_grad=True) for name in ("x", "alpha", "sigma", "beta")]


def on_shifted_grid(function, case, dtype, backward):
    """y and the gradients of x, alpha, sigma and beta on the points alpha k + beta; ours have beta = 0.

    Shifting x and y is all for the mean of the grid; under `mode` beta multiplies the chosen probability besides.
    """
    x, alpha, sigma, beta = leaves(case, dtype)
    ends = (float(case["k"][0]), float(case["k"][-1]))
    y = function(x - beta, alpha, sigma, *ends, backward=backward) + beta
    if backward == "mode" and case["beta"]:
        points = torch.arange(ends[0], ends[1] + 1, dtype=dtype)
        l = sum(  # noqa: E741
            torch.nn.functional.logsigmoid((alpha / 2 + sign * (alpha * points - (x - beta)[:, None])) / sigma)
            for sign in (1, -1)
        )
        chosen = torch.softmax(l, -1).amax(-1)
        y = y + beta.detach() * (chosen - chosen.detach())
    y.backward(torch.tensor(case["go"], dtype=dtype))
    return [y.detach(), *(leaf.grad for leaf in (x, alpha, sigma, beta))]


@pytest.mark.parametrize("backward", BACKWARD)
@pytest.mark.parametrize("function", [semi_relaxed, semi_relaxed_plain])
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_recorded_values_and_gradients_in_double(case, function, backward):
    found = on_shifted_grid(function, case, torch.float64, backward)
    expected = [case["y"], *(case[f"{name}_{backward}"] for name in ("gx", "galpha", "gsigma", "gbeta"))]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, torch.tensor(theirs), rtol=1e-9, atol=1e-9)
