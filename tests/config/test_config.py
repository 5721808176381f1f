"""The typed configuration, and the key that says whether two commands compute the same."""

from typing import Any

import pytest

from qexp import runs
from qexp.config.config import (
    Config,
    parse_config,
)
from qexp.config.schema import Invalid
from support.commands import Configure
from support.trees import changed

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
    assert named == set(Config.__dataclass_fields__) - {"tree", "start_digest", "widths_of"}


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


@pytest.mark.parametrize("precision", ["float64", "half", 16, None])
def test_other_precisions_are_refused(raw: dict[str, Any], precision: Any) -> None:
    with pytest.raises(Invalid) as caught:
        parse_config(changed(raw, "recipe.precision", precision))
    (problem,) = caught.value.problems
    assert problem.key == "recipe.precision"
    assert problem.message.startswith("must be one of float32, bfloat16, float16")


@pytest.mark.parametrize(
    ("key", "meant"), [("accumulate", "recipe.accumulate"), ("epochs", "recipe.epochs"), ("tensorboard", "tracking.")]
)
def test_an_option_without_its_group_is_recognized(raw: dict[str, Any], key: str, meant: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_config({**raw, key: 2})
    (problem,) = caught.value.problems
    assert problem.key == key
    assert f"did you mean '{meant}" in problem.message
