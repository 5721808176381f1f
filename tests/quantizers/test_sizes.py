"""What a method is told of each layer, and what it may do to a weight: the contract beside that of values."""

import pytest
import torch
from torch import nn

from qexp.quantizers import LayerInfo, anneal, quantize
from qexp.quantizers.sizes import LayerSize, layer_sizes
from qexp.utils.types import Progress
from support.random_method import Chance


class Net(nn.Module):
    """A convolution in groups with a stride, a transposed one, and a linear layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.up = nn.ConvTranspose2d(6, 3, 2, stride=2)
        self.linear = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.up(self.norm(self.conv(x)))).mean((2, 3))
        return self.linear(self.linear(x))


EXPECTED = {
    "conv": LayerSize(4 * 8 * 8, 6 * 4 * 4 * (2 * 3 * 3)),
    "up": LayerSize(6 * 4 * 4, 6 * 4 * 4 * (3 * 2 * 2)),
    "linear": LayerSize(2 * 3, 2 * 3 * 3),
}


@pytest.mark.parametrize("images", [1, 3])
def test_sizes_are_those_of_one_sample_and_nothing_changes(images: int) -> None:
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = {name: getattr(model, name) for name in EXPECTED}
    assert layer_sizes(model, layers, torch.randn(images, 4, 8, 8)) == EXPECTED
    assert model.training
    assert model.drop.training
    assert not any(layer._forward_hooks for layer in layers.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_sizes_need_no_memory() -> None:
    with torch.device("meta"):
        model = Net()
        found = layer_sizes(model, {"conv": model.conv}, torch.empty(1, 4, 8, 8))
    assert found == {"conv": EXPECTED["conv"]}


def test_a_method_is_told_where_its_quantizers_are() -> None:
    method = Chance([])
    quantize(Net(), method, weight_bits=4, activation_bits=4, keep_float=[], sample=torch.zeros(1, 4, 8, 8))
    made = [info for info in method.made if info.layers > 1]  # without the trial of the bit-widths
    weights = (6 * 2 * 9, 6 * 3 * 4, 9)
    shapes = ((6, 2, 3, 3), (6, 3, 2, 2), (3, 3))
    channels = ((6, 1, 1, 1), (1, 3, 1, 1), (3, 1))
    assert made == [
        LayerInfo(own, sum(weights), 3, channel, index, shape, *EXPECTED[name])
        for index, (name, own, shape, channel) in enumerate(zip(EXPECTED, weights, shapes, channels, strict=True))
    ]


def test_a_method_that_needs_sizes_needs_a_sample() -> None:
    with pytest.raises(ValueError, match=r"Chance asks how much each layer computes: quantize\(sample=...\) shows it"):
        quantize(Net(), Chance([]), weight_bits=4, activation_bits=4)


def test_a_weight_is_edited_before_the_step_that_the_method_asks_for() -> None:
    model = Net()
    quantize(model, Chance([]), weight_bits=4, activation_bits=32, keep_float=[], sample=torch.zeros(1, 4, 8, 8))
    before = model.conv.weight.detach().clone()
    anneal(model, Progress(2, 10, 0, 1))
    assert torch.equal(model.conv.weight, before)
    anneal(model, Progress(3, 10, 0, 1))
    assert torch.equal(model.conv.weight[0], torch.zeros_like(before[0]))
    assert torch.equal(model.conv.weight[1:], before[1:])
    assert model.conv.weight_quantizer.edits == 1
    assert "conv.weight_quantizer.edits" in model.state_dict()
