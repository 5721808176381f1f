"""The ResNet-20s of the CIFAR papers against a literal forward."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from qexp.models.resnet_cifar import ZeroPadShortcut, resnet20, resnet20_daq
from support.shapes import parameters


def test_resnet20_has_the_number_of_parameters_of_the_paper() -> None:
    """0.27M in table 6 of the paper; 269,722 in akamaster's implementation."""
    assert parameters(resnet20(10, 3, 32)) == 269_722


def test_resnet20_daq_has_the_authors_parameters_without_their_unused_ones() -> None:
    """The authors' 269,850 hold 32 of a batch normalisation that they never apply."""
    model = resnet20_daq(10, 3, 32)
    assert parameters(model) == 269_850 - 32
    assert isinstance(model.bn2, nn.BatchNorm1d)
    assert not any(key.startswith("bn1") for key in model.state_dict())


@pytest.mark.parametrize("build", [resnet20, resnet20_daq])
def test_cifar_resnets_equal_a_literal_forward(build: Callable[..., nn.Module]) -> None:
    model = build(10, 3, 32, width=0.5).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    weights = model.state_dict()
    x = torch.randn(2, 3, 32, 32)

    def norm(y: Tensor, key: str) -> Tensor:
        shape = (1, -1) + (1,) * (y.dim() - 2)
        mean, var, scale, shift = (
            weights[f"{key}.{part}"].view(shape) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / (var + 1e-5).sqrt() * scale + shift

    y = torch.conv2d(x, weights["conv1.weight"], padding=1)
    y = (norm(y, "bn1") if build is resnet20 else y).relu()
    for stage in (1, 2, 3):
        for block in range(3):
            key = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            z = torch.conv2d(y, weights[f"{key}.conv1.weight"], stride=stride, padding=1)
            z = torch.conv2d(norm(z, f"{key}.bn1").relu(), weights[f"{key}.conv2.weight"], padding=1)
            if stride == 2:
                zeros = torch.zeros_like(z)
                quarter = z.shape[1] // 4
                zeros[:, quarter : 3 * quarter] = y[:, :, ::2, ::2]
                y = zeros
            y = (norm(z, f"{key}.bn2") + y).relu()
    features = y.mean((2, 3))
    features = norm(features, "bn2") if build is resnet20_daq else features
    expected = features @ weights["linear.weight"].T + weights["linear.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("inputs", "outputs_"), [(16, 32), (3, 6), (1, 2), (5, 10), (2, 5), (4, 4)])
def test_shortcut_centres_the_old_channels(inputs: int, outputs_: int) -> None:
    x = torch.rand(2, inputs, 7, 8) + 1
    y = ZeroPadShortcut(inputs, outputs_)(x)
    before = (outputs_ - inputs) // 2
    assert y.shape == (2, outputs_, 4, 4)
    assert torch.equal(y[:, before : before + inputs], x[:, :, ::2, ::2])
    assert y.count_nonzero() == x[:, :, ::2, ::2].numel()


def test_cifar_resnet_starts_from_kaiming_normal_weights() -> None:
    model = resnet20(10, 3, 32)
    assert model.layer3[2].conv2.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert model.linear.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.1)
