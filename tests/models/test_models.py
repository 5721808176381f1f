"""The float networks: equal to their references, and fit for every image size."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from hydra.utils import get_method
from omegaconf import OmegaConf
from torch import Tensor, nn

from qexp.config.schema import parse
from qexp.models.mobilenet import mobilenetv2
from qexp.models.resnet import resnet18, resnet34
from qexp.models.resnet_cifar import ZeroPadShortcut, resnet20, resnet20_daq
from qexp.models.widths import scaled

CONF = Path(__file__).parents[2] / "conf" / "model"
MODELS = [resnet18, resnet34, mobilenetv2, resnet20, resnet20_daq]
OURS = {"resnet18": resnet18, "resnet34": resnet34, "mobilenet_v2": mobilenetv2}  # torchvision's name -> our network


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def outputs(model: nn.Module, kind: type[nn.Module], x: Tensor) -> list[tuple[int, ...]]:
    """Shapes of the outputs of all modules of one kind."""
    shapes: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, kind):
            module.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape)))
    model.eval()(x)
    return shapes


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


def test_resnet18_keeps_small_images_large_and_shrinks_large_ones() -> None:
    small, large = resnet18(10, 3, 32, width=0.1), resnet18(10, 3, 65, width=0.1)
    kind = torchvision.models.resnet.BasicBlock
    assert [shape[2] for shape in outputs(small, kind, torch.randn(1, 3, 32, 32))] == [32, 32, 16, 16, 8, 8, 4, 4]
    assert [shape[2] for shape in outputs(large, kind, torch.randn(1, 3, 224, 224))] == [56, 56, 28, 28, 14, 14, 7, 7]
    assert set(small.state_dict()) == set(large.state_dict())


def test_resnet18_for_cifar_has_the_known_number_of_parameters() -> None:
    # 11,689,512 (torchvision) - 513,000 + 5,130 (classifier) - 9,408 + 1,728 (stem).
    assert parameters(resnet18(10, 3, 32)) == 11_173_962


def test_mobilenetv2_strides() -> None:
    kind = torchvision.models.mobilenetv2.InvertedResidual
    small = outputs(mobilenetv2(10, 3, 32, width=0.1), kind, torch.randn(1, 3, 32, 32))
    large = outputs(mobilenetv2(10, 3, 224, width=0.1), kind, torch.randn(1, 3, 224, 224))
    assert [shape[2] for shape in small] == [32] * 3 + [16] * 3 + [8] * 7 + [4] * 4
    assert [shape[2] for shape in large] == [112] + [56] * 2 + [28] * 3 + [14] * 7 + [7] * 4


def test_mobilenetv2_passes_dropout_on() -> None:
    assert mobilenetv2(10, 3, 32, dropout=0.35).classifier[0].p == 0.35


def test_mobilenetv2_stem_for_other_channels_has_the_same_spread_of_weights() -> None:
    stem = mobilenetv2(10, 1, 224, width=4.0).features[0][0]
    fan_out = stem.out_channels * 9
    assert stem.weight.shape[1] == 1
    assert stem.stride == (2, 2)
    assert stem.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


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


def test_scaled_rounds_and_never_reaches_zero() -> None:
    assert [scaled(16, width) for width in (1.0, 0.5, 0.1, 0.01, 1.25)] == [16, 8, 2, 1, 20]


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_yaml_files_hold_every_option_and_build_the_model_they_are_named_after(path: Path) -> None:
    config = OmegaConf.create({"recipe": {"width": 0.25}, "model": OmegaConf.load(path)})
    options = OmegaConf.to_container(config, resolve=True)["model"]
    target = get_method(options.pop("_target_"))
    assert options.pop("name") == path.stem == target.__name__
    values = parse(target, options)
    assert values == {"width": 0.25, **({"dropout": 0.2} if path.stem == "mobilenetv2" else {})}
    assert target(10, 3, 32, **values)(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_every_model_has_a_yaml_file() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == {build.__name__ for build in MODELS}
