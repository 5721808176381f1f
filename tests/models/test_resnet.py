"""ResNets with the layout of torchvision's."""

import torch
import torchvision

from qexp.models.resnet import resnet18
from support.shapes import outputs, parameters


def test_resnet18_keeps_small_images_large_and_shrinks_large_ones() -> None:
    small, large = resnet18(10, 3, 32, width=0.1), resnet18(10, 3, 65, width=0.1)
    kind = torchvision.models.resnet.BasicBlock
    assert [shape[2] for shape in outputs(small, kind, torch.randn(1, 3, 32, 32))] == [32, 32, 16, 16, 8, 8, 4, 4]
    assert [shape[2] for shape in outputs(large, kind, torch.randn(1, 3, 224, 224))] == [56, 56, 28, 28, 14, 14, 7, 7]
    assert set(small.state_dict()) == set(large.state_dict())


def test_resnet18_for_cifar_has_the_known_number_of_parameters() -> None:
    # 11,689,512 (torchvision) - 513,000 + 5,130 (classifier) - 9,408 + 1,728 (stem).
    assert parameters(resnet18(10, 3, 32)) == 11_173_962
