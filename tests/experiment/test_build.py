"""What a recipe makes of a step, and what of it is checked before a run starts."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qexp.config.config import parse_config
from qexp.config.schema import Invalid
from qexp.experiment.build import make_step
from qexp.experiment.preflight import check
from qexp.experiment.recipe_checks import check_accumulate
from qexp.quantizers import Dampening, quantized_layers
from qexp.utils.errors import UsageError
from support.commands import Configure
from support.steps import batch, network, take
from support.trees import changed


def test_parts_of_a_batch_have_two_images_or_more(configure: Configure) -> None:
    """32 parts of 64 images are accepted, 33 are not; a batch of one is one part, as always."""
    for size, parts in ((64, 32), (65, 32), (2, 1), (1, 1)):
        check_accumulate(configure(f"recipe.batch_size={size}", f"recipe.accumulate={parts}"))
    for size, parts, needed in ((64, 33, 66), (63, 32, 64), (3, 2, 4), (1, 2, 4)):
        expected = (
            f"recipe.accumulate={parts}: parts of two images or more need a recipe.batch_size of {needed} or more, "
            f"not {size}"
        )
        with pytest.raises(UsageError) as caught:
            check_accumulate(configure(f"recipe.batch_size={size}", f"recipe.accumulate={parts}"))
        assert str(caught.value) == expected


def test_too_many_parts_are_refused_before_a_run_starts(configure: Configure) -> None:
    """Beside other mistakes, in one line."""
    words = ("dataset=synthetic", "model=resnet20", "init=scratch", "device=cpu", "recipe.batch_size=8")
    check(configure(*words, "recipe.accumulate=4"), fetch=False)
    with pytest.raises(Invalid) as caught:
        check(configure(*words, "recipe.accumulate=5", "keep_float=[nothing]"), fetch=False)
    assert len(caught.value.problems) == 2
    assert str(caught.value.problems[0]) == (
        "recipe.accumulate=5: parts of two images or more need a recipe.batch_size of 10 or more, not 8"
    )


def test_too_many_parts_are_refused_in_any_job_of_a_sweep(train: Callable[..., Any]) -> None:
    """Jobs that differ in nothing else are checked one by one; nothing is trained."""
    result = train("-m", "recipe.batch_size=8", "recipe.accumulate=1,5")
    assert result.code == 2
    assert (
        "recipe.accumulate=5: parts of two images or more need a recipe.batch_size of 10 or more, not 8" in result.err
    )
    assert not Path("runs").exists()


def test_restarts_are_checked_in_any_job_of_a_sweep(train: Callable[..., Any]) -> None:
    """Jobs that differ in nothing but their schedule; nothing is trained."""
    result = train("-m", "recipe.schedule.restarts=[0.5]", "recipe.schedule.warmup=0.05,0.6")
    (line,) = result.errors
    assert result.code == 2
    assert "recipe.schedule.restarts=[0.5]: the first must come after recipe.schedule.warmup=0.6  [job 2 of 2" in line
    assert not Path("runs").exists()


# Remedies for oscillating weights


@pytest.mark.parametrize(
    "compiled",
    [False, pytest.param(True, marks=[pytest.mark.training, pytest.mark.filterwarnings("default")])],
)
def test_dampening_rises_from_nothing_by_a_cosine_and_is_part_of_the_penalty(
    configure: Configure, compiled: bool
) -> None:
    """0.2 at the end, half of it in the middle; added once for a batch in two parts, beside a method's own penalty."""
    model, plain = network("dqa"), network("dqa")
    words = ("recipe.accumulate=2", "recipe.dampening=0.2")
    step = make_step(model, configure(*words).recipe, compiled=compiled)
    usual = make_step(plain, configure("recipe.accumulate=2").recipe)
    for done, strength in ((0.0, 0.0), (0.25, 0.2 * (0.5 - 0.5**1.5)), (0.5, 0.1), (1.0, 0.2)):
        plain.load_state_dict(model.state_dict())
        dampening = Dampening(plain)
        dampening.strength = strength
        expected = sum(part.item() for part in (dampening(), usual.penalty()) if isinstance(part, torch.Tensor))
        step.follow_schedules(done)
        assert take(step, *batch()).penalty.item() == pytest.approx(expected, rel=1e-5)


def test_a_recipe_without_remedies_has_none(configure: Configure) -> None:
    step = make_step(network("daq"), configure().recipe)
    assert step.freezing is None
    assert "freezing" not in step.state_dict()


def test_the_threshold_of_freezing_falls_by_a_cosine(configure: Configure) -> None:
    step = make_step(network("daq"), configure("recipe.freezing=0.02").recipe)
    found = []
    for done in (0.0, 0.5, 1.0):
        step.follow_schedules(done)
        found.append(step.freezing.threshold)  # type: ignore[union-attr]
    assert found == pytest.approx([0.1, 0.06, 0.02])
    assert step.optimizers.learning_rates()["weight"] < 1e-6


def test_freezing_goes_on_with_the_state_of_another_step(configure: Configure) -> None:
    """Also where no weight is frozen yet, and where many are."""
    recipe = configure("recipe.freezing=0.001", "recipe.optimizer.weight.lr=1").recipe
    model, twin = network("daq"), network("daq")
    step, other = make_step(model, recipe), make_step(twin, recipe)
    for seed in range(40):
        if seed in (2, 38):
            twin.load_state_dict(model.state_dict())
            other.load_state_dict(copy.deepcopy(step.state_dict()), seed)
        for one in (step, other) if seed >= 2 else (step,):
            one.follow_schedules(seed / 40)
            take(one, *batch(seed=seed % 3))
    assert any(own.frozen.any() for own in step.freezing.history.values())  # type: ignore[union-attr]
    for (_, ours), (_, expected) in zip(quantized_layers(twin), quantized_layers(model), strict=True):
        assert torch.equal(ours.weight, expected.weight)


@pytest.mark.parametrize("word", ["recipe.dampening=0.1", "recipe.freezing=0.01"])
def test_remedies_need_quantized_weights(configure: Configure, word: str) -> None:
    words = ("dataset=synthetic", "model=resnet20", "init=scratch", "device=cpu", word)
    check(configure(*words), fetch=False)
    check(configure(*words, "quantizer=fp"), fetch=False)
    with pytest.raises(Invalid) as caught:
        check(configure(*words, "weight_bits=32"), fetch=False)
    (problem,) = caught.value.problems
    assert str(problem) == f"{word}: there are no quantized weights with weight_bits=32"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dampening", -0.1),
        ("dampening", "much"),
        ("freezing", 1.5),
        ("freezing", -0.01),
        ("freezing", [0.1]),
        ("norm_batches", -1),
        ("norm_batches", 1.5),
        ("norm_batches", "all"),
        ("schedule.end", 2),
        ("schedule.end", None),
    ],
)
def test_values_that_remedies_cannot_have_are_refused(configure: Configure, key: str, value: Any) -> None:
    with pytest.raises(Invalid) as caught:
        parse_config(changed(dict(configure().tree), f"recipe.{key}", value))
    (problem,) = caught.value.problems
    assert problem.key == f"recipe.{key}"
