"""Shells complete the words of qexp: the replies, and what real shells make of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qexp.cli import candidates as module
from qexp.cli.candidates import candidates, said_values
from qexp.cli.listing import FORMATS
from qexp.cli.main import COMMANDS
from qexp.config.option_files import Option, read_options
from qexp.config.overrides import GROUPS
from qexp.config.places import choices, conf_dir
from qexp.runs.query import STATES
from qexp.runs.run_values import SHORT, WORDS
from support.commands import Qexp

REPLIES = [
    ("qexp tr", "train"),
    ("qexp train quantizer=", " ".join(f"quantizer={name}" for name in choices("quantizer"))),
    ("qexp train quantizer=ste,da", "quantizer=ste,daq"),
    ("qexp train -m rec", "recipe. recipe= recompute="),
    ("qexp train recipe.optimizer.weight.l", "recipe.optimizer.weight.lr="),
    ("qexp train quantizer=dqa quantizer.pen", "quantizer.penalty= quantizer.penalty_scale="),
    ("qexp train quantizer=daq quantizer.pen", ""),
    ("qexp train on_error=", "on_error=continue on_error=stop"),
    ("qexp train device=cuda:", "device=cuda:0"),
    ("qexp train overwrite=", "overwrite=false overwrite=true"),
    ("qexp train weight_bits=3", "weight_bits=3 weight_bits=32"),
    ("qexp train --cfg ", "all hydra job"),
    ("qexp train --dr", "--dry-run"),
    ("qexp table dqa", "dqa/1 dqa/2 dqa/3 dqa/4"),
    ("qexp table dqa/1 --protocol s", "short smoke"),
    ("qexp runs compa", "compare"),
    ("qexp runs show abc", "abcdefgh"),
    ("qexp runs --state done,f", "done,failed"),
    ("qexp runs --group quantizer,b", "quantizer,bits"),
    ("qexp eval abc", "abcdefgh"),
    ("qexp eval abcdefgh checkpoint=", "checkpoint=best checkpoint=last"),
    ("qexp plot cur", "curves"),
    ("qexp plot bits x", "x="),
    ("qexp plot bits x=b", "x=bits x=bops"),
    ("qexp plot weights abcdefgh checkpoint=", "checkpoint=best checkpoint=last"),
    ("qexp plot surface random norm=", "norm=batch norm=running"),
    ("qexp plot surface random dataset=cifar100", "dataset=cifar100"),
    ("qexp plot curves quantizer=da", "quantizer=daq"),
    ("qexp plot weights abc", "abcdefgh"),
    ("qexp plot weights ch", "channels_last= checkpoint. checkpoint="),
    ("qexp plot nosuch ", ""),
    ("qexp completion z", "zsh"),
    ("qexp mo", "models"),
    ("qexp models resnet20", "resnet20 resnet20_daq"),
    ("qexp train model=t", "model=timm model=torchvision"),
    ("qexp train model=torchvision model.", "model.network= model.pretrained="),
    (
        "qexp train model=timm model.pretrained=",
        "model.pretrained=default model.pretrained=null model.pretrained=ra_in1k",
    ),
    ("qexp models resnet20 --c", "--config-dir --coverage"),
    ("qexp new m", "method model"),
    ("qexp new model x --", "--debug --help --to"),
    ("qexp table --config-d", "--config-dir"),
    ("qexp runs --columns hash,g", "hash,gap"),
    ("qexp doctor x", ""),
    ("qexp nothing ", ""),
    ("qexp train 'quantizer=", ""),
    ("/usr/bin/qexp  train   quantizer=f", "quantizer=fp"),
]


def test_every_command_is_completed() -> None:
    assert candidates("qexp ") == [*sorted(COMMANDS), "--help", "--version"]


@pytest.mark.parametrize(("line", "expected"), REPLIES)
def test_a_line_is_completed(store: dict[str, Path], line: str, expected: str) -> None:
    assert candidates(line) == expected.split()


def test_every_option_of_every_choice_is_completed() -> None:
    for group in ("dataset", "model", "quantizer", "recipe"):
        for name in choices(group):
            keys = [one.key for one in read_options(conf_dir() / group / f"{name}.yaml", whole=True) if one.value]
            found = candidates(f"qexp train {group}={name} {group}.")
            assert found == sorted(f"{group}.{key}=" for key in keys)


@pytest.mark.parametrize(
    ("value", "comment", "expected"),
    [
        ("cosine", "cosine | step | constant", "cosine step constant"),
        ("minmax", "of inputs: minmax (running) | pact (learned clip)", "minmax pact"),
        ("continue", "with -m, after a job that failed: continue | stop", "continue stop"),
        ("${recipe.init}", "fp | scratch | a run (its hash) | a file", "fp scratch"),
        ("float32", "bfloat16 | float16: of the forward pass", "float32 bfloat16 float16"),
        ("false", "mirror images", "true false"),
        ("null", "null = all", "null"),
        ("[a, b]", "none", ""),
    ],
)
def test_values_are_those_that_a_line_names(value: str, comment: str, expected: str) -> None:
    assert said_values(Option("key", value, comment)) == expected.split()


@pytest.mark.parametrize("command", ["eval", "table", "runs", "report", "plot", "doctor", "completion"])
def test_flags_are_those_of_the_commands(qexp: Qexp, command: str) -> None:
    shown = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", qexp(command, "--help").out, re.MULTILINE))
    assert set(module.FLAGS[command]) - {"--debug"} == shown


def test_lists_are_those_of_the_modules_that_take_too_long_to_import() -> None:
    from hydra._internal.utils import get_args_parser

    hydras = {name for action in get_args_parser()._actions for name in action.option_strings}
    assert set(module.FLAGS["train"]) - {"--dry-run", "--debug"} <= hydras
    assert (module.GROUPS, module.STATES) == (GROUPS, STATES)
    assert set(module.NAMES) <= {*WORDS, *SHORT}
    assert module.FLAGS["runs"]["--format"] == FORMATS
    assert list(module.FLAGS["table"]["--protocol"]) == choices("protocol")


@pytest.mark.parametrize(
    "line",
    [
        "",
        " ",
        "qexp",
        "qexp train =",
        "qexp train a.b.c=",
        "qexp train quantizer=../x ",
        "qexp train quantizer=../x quantizer.",
        "qexp runs --runs-dir",
        "qexp train \x00=",
    ],
)
def test_odd_lines_are_answered_with_nothing_worse_than_silence(qexp: Qexp, line: str) -> None:
    result = qexp("completion", "reply", line)
    assert (result.code, result.err) == (0, "")
    assert not any("Error" in word for word in result.out.split())


def test_an_unknown_shell_is_refused(qexp: Qexp) -> None:
    result = qexp("completion", "fisch")
    assert (result.code, result.errors) == (
        2,
        ["qexp completion: error: fisch: must be bash, zsh, fish (did you mean 'fish'?)"],
    )


# Real shells


@pytest.fixture
def shell(store: dict[str, Path], qexp: Qexp, tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that finds qexp, and the scripts beside it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "qexp").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m qexp "$@"\n')
    (folder / "qexp").chmod(0o755)
    for name in ("bash", "zsh", "fish"):
        (folder / name).write_text(qexp("completion", name).out)
    package = Path(module.__file__).parents[2]
    paths = f"{folder}:{os.environ['PATH']}"
    return {**os.environ, "PATH": paths, "PYTHONPATH": str(package), "SCRIPTS": str(folder), "HOME": str(tmp_path)}


BASH = """
source "$SCRIPTS/bash"
COMP_LINE=$1 COMP_POINT=${#1}
COMP_WORDS=(qexp)
_qexp
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("line", "breaks", "expected"),
    [
        ("qexp tr", " =:", "train"),
        ("qexp train quantizer=d", " =:", "daq dqa dropbits"),
        ("qexp train quantizer=d", " ", "quantizer=daq quantizer=dqa quantizer=dropbits"),
        ("qexp train -m quantizer=ste,d", " =:", "ste,daq ste,dqa ste,dropbits"),
        ("qexp train recipe.optimizer.weight.lr", " =:", "recipe.optimizer.weight.lr="),
        ("qexp train device=cuda:", " =:", "0"),
        ("qexp train device=cuda:", " =", "cuda:0"),
        ("qexp table dqa/", " =:", "dqa/1 dqa/2 dqa/3 dqa/4"),
        ("qexp runs show abc", " =:", "abcdefgh"),
    ],
)
def test_bash_replaces_what_it_takes_for_a_word(shell: dict[str, str], line: str, breaks: str, expected: str) -> None:
    """It cuts words at the signs of COMP_WORDBREAKS, and a reply stands for the last piece alone."""
    words = ["bash", "--norc", "-c", f"COMP_WORDBREAKS='{breaks}'\n{BASH}", "bash", line]
    found = subprocess.run(words, env=shell, capture_output=True, text=True, check=True)
    assert found.stdout.split() == expected.split()


@pytest.mark.process
def test_zsh_is_given_whole_words(shell: dict[str, str]) -> None:
    if not shutil.which("zsh"):
        pytest.skip("there is no zsh")
    script = """
compdef() { : }
compadd() { print -r -- "compadd $*" }
source "$SCRIPTS/zsh"
words=(qexp train quantizer=d) CURRENT=3 PREFIX=quantizer=d
_qexp
words=(qexp train rec) PREFIX=rec
_qexp
"""
    found = subprocess.run(["zsh", "-f", "-c", script], env=shell, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [
        "compadd -Q -- quantizer=daq quantizer=dqa quantizer=dropbits",
        "compadd -Q -S  -- recipe. recipe= recompute=",
    ]


@pytest.mark.process
def test_fish_completes_a_line(shell: dict[str, str]) -> None:
    if not shutil.which("fish"):
        pytest.skip("there is no fish")
    script = 'source "$SCRIPTS/fish"; complete -C "qexp train quantizer=d"; complete -C "qexp runs show abc"'
    found = subprocess.run(["fish", "--no-config", "-c", script], env=shell, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["quantizer=daq", "quantizer=dqa", "quantizer=dropbits", "abcdefgh"]


NO_TORCH = """
import sys
from qexp.cli.main import main
assert main(["completion", "reply", "qexp train quantizer=dqa quantizer.pen"]) == 0
assert not {"torch", "numpy", "hydra", "omegaconf", "rich"} & set(sys.modules), sorted(sys.modules)
"""


@pytest.mark.process
def test_a_reply_imports_nothing_that_takes_long(workspace: Path) -> None:
    found = subprocess.run([sys.executable, "-c", NO_TORCH], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["quantizer.penalty=", "quantizer.penalty_scale="]
