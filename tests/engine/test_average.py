"""The moving average of the weights: its formula, and what is looked at while it is there."""

import copy
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qexp.engine.average import WeightAverage, decay_at
from qexp.engine.checkpointer import BEST, LAST, Checkpointer, read_checkpoint
from qexp.engine.loop import fit
from qexp.engine.train_state import TrainState
from qexp.utils.callback import Callback, EpochRecord, Metrics
from qexp.utils.errors import Interrupted
from support.fitting import Fixed
from support.steps import assert_same, batch, make, network, take
from support.trained import equal, training


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def averaging(seed: int = 0, decay: float = 0.9) -> TrainState:
    begun = training(seed)
    begun.step.average = WeightAverage(begun.model, decay)
    return begun


@pytest.mark.parametrize(("update", "expected"), [(1, 2 / 11), (2, 3 / 12), (80, 81 / 90), (81, 0.9), (1000, 0.9)])
def test_the_decay_rises_to_what_was_asked_for(update: int, expected: float) -> None:
    assert decay_at(update, 0.9) == expected


def test_an_average_is_its_formula_and_training_knows_nothing_of_it() -> None:
    """Parameters and running statistics averaged; the counter of batches as it is; the weights as without."""
    model = network("daq", norm=True)
    twin = copy.deepcopy(model)
    step, plain = make(model, average=WeightAverage(model, 0.4)), make(twin)
    expected = {name: value.double() for name, value in state_of(model).items()}
    averaged = [*dict(model.named_parameters()), "3.running_mean", "3.running_var"]
    for number in range(1, 6):
        step(*batch(seed=number))
        plain(*batch(seed=number))
        decay = min(0.4, (1 + number) / (10 + number))
        for name, value in model.state_dict().items():
            kept = decay * expected[name] + (1 - decay) * value.double()
            expected[name] = kept if name in averaged else value.double()
    assert_same(state_of(model), state_of(twin))
    with step.averaged():
        found = state_of(model)
    torch.testing.assert_close(found, {name: value.to(found[name].dtype) for name, value in expected.items()})
    assert {name for name in found if torch.equal(found[name], twin.state_dict()[name])}.isdisjoint(averaged)
    assert found["3.num_batches_tracked"] == 5
    assert_same(state_of(model), state_of(twin))


def test_an_average_with_a_constant_decay_equals_torch_s() -> None:
    """From the 81st update on a decay of 0.9 is 0.9."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    average = WeightAverage(model, 0.9)
    average.updates = 80
    reference = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    reference.update_parameters(model)  # takes the values themselves the first time
    for _ in range(4):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(5, 4))
        average.update()
        reference.update_parameters(model)
    with average.in_place():
        found = state_of(model)
    own = reference.module.state_dict()
    del found["1.num_batches_tracked"], own["1.num_batches_tracked"]  # theirs is an average of a count
    torch.testing.assert_close(found, dict(own), rtol=0, atol=0)


def test_what_is_evaluated_and_kept_is_the_average(tmp_path: Path) -> None:
    """Evaluation, callbacks, best.pt, last.pt and the network at the end; the trained one goes on in between."""
    begun, plain = averaging(), training()
    seen: list[dict[str, torch.Tensor]] = []

    class Watch(Callback):
        def epoch(self, record: EpochRecord, model: nn.Module) -> None:
            assert record.is_averaged
            assert equal(state_of(model), seen[-1])

    def evaluate() -> tuple[Metrics, Metrics]:
        seen.append(state_of(begun.model))
        return (Metrics(1.0, 50.0 + len(seen), 90.0, 10),) * 2

    keeper = Checkpointer(tmp_path, identity={}, steps=1)
    fit(
        begun.model,
        Fixed(),
        step=begun.step,
        anneal=lambda _: None,
        evaluate=evaluate,
        epochs=2,
        callbacks=[Watch()],
        checkpointer=keeper,
    )
    torch.manual_seed(0)
    training()
    fit(plain.model, Fixed(), step=plain.step, anneal=lambda _: None, evaluate=evaluate, epochs=2)
    last, trained = read_checkpoint(tmp_path / LAST), state_of(plain.model)
    assert not equal(seen[1], trained)
    assert equal(state_of(begun.model), seen[1])
    assert equal(last["model"], seen[1])
    assert equal(read_checkpoint(tmp_path / BEST)["model"], seen[1])
    own = last["training"]["step"]["average"]
    assert own["updates"] == 6
    names = [name for name, _ in begun.model.named_parameters()] + ["1.running_mean", "1.running_var"]
    assert equal(own["trained"], [trained[name] for name in names])


def test_a_state_with_an_average_comes_back_as_it_was(tmp_path: Path) -> None:
    begun, other = averaging(), averaging(7)
    for images, labels in Fixed().batches:
        begun.count(take(begun.step, images, labels), labels, 100)
    before = state_of(begun.model)
    Checkpointer(tmp_path, identity={}).save(begun)
    assert equal(state_of(begun.model), before)
    Checkpointer(tmp_path, identity={}).restore(other, lambda done: None)
    assert equal(state_of(other.model), before)
    for images, labels in Fixed().batches:
        torch.manual_seed(3)
        take(begun.step, images, labels)
        torch.manual_seed(3)
        take(other.step, images, labels)
    with begun.step.averaged(), other.step.averaged():
        assert equal(state_of(begun.model), state_of(other.model))
        assert equal(begun.step.average.state_dict(), other.step.average.state_dict())  # type: ignore[union-attr]


def test_an_evaluation_that_is_interrupted_leaves_the_weights_that_are_trained(tmp_path: Path) -> None:
    begun = averaging()

    def evaluate() -> Any:
        raise Interrupted(signal.SIGTERM)

    keeper = Checkpointer(tmp_path, identity={})
    with pytest.raises(Interrupted):
        fit(
            begun.model,
            Fixed(),
            step=begun.step,
            anneal=lambda _: None,
            evaluate=evaluate,
            epochs=2,
            checkpointer=keeper,
        )
    now, last = state_of(begun.model), read_checkpoint(tmp_path / LAST)
    assert equal(last["training"]["step"]["average"]["trained"][0], now["0.weight"])
    assert not equal(last["model"]["0.weight"], now["0.weight"])


def test_a_block_inside_a_block_changes_nothing() -> None:
    begun = averaging()
    take(begun.step, *Fixed().batches[0])
    before = state_of(begun.model)
    with begun.step.averaged():
        outer = state_of(begun.model)
        with begun.step.averaged():
            assert equal(state_of(begun.model), outer)
        assert equal(state_of(begun.model), outer)
    assert equal(state_of(begun.model), before)
