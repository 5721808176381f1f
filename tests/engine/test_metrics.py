"""The count of right answers against a loop, and evaluation."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qexp.engine.metrics import Tally, measure_accuracy
from support.fitting import Fixed


def test_tally_counts_like_a_loop():
    """Top-1 and top-5 of uneven batches, in percent; means weighted by images."""
    generator = torch.Generator().manual_seed(0)
    tally, hits1, hits5, losses = Tally(torch.device("cpu")), 0, 0, []
    for count in (7, 3):
        logits = torch.randn(count, 9, generator=generator)
        labels = torch.randint(0, 9, (count,), generator=generator)
        tally.add(logits, labels, F.cross_entropy(logits, labels), 2.0)
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
            order = sorted(range(9), key=lambda k: -row[k])
            hits1 += order[0] == label
            hits5 += label in order[:5]
            losses.append(-math.log(math.exp(row[label]) / sum(map(math.exp, row))))
    metrics, penalty = tally.read()
    assert (metrics.top1, metrics.top5, metrics.images) == pytest.approx((10 * hits1, 10 * hits5, 10))
    assert metrics.loss == pytest.approx(sum(losses) / 10, rel=1e-5)
    assert penalty == pytest.approx(2.0)


def test_top5_of_three_classes_counts_all():
    """Fewer than five classes: every label is among the first five."""
    tally = Tally(torch.device("cpu"))
    tally.add(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.tensor(1.0))
    assert tally.read()[0].top5 == pytest.approx(100)


def test_evaluate_uses_running_statistics_and_restores_the_mode():
    """Batch norm in evaluation mode; the model is left as it was."""
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)).train()
    before = copy.deepcopy(model.state_dict())
    metrics = measure_accuracy(model, Fixed().epoch(0))
    assert model.training
    assert metrics.images == 15
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_evaluation_is_never_compiled():
    """Fused operations round otherwise, and one network has one accuracy; training is compiled as before."""
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    model.compile(backend=backend)
    images, labels = torch.randn(4, 3, 2, 2), torch.zeros(4, dtype=torch.long)
    measure_accuracy(model, [(images, labels)])
    assert graphs == []
    model.train()(images)
    assert len(graphs) == 1


def test_the_loss_does_not_hang_on_the_size_of_a_batch():
    logits = torch.randn(60, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 7
    found = [
        measure_accuracy(nn.Identity(), list(zip(logits.split(size), labels.split(size), strict=True))).loss
        for size in (1, 7, 60)
    ]
    assert found == pytest.approx([found[0]] * 3, rel=1e-15)
