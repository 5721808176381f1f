"""The key that says whether two commands compute the same, and options that are younger than runs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from qexp import runs
from qexp.config.config import parse_config, recorded_config
from qexp.config.identity import INDIRECT, RUNTIME, YOUNGER, float_parent, normalized, run_key, with_younger_options
from qexp.config.places import conf_dir
from qexp.config.schema import Invalid
from qexp.config.yaml_files import load_yaml, to_yaml
from support.commands import Configure
from support.trees import changed, leaves, other, remove, without_younger

METHODS = sorted(path.stem for path in (conf_dir() / "quantizer").glob("*.yaml"))


RECIPES = sorted(path.stem for path in (conf_dir() / "recipe").glob("*.yaml"))

# The key


@pytest.mark.parametrize(("words", "key"), [((), "ihlhmgdn"), (("quantizer=fp",), "hckdefem")])
def test_the_keys_of_the_default_runs_are_pinned(configure: Configure, words: tuple[str, ...], key: str) -> None:
    """A new option, default or spelling changes the key of every finished run, so that all would be trained again.

    If this fails by accident, undo the change, or keep the option out of the key (RUNTIME and INDIRECT in
    qexp/config/identity.py) where it changes no result. If runs made before really compute something else now, put the
    new keys here, and say in CHANGELOG.md that finished runs are not found any more.
    """
    assert configure(*words).key == key


def test_every_leaf_of_the_tree_changes_the_key_but_the_named_exceptions(raw: dict[str, Any]) -> None:
    """`tracking` and the like are runtime; a leaf that is new in YAML is identity until someone says otherwise."""
    base = run_key(normalized(raw))
    free = {path for path, value in leaves(raw) if run_key(normalized(changed(raw, path, other(value)))) == base}
    runtime = {path for path, _ in leaves(raw) if path.split(".")[0] in RUNTIME}
    others = {"dataset.path", "quantizer.default_norm_batches"}  # which digits and DAQ have not
    assert free == runtime | ({".".join(pair) for pair in INDIRECT} - others)
    assert {"tracking.tensorboard", "device", "overwrite"} <= free


def test_the_command_line_reaches_the_key(configure: Configure) -> None:
    key = configure().key
    runtime = ("device=cpu", "threads=3", "workers=1", "data_dir=/data", "runs_dir=/store", "overwrite=true")
    assert configure(*runtime, "tracking.tensorboard=false").key == key
    said_again = (
        "weight_bits=2",
        "activation_bits=2",
        "init=fp",
        "model.width=0.25",
        "protocol=paper",
        "recipe=digits",
    )
    assert configure(*said_again, "keep_float=[first,last]").key == key
    keys = [configure(*words).key for words in (("bits=3",), ("recipe.width=0.5",), ("model.width=0.5",))]
    assert keys[1] == keys[2]
    assert len({key, *keys}) == 3


def test_a_key_reads_as_a_word_after_init(raw: dict[str, Any]) -> None:
    """Hydra reads 12345678 as an integer and 1e123456 as infinity; `init=KEY` must mean the run all the same."""
    parser = OverridesParser.create()
    keys = [run_key(changed(raw, "seed", seed)) for seed in range(300)]
    assert [key for key in keys if parser.parse_override(f"init={key}").value() != key] == []


def test_numbers_are_compared_by_value(raw: dict[str, Any]) -> None:
    whole = changed(changed(raw, "model.width", 1), "recipe.schedule.milestones", [0.5, 1])
    decimal = changed(changed(raw, "model.width", 1.0), "recipe.schedule.milestones", (0.5, 1.0))
    assert run_key(whole) == run_key(decimal)


def test_the_content_of_an_initial_checkpoint_counts_and_not_its_name(raw: dict[str, Any]) -> None:
    here, there = (recorded_config(changed(raw, "init", path)) for path in ("a/last.pt", "b/last.pt"))
    assert here.key != there.key
    assert replace(here, start_digest="abc").key == replace(there, start_digest="abc").key
    assert replace(here, start_digest="abc").key != replace(here, start_digest="abd").key


def test_a_float_run_does_not_depend_on_what_only_quantizers_have(configure: Configure) -> None:
    raw = configure("quantizer=fp", "init=scratch").tree

    def key(path: str, value: Any) -> str:
        return parse_config(changed(raw, path, value)).key

    mine = parse_config(raw).key
    for role in ("range", "scale", "clip", "attention", "quantizer"):
        assert key(f"recipe.optimizer.{role}.lr", 0.5) == key(f"recipe.optimizer.{role}.nesterov", True) == mine
    assert key("keep_float", []) == key("keep_float", ["first", "layer1.*"]) == key("init", "fp") == mine
    assert len({key(f"recipe.optimizer.{role}.lr", 0.5) for role in ("weight", "norm")} | {mine}) == 3
    assert configure("quantizer=fp").key == mine
    assert (
        configure("quantizer=fp", "recipe.dampening=0.1", "recipe.freezing=0.01", "recipe.norm_batches=4").key == mine
    )


@pytest.mark.parametrize(
    "words",
    [
        ("dataset=synthetic", "model=resnet20", "seed=3"),
        ("dataset=cifar10", "recipe=daq", "protocol=short", "keep_float=[]", "recipe.optimizer.range.lr=0.5"),
    ],
    ids=["plain", "everything"],
)
def test_the_float_parent_is_the_run_that_the_user_would_start(configure: Configure, words: tuple[str, ...]) -> None:
    """So that `quantizer=fp` of one's own and the baseline of `init=fp` are one run, for every method."""
    mine = configure("quantizer=fp", *words)
    tree = configure("quantizer=daq", *words).tree
    for method in METHODS:
        own = changed(tree, "quantizer", load_yaml(conf_dir() / "quantizer" / f"{method}.yaml"))
        for path, value in (("seed", mine.seed), ("weight_bits", 1), ("init", "scratch"), ("overwrite", True)):
            parent = parse_config(float_parent(changed(own, path, value)))
            assert (parent.key, parent.quantizer.name, parent.init) == (mine.key, "fp", "scratch")
            assert runs.run_directory(parent) == runs.run_directory(mine)
            assert not parent.overwrite


@pytest.mark.parametrize("words", [("quantizer=dqa", "quantizer.mix=[minmax@2,fp]"), ("quantizer=fp",)])
def test_a_written_configuration_reads_back_as_the_same_run(
    configure: Configure, words: tuple[str, ...], tmp_path: Path
) -> None:
    config = configure(*words, "recipe.optimizer.weight.weight_decay=1e-5", "data_dir=/a b")
    (tmp_path / "config.yaml").write_text(to_yaml(config.tree))
    again = recorded_config(load_yaml(tmp_path / "config.yaml"))
    assert again.key == config.key
    assert again.tree == config.tree


# Younger options

OTHER_VALUES = [
    *(("precision", "bfloat16"), ("precision", "float16"), ("accumulate", 2), ("accumulate", 4)),
    *(("schedule.end", 0.01), ("schedule.end", 0.1), ("dampening", 0.1), ("dampening", 1), ("freezing", 0.01)),
    ("norm_batches", 10),
    *(("clip_norm", 1.0), ("clip_norm", 0.5), ("ema", 0.9), ("ema", 0.999)),
    *(("holdout", 10), ("holdout", 20), ("patience", 1), ("patience", 5)),
    *(("randaugment", 9), ("randaugment", 1)),
    ("augment", {"_target_": "mine.x.erase"}),
    ("augment", {"_target_": "mine.x.erase", "share": 0.5}),
    ("schedule.own", {"_target_": "mine.x.power", "exponent": 2}),
    ("schedule.own", {"_target_": "mine.x.power", "exponent": 3}),
    *(("schedule.restarts", [0.5]), ("schedule.restarts", [0.25, 0.5])),
    *(("mixup", 0.2), ("mixup", 1), ("cutmix", 0.2), ("cutmix", 1)),
    *((f"optimizer.{role}", {**YOUNGER[f"optimizer.{role}"], "lr": 0.3}) for role in ("mask", "bits", "noise")),
]


def test_younger_options_count_where_they_are_not_as_before(raw: dict[str, Any]) -> None:
    """At its usual value an option is not in the key, alone or with the others; every other value has its own key."""
    old = run_key(without_younger(raw))
    assert run_key(raw) == old
    for key in YOUNGER:
        tree = changed(raw, "seed", raw["seed"])
        remove(tree, f"recipe.{key}")
        assert run_key(tree) == old
    assert {key for key, _ in OTHER_VALUES} == set(YOUNGER)
    keys = [run_key(changed(raw, f"recipe.{key}", value)) for key, value in OTHER_VALUES]
    both = run_key(changed(changed(raw, "recipe.precision", "bfloat16"), "recipe.accumulate", 2))
    assert len({old, *keys, both}) == len(OTHER_VALUES) + 2


@pytest.mark.parametrize("name", ["ste", "br", "dqa", "daq"])
def test_ranges_by_tensor_are_what_runs_had_before_granularity(configure: Configure, name: str) -> None:
    """A stored run without the option has the key of `tensor`, reads as such, and keeps it when it is parsed."""
    raw = dict(configure(f"quantizer={name}").tree)
    assert raw["quantizer"]["granularity"] == "tensor"
    old = {**raw, "quantizer": {key: value for key, value in raw["quantizer"].items() if key != "granularity"}}
    assert run_key(old) == run_key(raw)
    assert with_younger_options(old) == raw
    assert configure(f"quantizer={name}", "quantizer.granularity=channel").key != run_key(raw)
    assert "granularity" not in with_younger_options(dict(configure("quantizer=fp").tree))["quantizer"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_the_younger_options_at_their_usual_value(configure: Configure, recipe: str) -> None:
    """So that finished runs of all recipes are found again."""
    found, usual = dict(leaves(configure(f"recipe={recipe}").tree["recipe"])), dict(leaves(dict(YOUNGER)))
    assert {key: found[key] for key in usual} == usual


@pytest.mark.parametrize(
    "words", [(), ("quantizer=fp",), ("recipe.precision=bfloat16", "recipe.accumulate=2", "recipe.schedule.end=0.1")]
)
def test_a_stored_run_is_given_the_younger_options_that_it_lacks(configure: Configure, words: tuple[str, ...]) -> None:
    """Those it has stay, the tree at hand too; read back, an old run has the key that it had."""
    raw = dict(configure(*words).tree)
    assert with_younger_options(raw) == raw
    old = without_younger(raw)
    before = json.dumps(old)
    filled = with_younger_options(old)
    assert json.dumps(old) == before
    assert dict(leaves(filled["recipe"])) == {**dict(leaves(old["recipe"])), **dict(leaves(YOUNGER))}
    assert parse_config(filled).key == run_key(normalized(old))
    with pytest.raises(Invalid) as caught:
        parse_config(old)
    assert {problem.key for problem in caught.value.problems} == {f"recipe.{key}" for key in YOUNGER}


def test_how_a_run_is_computed_is_not_part_of_its_key(configure: Configure) -> None:
    """Compiled, in another memory layout, quantized again in the backward pass: the same run."""
    words = ("compile=true", "channels_last=false", "recompute=true")
    assert {configure(*some).key for some in ((), words, *((word,) for word in words))} == {configure().key}
    config = configure(*words)
    assert (config.compile, config.channels_last, config.recompute) == (True, False, True)
