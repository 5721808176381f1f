"""Which options vary among runs, and which need no word because dataset, quantizer, protocol or recipe explain them."""

from collections.abc import Callable
from typing import Any

import pytest

from qexp.config import trust
from qexp.runs.variation import OptionReader, Variation, brief, shown, variation

TORCHVISION = ("model=torchvision",)
DQA, STE = ("quantizer=dqa", "bits=2"), ("quantizer=ste", "bits=2")


def read(*configs: Any) -> list[Any]:
    reader = OptionReader()
    return [reader.options(config.tree) for config in configs]


@pytest.mark.parametrize(
    ("commands", "names", "options"),
    [
        ([DQA], (), ()),
        ([DQA, DQA], (), ()),
        ([DQA, STE], ("quantizer",), ()),
        ([STE, ("quantizer=ste", "bits=4")], ("weight_bits", "activation_bits"), ()),
        ([STE, (*STE, "activation_bits=32", "seed=3")], ("activation_bits", "seed"), ()),
        # Options that follow from a dataset, a protocol or a float net say nothing more.
        ([STE, (*STE, "dataset=cifar10")], ("dataset", "model.width"), ()),
        ([STE, (*STE, "protocol=short"), (*STE, "protocol=smoke")], ("model.width", "protocol"), ()),
        ([STE, ("quantizer=fp", "bits=32")], ("quantizer", "weight_bits", "activation_bits"), ()),
        # Those that somebody changed do, whatever changes with them.
        ([STE, (*DQA, "recipe.optimizer.weight.lr=0.3")], ("quantizer",), ("recipe.optimizer.weight.lr",)),
        ([(*DQA, "quantizer.penalty=1"), DQA, STE], ("quantizer",), ("quantizer.penalty",)),
        ([STE, (*STE, "init=scratch")], (), ("init",)),
        ([STE, (*STE, "keep_float=[first]")], (), ("keep_float",)),
        ([STE, (*STE, "recipe.dampening=0.1")], (), ("recipe.dampening",)),
        ([STE, (*STE, "recipe.epochs=3", "protocol=smoke")], ("model.width", "protocol"), ("recipe.epochs",)),
        ([STE, (*STE, "recipe.schedule.name=step")], (), ("recipe.schedule",)),
        # A network of a library is told by its name.
        ([(*STE, *TORCHVISION), (*STE, *TORCHVISION, "model.network=resnet50")], ("model",), ()),
        ([(*STE, *TORCHVISION), (*STE, *TORCHVISION, "recipe.epochs=3")], (), ("recipe.epochs",)),
        ([(*STE, *TORCHVISION), (*STE, *TORCHVISION, "dataset=cifar10")], ("dataset",), ()),
        # Another recipe is one option.
        ([STE, (*STE, "recipe=daq")], ("model.width",), ("recipe",)),
        ([(*STE, "dataset=cifar10"), (*STE, "dataset=cifar10", "recipe=daq", "seed=1")], ("seed",), ("recipe",)),
        # What does not matter to a run, or to what it computes, does not vary.
        ([STE, (*STE, "threads=2", "tracking.step_interval=7", "recipe.eval_batch_size=9")], (), ()),
        ([("quantizer=fp",), ("quantizer=fp", "recipe.optimizer.clip.lr=9")], (), ()),
    ],
)
def test_what_varies_is_what_somebody_changed(
    configure: Callable[..., Any], commands: list[tuple[str, ...]], names: tuple[str, ...], options: tuple[str, ...]
) -> None:
    assert variation(read(*(configure(*command) for command in commands))) == Variation(names, options)


def test_functions_of_ones_own_are_told_by_their_names(
    configure: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(trust.NAMES, "mine")
    words = [(), *((f"recipe.augment={{_target_: mine.x.{one}}}",) for one in "fg")]
    runs = read(*(configure(*STE, *own) for own in words))
    assert variation(runs) == Variation((), ("recipe.augment",))
    assert [run["recipe.augment"] for run in runs] == [None, "mine.x.f", "mine.x.g"]


def test_options_that_differ_in_the_same_runs_stand_under_the_first(configure: Callable[..., Any]) -> None:
    """Those of a recipe of the user's own, say, that qexp cannot name."""
    own = ["recipe.epochs=7", "recipe.batch_size=8", "recipe.crop=2", "recipe.flip=true", "recipe.label_smoothing=0.1"]
    others = ("recipe.batch_size", "recipe.label_smoothing", "recipe.crop", "recipe.flip")
    found = variation(read(configure(*STE), configure(*STE, *own), configure(*STE, *own, "seed=1")))
    assert found == Variation(("seed",), ("recipe.epochs",), {"recipe.epochs": others})
    few = variation(read(configure(*STE), configure(*STE, *own[:3])))
    assert few == Variation((), ("recipe.epochs", "recipe.batch_size", "recipe.crop"))


def test_a_run_before_an_option_has_its_usual_value(configure: Callable[..., Any]) -> None:
    config = configure(*STE)
    old = {**config.tree, "recipe": {k: v for k, v in config.tree["recipe"].items() if k != "dampening"}}
    reader = OptionReader()
    assert reader.options(old) == reader.options(config.tree)
    assert variation([reader.options(old), *read(configure(*STE, "recipe.dampening=0.5"))]).options == (
        "recipe.dampening",
    )
    before = {**config.tree, "quantizer": {k: v for k, v in config.tree["quantizer"].items() if k != "granularity"}}
    assert reader.options(before) == reader.options(config.tree)


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"recipe": "x", "quantizer": None, "dataset": ["digits"]},
        {
            "dataset": {"name": ["a"]},
            "model": {"name": {}},
            "quantizer": {"name": "../ste"},
            "recipe": {"epochs": [[1]]},
        },
        {
            "dataset": {"name": "../../etc"},
            "model": {"name": "x"},
            "quantizer": {"name": "ste"},
            "protocol": "..",
            "recipe": {"epochs": {"a": {"name": 3}}},
        },
    ],
)
def test_damaged_configurations_are_read_as_far_as_they_go(configure: Callable[..., Any], tree: Any) -> None:
    whole, damaged = read(configure(*STE), type("Damaged", (), {"tree": tree}))
    found = variation([whole, damaged])
    assert all(isinstance(key, str) for key in (*found.names, *found.options))


def test_values_are_spelled_as_on_a_command_line() -> None:
    values = (None, True, False, 2, 0.1, "fp", ("first", "last"), [[1, None]])
    assert list(map(shown, values)) == ["null", "true", "false", "2", "0.1", "fp", "[first,last]", "[[1,null]]"]


def test_a_long_list_is_told_by_its_length_and_a_word_that_stands_for_it() -> None:
    entries = [f"layer{number}:weight:4" for number in range(40)]
    found = [brief(value) for value in (entries, tuple(entries), [*entries[:-1], "layer39:weight:3"])]
    assert found[0] == found[1] != found[2]
    assert found[0].startswith("[layer0:weight:4,... 39 more, ")
    assert len(found[0]) < 50
    assert [brief(value) for value in (entries[:8], None, 0.1)] == [shown(value) for value in (entries[:8], None, 0.1)]
