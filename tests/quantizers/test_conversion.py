"""Models of others stay what they are when their layers are quantized, or it is said why they cannot be."""

import copy
import importlib.util

import pytest
import torch
from torch import nn
from torchvision import models

from qexp.quantizers import QuantLayer, check_conversion

# name -> options, size of an image
TORCHVISION = {
    "mobilenet_v2": ({}, 32),
    "mobilenet_v3_small": ({}, 32),
    "resnet50": ({}, 32),
    "efficientnet_b0": ({}, 32),
    "convnext_tiny": ({}, 32),
    "vit_b_16": ({"image_size": 32}, 32),
    "swin_t": ({}, 32),
}
# name -> options, size of an image, how many layers are left float
TIMM = {
    "tf_efficientnetv2_b0": ({}, 32, 0),
    "vit_tiny_patch16_224": ({"img_size": 32}, 32, 0),
    "swin_tiny_patch4_window7_224": ({"img_size": 56}, 56, 0),
    "convnext_atto": ({}, 32, 0),
    "nf_regnet_b0": ({}, 32, 54),
    "resnetv2_50x1_bit": ({}, 32, 53),
    "regnetx_002": ({}, 32, 0),
    "mixer_s32_224": ({"img_size": 64}, 64, 0),
    "levit_128s": ({"img_size": 64}, 64, 0),
    "ghostnet_100": ({}, 32, 0),
    "repvgg_a0": ({}, 32, 0),
    "densenet121": ({}, 32, 0),
    "hrnet_w18_small": ({}, 64, 0),
    "xcit_nano_12_p16_224": ({"img_size": 32}, 32, 0),
    "mvitv2_tiny": ({"img_size": 64}, 64, 0),
}


def images(size):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [name for name in TORCHVISION if name != "swin_t"])
def test_networks_of_torchvision_are_what_they_were(name):
    """To 1e-5 of the largest output, in training and in evaluation; every quantizer is asked."""
    options, size = TORCHVISION[name]
    torch.manual_seed(0)
    found = check_conversion(getattr(models, name)(num_classes=10, **options), images(size))
    assert found.problem == ""
    assert found.largest > 0.01
    left = {one.reason for one in found.coverage.left_float}
    expected = {"nn.MultiheadAttention multiplies by its weight without calling it"} if name == "vit_b_16" else set()
    assert left == expected


def test_a_network_that_passes_weights_to_functions_is_refused():
    """torchvision's Swin multiplies by the weights of two layers of each attention without calling the layers."""
    torch.manual_seed(0)
    model, x = models.swin_t(num_classes=10), images(32)
    assert "features.1.0.attn.qkv, features.1.0.attn.proj" in check_conversion(model, x).problem
    found = check_conversion(model, x, keep_float=["*.qkv", "*.proj"])
    assert found.problem == ""
    assert len(found.coverage.left_float) == 24


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm_are_what_they_were(name):
    """Families of all kinds; of two of them most layers standardize their weight and stay float, which is said."""
    import timm

    options, size, left = TIMM[name]
    torch.manual_seed(0)
    found = check_conversion(timm.create_model(name, num_classes=10, **options), images(size))
    assert found.problem == ""
    assert found.largest > 0.001
    assert len(found.coverage.left_float) == left
    assert len(found.coverage.quantized) + left >= 30
    assert all("StdConv2d.forward changes its weight" in one.reason for one in found.coverage.left_float)


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_networks_of_timm_that_pass_weights_to_functions_are_refused():
    """EVA multiplies by the weight of qkv with a bias that the layer does not have."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model("eva02_tiny_patch14_224", num_classes=10, img_size=28, depth=2)
    found = check_conversion(model, images(28))
    assert found.problem.startswith("blocks.0.attn.qkv, blocks.1.attn.qkv: never asked")
    assert check_conversion(model, images(28), keep_float=["*.qkv"]).problem == ""


def test_the_model_that_is_asked_about_stays_as_it_is():
    """Parameters, statistics, mode, classes, and torch's random numbers."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(4 * 36, 2)
    ).eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert check_conversion(model, images(8)).problem == ""
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(isinstance(module, QuantLayer) or module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


class Sees(nn.Module):
    """A model whose result hangs on what its layer is."""

    def __init__(self, what):
        super().__init__()
        self.layer, self.what = nn.Linear(3, 3), what

    def forward(self, x):
        return self.what(self.layer, self.layer(x))


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        (lambda layer, y: y + (type(layer) is nn.Linear), "outputs differ by 1"),
        (lambda layer, y: y[: 2 - (type(layer) is nn.Linear)], "outputs differ by inf"),
        (lambda layer, y: y / (type(layer) is nn.Linear), "outputs differ by inf"),
        (lambda layer, y: {"y": [y, (y + len(list(layer.children())),)]}, "outputs differ by 2"),
        (lambda layer, y: y if type(layer) is nn.Linear else y.nothing, "AttributeError"),
        (lambda layer, y: 1e-7 * y * (1 + (type(layer) is nn.Linear)), "outputs differ by"),
        (lambda layer, y: torch.complex(y, y + (type(layer) is nn.Linear)), "outputs differ by 1"),
        (lambda layer, y: y, ""),
    ],
)
def test_a_model_that_becomes_another_one_is_told(what, problem):
    """Other values, shapes, infinities, in whatever holds the outputs; and errors."""
    assert check_conversion(Sees(what), torch.ones(2, 3)).problem.startswith(problem)


def test_what_lies_behind_weights_of_zero_is_seen():
    """Many last layers begin at zero, and would hide everything before them."""
    model = Sees(lambda layer, y: y + (type(layer) is nn.Linear))
    last = nn.Linear(3, 2)
    nn.init.zeros_(last.weight)
    assert check_conversion(nn.Sequential(model, last), torch.ones(2, 3)).problem.startswith("outputs differ")
