"""Divergence: noticed at its step, with the layer it came from; training at chance; both end the run with 4."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from qexp import runs
from qexp.engine.divergence import ChanceGuard, LossGuard, NotFinite, first_cause, unsettled_norms
from qexp.utils.errors import Diverged
from support import methods
from support.fitting import Fixed, run_fit


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


class Breaks(nn.Module):
    """Passes its input on, and from some call on something that is not finite."""

    def __init__(self, call: int, value: float):
        super().__init__()
        self.calls, self.call, self.value = 0, call, value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.value if self.calls >= self.call else x


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("call", [1, 3, 5])
def test_the_step_and_the_layer_of_a_loss_that_is_not_finite_are_named(call: int, value: float) -> None:
    """Three steps an epoch, one call of the network in each."""
    model = nn.Sequential(*network()[:2], Breaks(call, value), network()[2])
    before = []
    with pytest.raises(Diverged) as caught:
        run_fit(model, epochs=2, progress=before)
    epoch = (call - 1) // 3 + 1
    assert str(caught.value) == (
        f"diverged in epoch {epoch}, step {call} of 6: the loss is nan; first in the output of 2"
    )
    assert len(before) == call
    assert all(torch.isfinite(p).all() for p in model.parameters())  # the step was not taken


def test_a_gradient_that_is_not_finite_is_traced_to_the_last_layer_that_has_one() -> None:
    """Its weights, and those of all layers before it, are ruined by the update; the next loss shows it."""
    model = network()

    def ruin(grad: torch.Tensor) -> torch.Tensor:
        return torch.full_like(grad, math.inf) if model.steps == 2 else grad

    model.steps = 0
    model.register_forward_pre_hook(lambda *_: setattr(model, "steps", model.steps + 1))
    for parameter in model[0].parameters():
        parameter.register_hook(ruin)
    expected = "diverged in epoch 1, step 3 of 6: the loss is nan; 0.bias is not finite, nor are 1 tensors before it"
    with pytest.raises(Diverged) as caught:
        run_fit(model, epochs=2)
    assert str(caught.value) == expected


def test_a_gradient_that_is_not_finite_in_the_last_step_is_noticed() -> None:
    model = network()
    calls: list[int] = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    model[2].bias.register_hook(lambda grad: grad * math.nan if len(calls) == 3 else grad)
    with pytest.raises(Diverged, match=r"^diverged in epoch 1, by its last step: 2\.bias is not finite$"):
        run_fit(model, epochs=1, evaluate=None)


def test_a_penalty_that_is_not_finite_is_told_from_the_network() -> None:
    with pytest.raises(Diverged, match="the loss is inf; in no layer's output$"):
        run_fit(network(), penalty=lambda: torch.tensor(math.inf, requires_grad=True))


@pytest.mark.parametrize(("bad", "noticed"), [(1, 12), (2, 12), (3, 15), (5, 15)])
def test_where_a_look_waits_for_the_device_the_first_bad_step_is_remembered(bad: int, noticed: int) -> None:
    """Other devices than the CPU: after every third step here, of a training that goes on after ten."""
    guard = LossGuard(torch.device("cpu"), interval=3)
    guard.step = 10
    losses = [1.0] * (bad - 1) + [math.inf] + [math.nan] * 10

    def steps() -> None:
        for loss in losses:
            guard.see(torch.tensor(loss))
            guard.stepped()

    with pytest.raises(NotFinite) as caught:
        steps()
    assert (caught.value.step, caught.value.value, guard.step) == (10 + bad, math.inf, noticed)


def test_a_bad_step_is_noticed_before_a_checkpoint() -> None:
    """Which asks, whatever the interval."""
    guard = LossGuard(torch.device("cpu"), interval=50)
    for loss in (1.0, math.nan, 1.0):
        guard.see(torch.tensor(loss))
        guard.stepped()
    with pytest.raises(NotFinite, match="the loss is nan") as caught:
        guard.check()
    assert caught.value.step == 2


def test_the_cause_is_found_in_a_quantized_network(configure: Callable[..., Any]) -> None:
    """The layer's output, not that of the quantizers inside it that pass on what they get."""
    from qexp.quantizers import calibrate, quantize

    model = network()
    quantize(model, methods.method("daq"), weight_bits=2, activation_bits=2, keep_float=["first"])
    images = Fixed().batches[0][0]
    calibrate(model, images)
    with torch.no_grad():
        model[2].output_scale.fill_(math.inf)
    assert first_cause(model, images) == "2.output_scale is not finite"


def test_such_a_step_ends_an_epoch_as_diverged() -> None:
    guard = LossGuard(torch.device("cpu"), interval=50)
    with pytest.raises(Diverged) as caught:
        run_fit(network(), guard=guard, penalty=lambda: torch.tensor(math.inf, requires_grad=True), evaluate=None)
    assert str(caught.value) == "diverged in epoch 1, by its last step, in step 1: the loss is inf"


# Chance


def judged(
    accuracies: list[float], *, images: int = 1000, classes: int = 10, epochs: int = 20, after: float | None = 0.5
) -> int | None:
    """Return the epoch in which a training with these accuracies (percent) is ended, None where it is not."""
    guard = ChanceGuard(after)
    for epoch, top1 in enumerate(accuracies, start=1):
        try:
            guard.see(round(top1 * images / 100), images, classes, epoch, epochs)
        except Diverged:
            return epoch
    return None


def test_five_epochs_at_chance_in_the_second_half_end_a_run() -> None:
    """10 classes, 5 x 1,000 images: up to 10 + 3 x 0.42 percent is chance."""
    at_chance = [10.0] * 20
    assert judged(at_chance) == 10
    assert judged(at_chance, after=0.8) == 16
    assert judged(at_chance, after=0.0) == 5
    assert judged(at_chance, after=None) is None
    assert judged([11.2] * 20) == 10
    assert judged([11.4] * 20) is None
    assert judged([50.0] * 12 + [10.0] * 8) == 17
    assert judged([10.0] * 9 + [30.0] * 11) is None


def test_short_runs_and_single_classes_are_not_judged() -> None:
    assert judged([10.0] * 4, epochs=4) is None
    assert judged([100.0] * 20, classes=1) is None


@pytest.mark.parametrize("seed", range(20))
def test_guessing_is_recognized(seed: int) -> None:
    """Right answers drawn at random, with few images."""
    random = torch.Generator().manual_seed(seed)
    hits = [int((torch.rand(320, generator=random) < 0.1).sum()) for _ in range(10)]
    assert judged([100 * count / 320 for count in hits], images=320, epochs=10) in range(5, 9)


# Runs


@pytest.mark.training
def test_a_run_that_learns_nothing_is_diverged_and_exits_with_4(train: Callable[..., Any], only_run: Any) -> None:
    result = train("quantizer=fp", "recipe.epochs=8", "recipe.optimizer.weight.lr=0", "recipe.optimizer.norm.lr=0")
    path = only_run("fp")
    status = runs.read_json(path / "status.json")
    assert (result.code, status["state"]) == (4, "diverged")
    assert "stuck at chance; training top-1 of the last 5 epochs is" in status["message"]
    assert "guessing gives 10 % (stuck_after=null trains on anyway)" in status["message"]
    again = train(
        "quantizer=fp",
        "recipe.epochs=8",
        "recipe.optimizer.weight.lr=0",
        "recipe.optimizer.norm.lr=0",
        "stuck_after=null",
    )
    assert again.code == 0


@pytest.mark.training
def test_a_diverged_run_names_its_step_and_keeps_no_ruined_checkpoint(train: Callable[..., Any], only_run: Any) -> None:
    words = ("quantizer=ste", "init=scratch", "recipe.optimizer.weight.lr=1e30", "recipe.batch_size=16")
    result = train(*words, "recipe.epochs=4", "checkpoint.steps=1")
    path = only_run("ste")
    assert result.code == 4
    (line,) = result.errors
    assert line.startswith("qexp train: error: diverged ")
    assert " step " in line
    state = torch.load(path / "last.pt", weights_only=True)["model"]
    assert all(torch.isfinite(value).all() for value in state.values())
    again = train(*words, "recipe.epochs=4", "checkpoint.steps=1")
    assert (again.code, again.errors) == (4, [line])


@pytest.mark.parametrize(
    ("train", "test", "classes", "is_said"),
    [
        (96.7, 9.8, 10, True),
        (96.7, 60.0, 10, False),
        (15.0, 9.8, 10, False),
        (99.0, 51.0, 2, True),
        (70.0, 50.0, 2, False),
    ],
)
def test_a_network_that_guesses_in_evaluation_alone_is_told_of(
    train: float, test: float, classes: int, is_said: bool
) -> None:
    """As MobileNetV3's does after 48 steps, whose batch norm has a momentum of 0.01."""
    found = unsettled_norms(train, test, classes)
    assert (found is not None) is is_said
    assert found is None or (f"at chance ({test:.2f} %)" in found and "recipe.norm_batches=16" in found)
