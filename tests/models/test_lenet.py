"""LeNet-5 against a literal forward, and its parameters worked out by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from qexp.models.lenet import lenet5
from support.commands import Qexp, refused
from support.shapes import outputs, parameters


def test_lenet5_has_the_parameters_of_its_description() -> None:
    """28 pixels become 24, 12, 8 and 4, so that the hidden layer sees 64 * 4 * 4 = 1024 numbers."""
    convolutions = (32 * 25 + 32) + (64 * 32 * 25 + 64)
    assert parameters(lenet5(10, 1, 28)) == convolutions + (1024 * 512 + 512) + (512 * 10 + 10) == 582_026


@pytest.mark.parametrize(("size", "sides"), [(28, (24, 8)), (16, (12, 2)), (19, (15, 3))])
def test_feature_maps(size: int, sides: tuple[int, int]) -> None:
    model, x = lenet5(10, 3, size, width=0.125), torch.randn(2, 3, size, size)
    first, second = sides
    assert outputs(model, nn.Conv2d, x) == [(2, 4, first, first), (2, 8, second, second)]


def test_it_equals_a_literal_forward() -> None:
    model = lenet5(10, 1, 28, width=0.25)
    weights = model.state_dict()
    x = torch.randn(3, 1, 28, 28)
    y = x
    for key in ("conv1", "conv2"):
        y = functional.max_pool2d(torch.conv2d(y, weights[f"{key}.weight"], weights[f"{key}.bias"]), 2).relu()
    y = (y.reshape(3, 16 * 4 * 4) @ weights["fc1.weight"].T + weights["fc1.bias"]).relu()
    expected = y @ weights["fc2.weight"].T + weights["fc2.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


def test_it_starts_from_kaiming_normal_weights() -> None:
    model = lenet5(10, 1, 28)
    layers = {model.conv1: 25, model.conv2: 32 * 25, model.fc1: 1024, model.fc2: 512}
    for layer, inputs in layers.items():
        assert layer.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.1)
        assert not layer.bias.any()


def test_it_trains_at_any_width() -> None:
    model = lenet5(7, 1, 16, width=0.01)
    model(torch.randn(4, 1, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_images_of_which_nothing_is_left_are_refused() -> None:
    assert lenet5(10, 1, 16)(torch.randn(2, 1, 16, 16)).shape == (2, 10)
    with pytest.raises(ValueError, match=r"^needs images of 16x16 pixels or more, not 15x15$"):
        lenet5(10, 1, 15)


@pytest.mark.parametrize(("model", "size", "least"), [("lenet5", 8, 16), ("lenet5", 15, 16), ("vgg7", 7, 8)])
def test_too_small_images_are_one_line_before_anything_starts(qexp: Qexp, model: str, size: int, least: int) -> None:
    (said,) = refused(qexp, "dataset=synthetic", f"dataset.image_size={size}", f"model={model}", "recipe.crop=0")
    why = f"needs images of {least}x{least} pixels or more, not {size}x{size}"
    assert said == f"model={model} with model.width=0.25: cannot be built ({why})"
