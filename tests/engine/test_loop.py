"""The loop, the optimizers, the schedules, the metrics and the checkpoints, against literal versions."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qexp.engine import weights
from qexp.engine.checkpointer import Checkpoints
from qexp.engine.metrics import Tally, evaluate
from qexp.engine.optim import Optimizers
from qexp.utils.callback import Metrics
from qexp.utils.errors import Diverged, UsageError
from support.fitting import ROLES, Fixed, run_fit, schedule


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


def test_roles_get_their_own_optimizer_and_rate():
    """SGD and Adam side by side; a role of a new method falls back to `quantizer`."""
    parameters = {role: [nn.Parameter(torch.ones(2))] for role in ("weight", "range", "mask")}
    optimizers = Optimizers(parameters, ROLES, schedule("step", milestones=(0.5,), factor=0.1))
    optimizers.set_progress(0.0)
    assert optimizers.learning_rates() == {"weight": 0.1, "range": 0.01, "mask": 0.01}
    assert [type(one).__name__ for one in optimizers.optimizers] == ["SGD", "Adam"]
    optimizers.set_progress(0.5)
    assert optimizers.learning_rates() == pytest.approx({"weight": 0.01, "range": 0.001, "mask": 0.001})
    for (parameter,) in parameters.values():
        parameter.grad = torch.ones(2)
    optimizers.step(torch.amp.GradScaler("cpu", enabled=False))
    assert parameters["weight"][0].tolist() == pytest.approx([1 - 0.01 * 1.01] * 2)
    assert parameters["range"][0].tolist() == pytest.approx([1 - 0.001] * 2)
    optimizers.zero_grad()
    assert all(parameter.grad is None for (parameter,) in parameters.values())


def test_schedules_are_closed_forms():
    """Cosine, the DQA paper's steps, and a warm-up that meets the main schedule."""
    assert [schedule("cosine")(done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    steps = schedule("step", milestones=(1 / 3, 2 / 3))
    assert [steps(epoch / 300) for epoch in (0, 99, 100, 199, 200, 299)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    warm = schedule("cosine", warmup=0.1)
    assert warm(0.05) == pytest.approx(0.5 * warm(0.1))
    assert 0 < warm(0.0) < 0.02
    assert warm(0.1) == pytest.approx(schedule("cosine")(0.1))


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
    metrics = evaluate(model, Fixed().epoch(0))
    assert model.training
    assert metrics.images == 15
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_evaluation_at_intervals_and_at_the_end_changes_nothing_that_is_learned(tmp_path):
    """Every second of five epochs, and the last; best.pt comes from evaluated epochs only."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    twin, keeper = copy.deepcopy(model), Checkpoints(tmp_path, identity={})
    _, seen = run_fit(model, epochs=5, eval_interval=2, keeper=keeper)
    run_fit(twin, epochs=5)
    assert [record.epoch for record in seen.epochs if record.hard is not None] == [2, 4, 5]
    assert [record.gap for record in seen.epochs] == [None, 0.0, None, 0.0, 0.0]
    assert torch.equal(model.weight, twin.weight)
    assert keeper.best_epoch == 2
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 5


def test_checkpoints_keep_last_and_best(tmp_path):
    """best.pt stays at the epoch with the highest hard top-1."""
    keeper, model = Checkpoints(tmp_path, identity={}), nn.Linear(4, 3)
    scores = iter([60.0, 80.0, 70.0])

    def score():
        metrics = Metrics(1.0, next(scores), 90.0, 10)
        return metrics, metrics

    run_fit(model, epochs=3, evaluate=score, keeper=keeper)
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert (last["epoch"], best["epoch"], keeper.best_top1) == (3, 2, 80.0)
    assert all(torch.equal(value, last["model"][key]) for key, value in model.state_dict().items())
    assert not torch.equal(best["model"]["weight"], last["model"]["weight"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_loading_names_what_does_not_fit():
    """Missing and unexpected keys and other shapes, in one line."""
    state = nn.Linear(4, 3).state_dict() | {"extra": torch.zeros(1)}
    del state["bias"]
    state["weight"] = torch.zeros(3, 5)
    with pytest.raises(
        UsageError, match=r"missing: bias; unexpected: extra; other shapes: weight \(3, 5\) instead of \(3, 4\)"
    ):
        weights.load_into(nn.Linear(4, 3), state, "x.pt")


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize("content", [Evil(), b"not a checkpoint", {"model": 3}])
def test_only_tensors_are_loaded(tmp_path, content):
    """A pickle that would run code, garbage and other data are refused in one line."""
    path = tmp_path / "x.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UsageError, match="x.pt") as caught:
        weights.load_state(path)
    assert "\n" not in str(caught.value)
