"""`qexp train --help` says of each option what its YAML file says."""

from pathlib import Path

import pytest

from qexp.cli.option_help import meanings, with_meanings
from qexp.config.option_files import read_options
from qexp.config.places import conf_dir
from support.commands import Qexp

CHOICES = {"dataset": "digits", "model": "resnet18", "quantizer": "daq", "recipe": "digits", "protocol": "paper"}


def words(text: str) -> str:
    """The words of a page without their places and signs."""
    return " ".join(word for word in text.split() if word != "#")


@pytest.mark.parametrize("quantizer", ["daq", "dqa"])
def test_every_option_stands_with_its_meaning(qexp: Qexp, quantizer: str) -> None:
    result = qexp("train", "--help", f"quantizer={quantizer}")
    assert (result.code, result.err) == (0, "")
    shown = words(result.out)
    files = {**CHOICES, "quantizer": quantizer, "": "train"}
    for group, name in files.items():
        for option in read_options(conf_dir() / group / f"{name}.yaml"):
            if group != "protocol":
                assert option.comment, option
                assert words(option.comment) in shown, option
    assert list(Path().iterdir()) == []


def test_a_page_is_as_wide_as_the_terminal(qexp: Qexp, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    assert max(map(len, qexp("train", "--help").out.splitlines())) <= 120
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    options = qexp("train", "--help").out.partition("--cfg job prints")[2].partition("qexp's own")[0]
    assert max(map(len, options.splitlines()[1:])) <= 80


def test_values_are_those_of_the_command(qexp: Qexp) -> None:
    lines = qexp("train", "--help", "bits=3", "recipe.epochs=7").out.splitlines()
    assert any(line.startswith("weight_bits: 3   ") and line.endswith("# of the weights alone") for line in lines)
    assert any(line.startswith("  epochs: 7   ") for line in lines)


def test_options_of_the_users_own_folder_are_told_too(qexp: Qexp, tmp_path: Path) -> None:
    (tmp_path / "conf" / "quantizer").mkdir(parents=True)
    text = "_target_: qexp.quantizers.ste.STE\nname: mine\ndefault_bits: 4 # as I like it\ngrid: minmax\n"
    text += "activation_grid: minmax\nsawb: search\ngranularity: tensor\n"
    (tmp_path / "conf" / "quantizer" / "mine.yaml").write_text(text)
    out = qexp("train", "--help", f"--config-dir={tmp_path}/conf", "quantizer=mine").out
    assert any(line.split() == ["default_bits:", "4", "#", "as", "I", "like", "it"] for line in out.splitlines())
    assert "mine" in next(line for line in out.splitlines() if line.startswith("quantizer: "))


def test_long_comments_go_on_below_and_keys_keep_theirs() -> None:
    text = "a:\n  b: 1\n  c:\n  - x\nb: 2"
    lines = with_meanings(text, {"a.b": "one two three four five six", "b": "other"}, 60).splitlines()
    assert [line.split() for line in lines] == [
        ["a:"],
        ["b:", "1", "#", "one", "two", "three", "four"],
        ["#", "five", "six"],
        ["c:"],
        ["-", "x"],
        ["b:", "2", "#", "other"],
    ]
    assert {line.index("#") for line in lines if "#" in line} == {38}


def test_a_recipe_says_more_of_an_option_than_the_protocol_that_sets_it() -> None:
    found = meanings({**CHOICES, "protocol": "short"}, None)
    assert found["recipe.epochs"] == "over all training images"
    assert found["protocol"] == "its name, for the record"
