"""What is made of a configuration for training: steps, places, evaluations."""

from functools import partial

import pytest
import torch
from torch import nn

from qexp.engine.metrics import measure_accuracy
from qexp.experiment.build import make_step
from qexp.experiment.evaluate import evaluate_both
from qexp.quantizers import (
    cached_weights,
    evaluation,
)
from support.steps import Calls, batch, names, network, seen_by, take

# Evaluation


def test_evaluation_is_in_float32_after_steps_in_half_precision(configure):
    """The step of a bfloat16 recipe convolves in bfloat16, evaluation of the same network in float32."""
    model = network("daq")
    step = make_step(model, configure("recipe.precision=bfloat16").recipe)
    seen = seen_by(model, nn.Conv2d)
    take(step, *batch())
    assert [output.dtype for _, _, output in seen] == [torch.bfloat16] * 2
    seen.clear()
    evaluate_both(model, lambda: [batch()])
    assert [output.dtype for _, _, output in seen] == [torch.float32] * 2


def test_a_recipe_decides_the_parts_of_its_steps(configure):
    """recipe.accumulate=3: three forward passes, one quantization of each weight."""
    model = network("daq")
    step = make_step(model, configure("recipe.accumulate=3").recipe)
    calls = Calls(model)
    take(step, *batch())
    assert (sorted(calls.weight), sorted(calls.input)) == (["2", "7"], ["2"] * 3 + ["7"] * 3)


@names
def test_evaluation_quantizes_weights_once_and_computes_the_same(name):
    """Three batches: one quantization of each weight instead of three, the same metrics bit for bit."""
    model, batches = network(name, norm=True), [batch(12, seed=seed) for seed in (3, 4, 5)]
    calls = Calls(model)
    plain = measure_accuracy(model, batches)
    assert sorted(calls.weight) == ["2"] * 3 + ["7"] * 3
    calls.weight.clear()
    assert measure_accuracy(model, batches, partial(cached_weights, model)) == plain
    assert sorted(calls.weight) == ["2", "7"]


@names
def test_both_evaluations_are_those_without_holding(name):
    """Hard metrics up to rounding, soft ones bit for bit, which differ where a method has a soft form, early on."""
    model, batches = network(name, norm=True), [batch(12, seed=seed) for seed in (3, 4)]
    hard, soft = evaluate_both(model, lambda: batches)
    plain = measure_accuracy(model, batches)
    assert (hard.top1, hard.top5, hard.images) == (plain.top1, plain.top5, plain.images)
    assert hard.loss == pytest.approx(plain.loss, rel=1e-5)
    with evaluation(model, "soft"):
        assert soft is hard or soft == measure_accuracy(model, batches)
    assert (hard.loss != soft.loss) is name.startswith(("br", "dqa"))


@pytest.mark.parametrize("deterministic", [False, True])
def test_evaluation_turns_off_tf32_and_nothing_else(monkeypatch, deterministic):
    """cuDNN itself stays on, and chooses its algorithms as before; afterwards all is as it was."""
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", not deterministic)
    monkeypatch.setattr(cudnn, "deterministic", deterministic)

    def state():
        return cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32

    before, seen = state(), []
    model = network()
    model.register_forward_hook(lambda *_: seen.append(state()))
    measure_accuracy(model, [batch()])
    assert seen == [(True, not deterministic, deterministic, False)]
    assert state() == before
