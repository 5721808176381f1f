"""README's snippets are carried out, so that they stay true."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qexp.config.places import conf_dir

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """The text under a heading."""
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)[1]


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_library_use_runs():
    """A torchvision model is quantized and trained on in ten lines, without any configuration."""
    (code,) = blocks(section("Library use"), "python")
    assert len(code.strip().splitlines()) <= 10
    names: dict = {}
    exec(compile(code, "README", "exec"), names)
    assert torch.isfinite(names["loss"])
    layer = names["model"].layer1[0].conv1
    assert len(layer.weight_quantizer(layer.weight).unique()) == 4
    assert layer.weight.grad.abs().sum() > 0


# In a process of its own, which imports the package with the new method.
CARRY_OUT = """
import pytest
from qexp.cli.main import main
assert pytest.main(["-q", "tests", "-k", "clip", "-W", "error"]) == 0
quick = ["dataset=synthetic", "dataset.train_size=64", "model=resnet20", "recipe.epochs=1", "init=scratch"]
assert main(["train", "quantizer=clip", "bits=4", *quick]) == 0
assert main(["train", "quantizer=clip", "quantizer.deviations=-1"]) == 2
"""


def test_adding_a_quantizer_takes_three_files(tmp_path):
    """The section's files in a copy of the tree: its own test, the contract test at every bit-width, and a training."""
    text = section("Add a quantizer")
    files = re.findall(r"^`(\S+)`\n\n```\w+\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in files] == [
        "qexp/quantizers/clip.py",
        "conf/quantizer/clip.yaml",
        "tests/quantizers/test_clip.py",
    ]
    for folder in ("qexp", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("support/methods.py", "quantizers/test_contract.py"):
        (tmp_path / "tests" / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests" / name)
    for name, content in files:
        (tmp_path / name).write_text(content)

    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{tmp_path / 'tests'}"}
    command = [sys.executable, "-P", "-c", CARRY_OUT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 16 * 10
    assert "clip W4A4" in done.stdout
    assert done.stderr == "qexp train: error: quantizer.deviations=-1.0: must be greater than 0\n"


def test_the_example_of_a_wrong_command_is_what_is_printed(tmp_path, monkeypatch, capsys):
    """README shows the exact lines."""
    from qexp.cli.main import main

    monkeypatch.chdir(tmp_path)
    shown = next(block for block in blocks(README, "text") if block.startswith("$ qexp train quantiser"))
    command, _, expected = shown.partition("\n")
    assert main(command.split()[2:]) == 2
    assert capsys.readouterr().err == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("group", ["dataset", "model", "quantizer", "protocol"])
def test_the_table_of_groups_is_complete(group):
    """Every choice that exists is named in README."""
    row = re.search(rf"^\| `{group}` \|([^|]*)\|", README, re.MULTILINE)[1]
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
