"""Networks of torchvision and timm: what they are, and which names are taken."""

import sys
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn

from qexp.models.library_networks import check_network_name, network_names, timm_network, torchvision_network
from qexp.utils.errors import UsageError

# One of each kind that needs something of its own.
TORCHVISION = ("efficientnet_b0", "regnet_y_400mf", "vit_b_32", "maxvit_t", "googlenet", "mnasnet0_5", "swin_t")
TIMM = ("test_resnet", "test_vit", "test_efficientnet")
BUILD = {"torchvision": torchvision_network, "timm": timm_network}


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("network", ["shufflenet_v2_x0_5", "squeezenet1_1", "regnet_y_400mf"])
def test_a_network_of_torchvision_is_torchvisions_with_the_weights_that_it_draws(network: str) -> None:
    torch.manual_seed(3)
    expected = torchvision.models.get_model(network, num_classes=7).state_dict()
    torch.manual_seed(3)
    found = torchvision_network(7, 3, 224, network=network).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("network", TIMM)
def test_a_network_of_timm_is_timms_with_the_weights_that_it_draws(network: str) -> None:
    size = timm.get_pretrained_cfg(network).input_size[-1]
    torch.manual_seed(3)
    expected = timm.create_model(network, num_classes=7, in_chans=1).state_dict()
    torch.manual_seed(3)
    found = timm_network(7, 1, size, network=network).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("library", "network"),
    [*(("torchvision", name) for name in TORCHVISION), *(("timm", name) for name in TIMM)],
)
def test_it_takes_the_images_of_the_data_set_and_is_the_same_without_memory(library: str, network: str) -> None:
    """RegNets work out their widths with tensors, which have to have values under torch.device("meta") too."""
    with torch.device("meta"):
        model = BUILD[library](7, 1, 224, network=network).train()
        assert all(value.is_meta for value in model.state_dict().values())
        assert model(torch.empty(2, 1, 224, 224)).shape == (2, 7)
    assert shapes(model) == shapes(BUILD[library](7, 1, 224, network=network))


@pytest.mark.thorough
@pytest.mark.parametrize("network", network_names("torchvision"))
def test_every_network_of_torchvision_takes_other_classes_and_channels(network: str) -> None:
    with torch.device("meta"):
        assert torchvision_network(7, 2, 224, network=network)(torch.empty(2, 2, 224, 224)).shape == (2, 7)


@pytest.mark.parametrize(("library", "network"), [("torchvision", "vit_b_32"), ("timm", "test_vit")])
def test_a_network_with_positions_is_made_for_the_size_of_the_images(library: str, network: str) -> None:
    with torch.device("meta"):
        assert BUILD[library](7, 3, 64, network=network)(torch.empty(2, 3, 64, 64)).shape == (2, 7)


def test_published_weights_of_inception_take_images_as_torchvision_does() -> None:
    with torch.device("meta"):
        random, pretrained = (torchvision_network(7, 3, 299, network="inception_v3", pretrained=p) for p in (None, "x"))
    assert (random.transform_input, pretrained.transform_input) == (False, True)


@pytest.mark.parametrize(
    ("library", "network", "said"),
    [
        ("torchvision", "efficientnetb0", "torchvision has no such classification network (near it: efficientnet_b0,"),
        ("timm", "resnet5O", "timm has no such classification network (near it: resnet50, "),
        ("timm", "resnet50.a1_in1k", "; model.network=resnet50 model.pretrained=a1_in1k names weights of it"),
        ("torchvision", "fcn_resnet50", "no such classification network"),  # which segments
        ("torchvision", "list_models", "no such classification network"),
        ("torchvision", "ResNet18", "near it: resnet18"),
        *(
            ("timm", name, "timm has no such classification network")
            for name in ("hf-hub:timm/resnet18", "hf_hub:timm/resnet18.a1_in1k", "local-dir:/tmp", "timm/resnet18", "")
        ),
    ],
)
def test_a_name_is_a_word_in_the_list_or_refused(
    library: str, network: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        pytest.fail("the library was asked")

    monkeypatch.setattr(timm, "create_model", fail)
    monkeypatch.setattr(torchvision.models, "get_model", fail)
    for action in (
        lambda: check_network_name(library, network),
        lambda: BUILD[library](7, 3, 64, network=network),
    ):
        with pytest.raises(UsageError) as caught:
            action()
        assert str(caught.value).startswith(f"model.network={network}: ")
        assert said in str(caught.value)


def test_without_timm_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    actions: list[Callable[[], object]] = [
        lambda: network_names("timm"),
        lambda: timm_network(7, 3, 64, network="resnet18"),
    ]
    for action in actions:
        with pytest.raises(UsageError, match=r"^model=timm: timm is not installed \(pip install 'qexp\[timm\]'\)$"):
            action()
