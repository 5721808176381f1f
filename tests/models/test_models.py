"""The float networks: equal to their references, and fit for every image size."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from hydra.utils import get_method
from omegaconf import OmegaConf
from torch import nn

from qexp.config.identity import LIBRARIES
from qexp.config.schema import parse
from qexp.models.lenet import lenet5
from qexp.models.mobilenet import mobilenetv2
from qexp.models.resnet import resnet18, resnet34
from qexp.models.resnet_cifar import resnet20, resnet20_daq
from qexp.models.vgg import vgg7
from support.shapes import parameters

CONF = Path(__file__).parents[2] / "conf" / "model"
MODELS = [resnet18, resnet34, mobilenetv2, resnet20, resnet20_daq, vgg7]  # lenet5 needs 16 pixels: test_lenet.py
OURS = {"resnet18": resnet18, "resnet34": resnet34, "mobilenet_v2": mobilenetv2}  # torchvision's name -> our network


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", OURS)
def test_imagenet_models_equal_torchvision_with_its_weights(name: str) -> None:
    reference = getattr(torchvision.models, name)().eval()
    ours = OURS[name](1000, 3, 224).eval()
    assert parameters(ours) == parameters(reference)
    ours.load_state_dict(reference.state_dict(), strict=True)
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(ours(x), reference(x))


@pytest.mark.parametrize("name", OURS)
def test_imagenet_models_start_from_the_weights_that_torchvision_draws(name: str) -> None:
    torch.manual_seed(1)
    expected = getattr(torchvision.models, name)().state_dict()
    torch.manual_seed(1)
    for key, value in OURS[name](1000, 3, 224).state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_imagenet_models_have_the_known_numbers_of_parameters() -> None:
    """As torchvision's documentation gives them."""
    expected = {"resnet18": 11_689_512, "resnet34": 21_797_672, "mobilenet_v2": 3_504_872}
    with torch.device("meta"):
        assert {name: parameters(build(1000, 3, 224)) for name, build in OURS.items()} == expected


@pytest.mark.parametrize("build", MODELS)
@pytest.mark.parametrize(("channels", "size", "width"), [(1, 8, 0.01), (3, 32, 0.13), (1, 28, 0.5), (3, 65, 0.1)])
def test_every_model_trains_at_any_size_and_width(
    build: Callable[..., nn.Module], channels: int, size: int, width: float
) -> None:
    """All parameters get a finite gradient, so none is cut off from the loss."""
    model = build(7, channels, size, width=width).train()
    logits = model(torch.randn(4, channels, size, size))
    assert logits.shape == (4, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_yaml_files_hold_every_option_and_build_the_model_they_are_named_after(path: Path) -> None:
    config = OmegaConf.create({"recipe": {"width": 0.25}, "model": OmegaConf.load(path)})
    options = OmegaConf.to_container(config, resolve=True)["model"]
    target = get_method(options.pop("_target_"))
    if path.stem in LIBRARIES:  # which stand for many networks
        assert options.pop("name") == f"{path.stem}-{options['network']}"
        assert parse(target, options) == {"network": "efficientnet_b0", "pretrained": None}
        return
    assert options.pop("name") == path.stem == target.__name__
    values = parse(target, options)
    assert values == {"width": 0.25, **({"dropout": 0.2} if path.stem == "mobilenetv2" else {})}
    assert target(10, 3, 32, **values)(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_every_model_has_a_yaml_file() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == {build.__name__ for build in (*MODELS, lenet5)} | set(
        LIBRARIES
    )
