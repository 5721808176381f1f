"""The commands from outside: help, exit codes, what a run leaves behind, and the commands that read it."""

import subprocess
import sys
from pathlib import Path

import pytest

import qexp as package
from support.commands import Qexp, Sweep

# The command itself


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_help_names_all_commands_and_exit_codes(qexp: Qexp, words: tuple[str, ...]) -> None:
    result = qexp(*words)
    assert (result.code, result.err) == (0, "")
    for part in ("qexp train", "qexp eval RUN", "qexp runs", "qexp doctor", "130 and 143"):
        assert part in result.out
    assert max(map(len, result.out.splitlines())) <= 120


def test_version(qexp: Qexp) -> None:
    assert qexp("--version").out == f"qexp {package.__version__}\n"


@pytest.mark.parametrize(("word", "hint"), [("trian", "did you mean 'train'?"), ("evall", "'eval'"), ("x", "train,")])
def test_an_unknown_command_is_refused_with_a_suggestion(qexp: Qexp, word: str, hint: str) -> None:
    result = qexp(word, "bits=2")
    (line,) = result.errors
    assert (result.code, result.out) == (2, "")
    assert line.startswith(f"qexp: error: no command '{word}'")
    assert hint in line


def test_an_unknown_command_does_not_reach_the_terminal_as_it_is(qexp: Qexp) -> None:
    (line,) = qexp("\x1b[31mred\u202e").errors
    assert line.startswith("qexp: error: no command '?[31mred?'; there are train,")


@pytest.mark.parametrize("command", ["eval", "table", "runs", "report", "plot", "doctor"])
def test_every_command_has_help(qexp: Qexp, command: str) -> None:
    result = qexp(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"usage: qexp {command} ")


NO_TORCH = """
import sys
from qexp.cli.main import main
assert main(["--help"]) == 0
assert not {"torch", "numpy", "hydra", "omegaconf", "rich"} & set(sys.modules), "help imports too much"
assert main(["train", "bits=99"]) == 2
assert main(["train", "--cfg", "job"]) == 0
assert main(["train", "--help"]) == 0
assert main(["runs"]) == 0
assert "torch" not in sys.modules, "torch is imported before anything trains"
"""


@pytest.mark.process
def test_help_and_mistakes_do_not_wait_for_torch(workspace: Path) -> None:
    subprocess.run([sys.executable, "-c", NO_TORCH], check=True, capture_output=True)


@pytest.mark.process
def test_the_installed_script_and_the_module_are_the_same_command(workspace: Path) -> None:
    for command in ([str(Path(sys.executable).parent / "qexp")], [sys.executable, "-m", "qexp"]):
        found = subprocess.run([*command, "trian"], capture_output=True, text=True)
        assert (found.returncode, found.stdout) == (2, "")
        assert found.stderr.startswith("qexp: error: no command 'trian'")


def test_a_reader_that_leaves_is_no_error(sweep: Sweep) -> None:
    """`qexp runs | head` ends quietly."""
    command = [sys.executable, "-m", "qexp", "runs", "--runs-dir", str(sweep.store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
