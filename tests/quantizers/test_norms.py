"""Batch-norm statistics estimated again are plain averages of the hard network's, and can be put back."""

import copy

import pytest
import torch
from torch import nn

from qexp import quantizers
from qexp.quantizers import has_running_statistics, kept_norms, reestimate_norms
from support import methods


def network(name="dqa"):
    convolutions = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3), nn.Dropout(0.5), nn.BatchNorm2d(5)]
    model = nn.Sequential(*convolutions, nn.Conv2d(5, 2, 1), nn.Flatten(), nn.LazyLinear(3))
    model(torch.randn(2, 3, 8, 8))
    quantizers.quantize(model, methods.method(name), weight_bits=2, activation_bits=2)
    quantizers.calibrate(model, torch.randn(4, 3, 8, 8))
    return model


def batches():
    return torch.randn(3, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1)).unbind()


@pytest.mark.parametrize("name", ["dqa", "daq"])
def test_statistics_are_the_average_over_the_batches_of_the_hard_network(name):
    model = network(name)
    literal = copy.deepcopy(model).eval()
    reestimate_norms(model, batches())
    means, variances = [], []
    with torch.no_grad():
        for images in batches():
            x = literal[0](images)
            means.append(x.mean((0, 2, 3)))
            variances.append(x.var((0, 2, 3)))
    torch.testing.assert_close(model[1].running_mean, torch.stack(means).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.stack(variances).mean(0))
    assert int(model[1].num_batches_tracked) == 3
    assert not any(module.training for module in model.modules())
    assert [norm.momentum for norm in (model[1], model[4])] == [0.1, 0.1]


def test_what_comes_later_sees_what_is_normalized_by_its_batch():
    """The second one's input depends on the first one in training mode, and on nothing dropped."""
    model = network("ste")
    literal = copy.deepcopy(model).eval()
    literal[1].train()
    reestimate_norms(model, batches()[:1])
    with torch.no_grad():
        x = literal[:4](batches()[0])
    torch.testing.assert_close(model[4].running_mean, x.mean((0, 2, 3)))


def test_nothing_else_changes_and_all_is_put_back():
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    with kept_norms(model):
        reestimate_norms(model, batches())
        changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
        kinds = ("running_mean", "running_var", "num_batches_tracked")
        assert sorted(changed) == sorted(f"{norm}.{kind}" for norm in (1, 4) for kind in kinds)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(ZeroDivisionError), kept_norms(model):
        reestimate_norms(model, (images / 1 if i < 1 else 1 / 0 for i, images in enumerate(batches())))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model[1].momentum == 0.1
    assert not model[1].training


def test_not_every_network_has_statistics():
    assert has_running_statistics(network())
    assert not has_running_statistics(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)))


def test_instance_norms_keep_their_statistics():
    """torch takes a momentum of None for 0 there, which would leave a mean of 0 and a variance of 1."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), nn.BatchNorm2d(3))
    images = torch.randn(6, 3, 4, 4) * 3 + 2
    model.train()(images)
    before = model[0].running_mean.clone()
    reestimate_norms(model, [images])
    assert torch.equal(model[0].running_mean, before)
    assert before.abs().min() > 0.1
