"""VGG-7 against a literal forward, and its parameters worked out by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from qexp.models.vgg import vgg7
from support.shapes import outputs, parameters


def test_vgg7_has_the_parameters_of_its_description() -> None:
    """32 pixels become 16, 8 and 4: 512 * 4 * 4 = 8192 numbers; batch norm has two for each channel."""
    pairs = ((3, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512))
    convolutions = sum(9 * inputs * outputs + 2 * outputs for inputs, outputs in pairs)
    assert parameters(vgg7(10, 3, 32)) == convolutions + (8192 * 1024 + 1024) + (1024 * 10 + 10) == 12_978_058


@pytest.mark.parametrize(("size", "sides"), [(32, (32, 16, 8)), (15, (15, 7, 3)), (8, (8, 4, 2))])
def test_feature_maps(size: int, sides: tuple[int, ...]) -> None:
    found = outputs(vgg7(10, 3, size, width=0.125), nn.Conv2d, torch.randn(2, 3, size, size))
    shapes = [(2, planes, side, side) for planes, side in zip((16, 32, 64), sides, strict=True)]
    assert found == [shape for shape in shapes for _ in range(2)]


def test_it_equals_a_literal_forward() -> None:
    model = vgg7(10, 3, 17, width=0.125).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    weights = model.state_dict()

    def norm(y: Tensor, key: str) -> Tensor:
        mean, var, scale, shift = (
            weights[f"{key}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / (var + 1e-5).sqrt() * scale + shift

    x = torch.randn(2, 3, 17, 17)
    y = x
    for pair in ("pair1", "pair2", "pair3"):
        for place in (0, 3):
            y = torch.conv2d(y, weights[f"{pair}.{place}.weight"], padding=1)
            y = norm(y, f"{pair}.{place + 1}").relu()
        y = functional.max_pool2d(y, 2)
    y = (y.reshape(2, 64 * 2 * 2) @ weights["fc1.weight"].T + weights["fc1.bias"]).relu()
    expected = y @ weights["fc2.weight"].T + weights["fc2.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


def test_its_convolutions_start_from_kaiming_normal_weights_and_its_linear_layers_as_torch_makes_them() -> None:
    """Uniform within 1 / sqrt(inputs), whose standard deviation is that by sqrt(3)."""
    model = vgg7(10, 3, 32, width=0.25)
    assert model.pair3[3].weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.1)
    for layer, inputs in {model.fc1: 128 * 16, model.fc2: 256}.items():
        assert layer.weight.std().item() == pytest.approx((3 * inputs) ** -0.5, rel=0.1)
        assert layer.weight.abs().max() <= inputs**-0.5


def test_images_of_which_nothing_is_left_are_refused() -> None:
    assert vgg7(10, 1, 8, width=0.1)(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(ValueError, match=r"^needs images of 8x8 pixels or more, not 7x7$"):
        vgg7(10, 1, 7)
