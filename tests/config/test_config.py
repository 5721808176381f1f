"""The typed configuration, and the key that says whether two commands compute the same."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from qexp import runs
from qexp.config.config import (
    INDIRECT,
    RUNTIME,
    YOUNGER,
    Config,
    conf_dir,
    float_parent,
    load_yaml,
    normalized,
    parse_config,
    run_key,
    to_yaml,
    with_younger_options,
)
from qexp.config.schema import Invalid
from qexp.experiment.build import check, check_accumulate
from qexp.utils.errors import UsageError

Configure = Callable[..., Config]
METHODS = sorted(path.stem for path in (conf_dir() / "quantizer").glob("*.yaml"))
RECIPES = sorted(path.stem for path in (conf_dir() / "recipe").glob("*.yaml"))


@pytest.fixture(scope="module")
def raw(configure: Configure) -> dict[str, Any]:
    """The resolved tree of `qexp train`, as YAML gives it."""
    return dict(configure().raw)


def changed(raw: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of the tree with another value at `a.b.c`."""
    tree = json.loads(json.dumps(raw))
    *groups, last = path.split(".")
    node = tree
    for group in groups:
        node = node[group]
    node[last] = value
    return tree


def without_younger(raw: dict[str, Any]) -> dict[str, Any]:
    """The tree as a run stored it before the younger options."""
    return {**raw, "recipe": {key: value for key, value in raw["recipe"].items() if key not in YOUNGER}}


def leaves(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of everything in the tree that is not a group."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def other(value: Any) -> Any:
    """A value of the same kind that is not `value`."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "more"]
    return "something" if value is None else f"{value}x"


# Values


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8, 32])
def test_bit_widths_are_one_to_eight_and_float(raw: dict[str, Any], bits: int) -> None:
    config = parse_config(changed(raw, "weight_bits", bits))
    assert (config.weight_bits, config.activation_bits) == (bits, 2)


@pytest.mark.parametrize("bits", ["two", "2", 0, 9, 16, 31, 33, 99, -1, 2.5, 2.0, True, None, [2]])
def test_no_other_bit_width_is_accepted(raw: dict[str, Any], bits: Any) -> None:
    with pytest.raises(Invalid) as caught:
        parse_config(changed(raw, "activation_bits", bits))
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("activation_bits", bits)
    assert problem.message == "must be one of 1, 2, 3, 4, 5, 6, 7, 8, 32"


def test_an_empty_tree_lacks_everything() -> None:
    with pytest.raises(Invalid) as caught:
        parse_config({})
    named = {problem.key for problem in caught.value.problems}
    assert named == set(Config.__dataclass_fields__) - {"raw", "init_digest"}


def test_problems_of_all_parts_come_together(raw: dict[str, Any]) -> None:
    tree = changed(raw, "seed", -1) | {"sede": 3, "model": None}
    tree = changed(changed(tree, "recipe.epochs", 0), "tracking.tensorbaord", True)
    with pytest.raises(Invalid) as caught:
        parse_config(tree)
    assert {problem.key for problem in caught.value.problems} == {
        "seed",
        "sede",
        "model",
        "recipe.epochs",
        "tracking.tensorbaord",
    }


@pytest.mark.parametrize("section", ["dataset", "model", "quantizer"])
@pytest.mark.parametrize("name", ["../x", "..", "a/b", "/a", "", ".hidden", "-x", "a b", "a\n", "a\\b", None, 5])
def test_names_cannot_lead_out_of_the_run_store(raw: dict[str, Any], section: str, name: Any) -> None:
    with pytest.raises(Invalid) as caught:
        parse_config(changed(raw, f"{section}.name", name))
    assert [problem.key for problem in caught.value.problems] == [f"{section}.name"]


def test_a_run_directory_lies_in_the_store_and_names_what_it_holds(configure: Configure) -> None:
    config = configure("runs_dir=/store", "quantizer=ste", "weight_bits=4", "activation_bits=32", "seed=3")
    expected = f"/store/digits/resnet18/ste-w4a32/s3-{config.key}"
    assert str(runs.run_directory(config)) == expected


@pytest.mark.parametrize("section", ["dataset", "model", "quantizer"])
@pytest.mark.parametrize("target", ["os.system", "qexp", "qexpert.evil", "builtins.eval", "torch.nn.Linear", None, 3])
def test_only_qexp_may_be_a_target(raw: dict[str, Any], section: str, target: Any) -> None:
    with pytest.raises(Invalid) as caught:
        parse_config(changed(raw, f"{section}._target_", target))
    assert [problem.key for problem in caught.value.problems] == [f"{section}._target_"]


# The key


@pytest.mark.parametrize(("words", "key"), [((), "ihlhmgdn"), (("quantizer=fp",), "hckdefem")])
def test_the_keys_of_the_default_runs_are_pinned(configure: Configure, words: tuple[str, ...], key: str) -> None:
    """A new option, default or spelling changes the key of every finished run, so that all would be trained again.

    If this fails by accident, undo the change, or keep the option out of the key (RUNTIME and INDIRECT in
    qexp/config/config.py) where it changes no result. If runs made before really compute something else now, put the
    new keys here, and say in CHANGELOG.md that finished runs are not found any more.
    """
    assert configure(*words).key == key


def test_every_leaf_of_the_tree_changes_the_key_but_the_named_exceptions(raw: dict[str, Any]) -> None:
    """`tracking` and the like are runtime; a leaf that is new in YAML is identity until someone says otherwise."""
    base = run_key(normalized(raw))
    free = {path for path, value in leaves(raw) if run_key(normalized(changed(raw, path, other(value)))) == base}
    runtime = {path for path, _ in leaves(raw) if path.split(".")[0] in RUNTIME}
    assert free == runtime | {".".join(pair) for pair in INDIRECT}
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
    here, there = (parse_config(changed(raw, "init", path)) for path in ("a/last.pt", "b/last.pt"))
    assert here.key != there.key
    assert replace(here, init_digest="abc").key == replace(there, init_digest="abc").key
    assert replace(here, init_digest="abc").key != replace(here, init_digest="abd").key


def test_a_float_run_does_not_depend_on_what_only_quantizers_have(configure: Configure) -> None:
    raw = configure("quantizer=fp", "init=scratch").raw

    def key(path: str, value: Any) -> str:
        return parse_config(changed(raw, path, value)).key

    mine = parse_config(raw).key
    for role in ("range", "scale", "clip", "attention", "quantizer"):
        assert key(f"recipe.optimizer.{role}.lr", 0.5) == key(f"recipe.optimizer.{role}.nesterov", True) == mine
    assert key("keep_float", []) == key("keep_float", ["first", "layer1.*"]) == key("init", "fp") == mine
    assert len({key(f"recipe.optimizer.{role}.lr", 0.5) for role in ("weight", "norm")} | {mine}) == 3
    assert configure("quantizer=fp").key == mine


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
    tree = configure("quantizer=daq", *words).raw
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
    (tmp_path / "config.yaml").write_text(to_yaml(config.raw))
    again = parse_config(load_yaml(tmp_path / "config.yaml"))
    assert again.key == config.key
    assert again.raw == config.raw


# Younger options


def test_younger_options_count_where_they_are_not_as_before(raw: dict[str, Any]) -> None:
    """At its usual value an option is not in the key, alone or with the others; every other value has its own key."""
    old = run_key(without_younger(raw))
    assert run_key(raw) == old
    for key in YOUNGER:
        tree = changed(raw, f"recipe.{key}", None)
        del tree["recipe"][key]
        assert run_key(tree) == old
    others = [("precision", "bfloat16"), ("precision", "float16"), ("accumulate", 2), ("accumulate", 4)]
    assert {key for key, _ in others} == set(YOUNGER)
    keys = [run_key(changed(raw, f"recipe.{key}", value)) for key, value in others]
    both = run_key(changed(changed(raw, "recipe.precision", "bfloat16"), "recipe.accumulate", 2))
    assert len({old, *keys, both}) == 6


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_the_younger_options_at_their_usual_value(configure: Configure, recipe: str) -> None:
    """So that finished runs of all recipes are found again."""
    found = configure(f"recipe={recipe}").recipe
    assert {key: getattr(found, key) for key in YOUNGER} == YOUNGER


@pytest.mark.parametrize("words", [(), ("quantizer=fp",), ("recipe.precision=bfloat16", "recipe.accumulate=2")])
def test_a_stored_run_is_given_the_younger_options_that_it_lacks(configure: Configure, words: tuple[str, ...]) -> None:
    """Those it has stay, the tree at hand too; read back, an old run has the key that it had."""
    raw = dict(configure(*words).raw)
    assert with_younger_options(raw) == raw
    old = without_younger(raw)
    before = json.dumps(old)
    filled = with_younger_options(old)
    assert json.dumps(old) == before
    assert filled["recipe"] == {**old["recipe"], "precision": "float32", "accumulate": 1}
    assert parse_config(filled).key == run_key(normalized(old))
    with pytest.raises(Invalid) as caught:
        parse_config(old)
    assert {problem.key for problem in caught.value.problems} == {"recipe.precision", "recipe.accumulate"}


def test_how_a_run_is_computed_is_not_part_of_its_key(configure: Configure) -> None:
    """Compiled, in another memory layout, quantized again in the backward pass: the same run."""
    words = ("compile=true", "channels_last=false", "recompute=true")
    assert {configure(*some).key for some in ((), words, *((word,) for word in words))} == {configure().key}
    config = configure(*words)
    assert (config.compile, config.channels_last, config.recompute) == (True, False, True)


@pytest.mark.parametrize("precision", ["float64", "half", 16, None])
def test_other_precisions_are_refused(raw: dict[str, Any], precision: Any) -> None:
    with pytest.raises(Invalid) as caught:
        parse_config(changed(raw, "recipe.precision", precision))
    (problem,) = caught.value.problems
    assert problem.key == "recipe.precision"
    assert problem.message.startswith("must be one of float32, bfloat16, float16")


def test_parts_of_a_batch_have_two_images_or_more(configure: Configure) -> None:
    """32 parts of 64 images are accepted, 33 are not; a batch of one is one part, as always."""
    for size, parts in ((64, 32), (65, 32), (2, 1), (1, 1)):
        check_accumulate(configure(f"recipe.batch_size={size}", f"recipe.accumulate={parts}").recipe)
    for size, parts, needed in ((64, 33, 66), (63, 32, 64), (3, 2, 4), (1, 2, 4)):
        expected = (
            f"recipe.accumulate={parts}: parts of two images or more need a recipe.batch_size of {needed} or more, "
            f"not {size}"
        )
        with pytest.raises(UsageError) as caught:
            check_accumulate(configure(f"recipe.batch_size={size}", f"recipe.accumulate={parts}").recipe)
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


@pytest.mark.parametrize(
    ("key", "meant"), [("accumulate", "recipe.accumulate"), ("epochs", "recipe.epochs"), ("tensorboard", "tracking.")]
)
def test_an_option_without_its_group_is_recognized(raw: dict[str, Any], key: str, meant: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_config({**raw, key: 2})
    (problem,) = caught.value.problems
    assert problem.key == key
    assert f"did you mean '{meant}" in problem.message
