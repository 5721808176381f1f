"""The commands on a page: composed again they give the runs that they were made from."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qexp.config.compose import Composer
from qexp.report.page_words import command_of, in_products, repeating, spelled, words_of
from qexp.runs.query import Entry
from qexp.runs.run_values import ListedRun, listed_runs
from qexp.runs.variation import OptionReader
from support.stored_runs import make

DQA = ("quantizer=dqa", "bits=2")


def listed(config: Any, path: Path) -> ListedRun:
    """A run that has a configuration, as it is found in the store."""
    entry = Entry(path / "digits" / "resnet18" / "x-w2a2" / f"s0-{config.key}")
    entry.__dict__["config"] = config.tree  # a cached property
    return ListedRun(entry, OptionReader())


@pytest.mark.parametrize(
    "words",
    [
        ("quantizer=fp",),
        DQA,
        (*DQA, "activation_bits=32", "seed=7"),
        (*DQA, "quantizer.penalty=0.125", "model=resnet20", "model.width=0.5", "dataset=cifar10"),
        (*DQA, "keep_float=[first:input]", "init=scratch"),
        ("quantizer=br", "bits=1", "quantizer.mix=[bwn@1,twn@2,fp]"),
        (*DQA, "layer_bits=[layer1.0.conv1:3/4,'layer2*:4']"),
        (
            *DQA,
            "protocol=short",
            "recipe.epochs=3",
            "recipe.schedule.name=step",
            "recipe.schedule.milestones=[0.5,0.75]",
        ),
        (*DQA, "recipe=daq", "recipe.optimizer.weight.lr=1e-05", "recipe.flip=true"),
        (*DQA, "dataset.train_size=100", "recipe.optimizer.attention.name=adam"),
        ("quantizer=dropbits", "bits=4", "quantizer.learn_bits=true", "quantizer.penalty=50"),
        (*DQA, "float_recipe=[epochs:30]"),
    ],
)
def test_a_command_composed_again_gives_the_same_run(
    configure: Callable[..., Any], composer: Composer, tmp_path: Path, words: tuple[str, ...]
) -> None:
    config = configure(*words)
    found = words_of(listed(config, tmp_path))
    job = composer.job([f"{key}={value}" for key, value in found.items()])
    assert job.config is not None, (found, job.problems)
    assert job.config.key == config.key, found
    assert (
        not set(found)
        - {"dataset", "model", "quantizer", "bits", "seed"}
        - {
            key
            for word in (*words, "weight_bits=", "activation_bits=")
            for key in (word.partition("=")[0], "model.width")
        }
    ), "nothing is said that goes without saying"


@pytest.mark.parametrize(
    "value", ["a b", "it's", "a\\b", "x,y", "[1]", "${seed}", "a=b", "{x}", "back\\'slash", "", "é"]
)
def test_any_text_is_spelled_so_that_it_stays_one(composer: Composer, value: str) -> None:
    (override,), problems = composer.parse([f"init={spelled(value)}"])
    assert problems == []
    assert override.value() == value
    assert not override.is_sweep_override()


def test_runs_become_as_few_commands_as_there_are_products() -> None:
    sweep = [{"quantizer": q, "bits": b, "seed": s} for q in ("ste", "daq") for b in ("2", "4") for s in ("0", "1")]
    assert in_products(sweep) == [sweep]
    assert command_of(sweep) == "qexp train -m quantizer=ste,daq bits=2,4 seed=0,1"
    float_net = {"quantizer": "fp", "seed": "0"}
    assert in_products([float_net, *sweep]) == [[float_net], sweep]
    assert in_products(sweep[:-1]) == [sweep[:4], sweep[4:6], sweep[6:7]]
    assert command_of([sweep[0]], ["--config-dir", "my conf"]) == (
        "qexp train --config-dir 'my conf' quantizer=ste bits=2 seed=0"
    )


def test_products_make_each_run_once_and_no_other() -> None:
    runs = [
        {"a": str(a), "b": str(b), "c": str(c)} for a in range(3) for b in range(3) for c in range(2) if (a + b) % 3
    ]
    made = []
    for group in in_products(runs):
        values = [dict.fromkeys(run[key] for run in group) for key in "abc"]
        made += [(a, b, c) for a in values[0] for b in values[1] for c in values[2]]
    assert sorted(made) == sorted(tuple(run.values()) for run in runs)


def test_a_command_that_gives_another_hash_is_told(workspace: Path) -> None:
    make("daq-w2a2/s0-abcdefgh")
    (run,) = listed_runs([Entry(Path("runs/digits/resnet18/daq-w2a2/s0-abcdefgh"))])
    found = repeating([run], Path("runs"))
    ((said, command),) = found.commands
    assert said == ""
    assert shlex.split(command)[:4] == ["qexp", "train", "dataset=digits", "model=resnet18"]
    assert found.notes[0].startswith("Not the same hash, or not composed: abcdefgh (")


def test_a_run_without_a_configuration_has_no_command(workspace: Path) -> None:
    path = make("daq-w2a2/s0-abcdefgh")
    (path / "config.yaml").unlink()
    found = repeating(listed_runs([Entry(path)]), Path("runs"))
    assert found.commands == []
    assert found.notes == ["Without a configuration that can be read, and without a command: 1 run."]
