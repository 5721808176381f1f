"""The loop, the optimizers, the schedules, the metrics and the checkpoints, against literal versions."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qexp.engine.checkpointer import Checkpointer
from qexp.utils.errors import Diverged
from support.fitting import Fixed, run_fit


def test_fit_equals_a_loop_written_out():
    """Momentum SGD with weight decay, cosine per step, label smoothing: the same weights."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    reference = copy.deepcopy(model)
    run_fit(model, label_smoothing=0.1)
    momentum = [torch.zeros_like(p) for p in reference.parameters()]
    for step in range(6):
        images, labels = Fixed().batches[step % 3]
        target = F.one_hot(labels, 3) * 0.9 + 0.1 / 3
        loss = -(target * reference(images).log_softmax(1)).sum(1).mean()
        grads = torch.autograd.grad(loss, list(reference.parameters()))
        rate = 0.1 * 0.5 * (1 + math.cos(math.pi * step / 6))
        with torch.no_grad():
            for parameter, grad, velocity in zip(reference.parameters(), grads, momentum, strict=True):
                velocity.mul_(0.9).add_(grad + 0.01 * parameter)
                parameter -= rate * velocity
    for ours, expected in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_progress_counts_steps_from_one_and_epochs_from_zero():
    """What quantizers anneal by: the last batch of all is step == steps."""
    progress = []
    run_fit(nn.Linear(4, 3), epochs=2, progress=progress)
    assert [(p.step, p.steps, p.epoch, p.epochs) for p in progress] == [
        (step, 6, epoch, 2) for step, epoch in zip(range(1, 7), [0, 0, 0, 1, 1, 1], strict=True)
    ]


def test_observers_see_every_step_and_epoch():
    """Records carry what happened; epochs count from 1 for people."""
    last, seen = run_fit(nn.Linear(4, 3), epochs=2, penalty=lambda: torch.tensor(0.25))
    assert [record.step for record in seen.steps] == [1, 2, 3, 4, 5, 6]
    assert seen.steps[0].learning_rates == {"weight": 0.1}
    assert [record.epoch for record in seen.epochs] == [1, 2]
    assert seen.epochs[-1] is last
    assert last.penalty == pytest.approx(0.25)
    assert last.train.images == 15
    assert last.gap == 0


def test_the_penalty_is_trained_on():
    """Its gradient reaches the parameters."""
    model = nn.Linear(4, 3)
    start = model.bias.detach().clone()
    constant = copy.deepcopy(model)
    run_fit(model, penalty=lambda: 10 * model.bias.sum())
    run_fit(constant)
    assert (model.bias - start).sum() < (constant.bias - start).sum() - 1


def test_a_loss_that_is_not_finite_ends_the_run():
    """The error names epoch and step; nothing is evaluated."""
    with pytest.raises(Diverged, match="diverged in epoch 1, step 1 of 6: the loss is nan; in no layer's output"):
        run_fit(nn.Linear(4, 3), penalty=lambda: torch.tensor(float("nan"), requires_grad=True), evaluate=None)


def test_evaluation_at_intervals_and_at_the_end_changes_nothing_that_is_learned(tmp_path):
    """Every second of five epochs, and the last; best.pt comes from evaluated epochs only."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    twin, keeper = copy.deepcopy(model), Checkpointer(tmp_path, identity={})
    _, seen = run_fit(model, epochs=5, eval_interval=2, checkpointer=keeper)
    run_fit(twin, epochs=5)
    assert [record.epoch for record in seen.epochs if record.hard is not None] == [2, 4, 5]
    assert [record.gap for record in seen.epochs] == [None, 0.0, None, 0.0, 0.0]
    assert torch.equal(model.weight, twin.weight)
    assert keeper.best_epoch == 2
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 5
