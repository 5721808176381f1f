"""The `qexp` command: finds the subcommand, and turns every error into one line and an exit code."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType

import qexp
from qexp.cli.output import exit_code, lasting_output
from qexp.config.trust import error_in_own_code, trusting
from qexp.utils.errors import Interrupted, QexpError, UsageError
from qexp.utils.signals import handling
from qexp.utils.text import one_line, printable, suggest

HELP = """\
qexp: quantization-aware training, from a table in a paper to the same table with your own numbers in it

  qexp train [key=value ...]       train one network; -m trains every combination of the given values
  qexp eval RUN [key=value ...]    evaluate a finished run again: soft, hard, on other data or another device
  qexp table [TABLE]               a paper's table with your numbers in it; --run trains what is missing
  qexp runs [TEXT ...]             list the runs in the store, or means; runs show, compare, tensorboard, rm
  qexp plot FIGURE [...]           draw a figure of a method, a run or several; --help lists them
  qexp report WHAT [--to FILE]     one HTML file for a run, a selection of runs, a sweep or a table
  qexp models [NAME]               the networks; --coverage: which of their layers are quantized, and why not
  qexp new KIND NAME               a method, model, data set or table of your own: a small package with a test
  qexp doctor                      check the installation, the devices and the folders
  qexp completion SHELL            what lets bash, zsh or fish complete all these words

  qexp COMMAND --help              more on a command;  qexp train --help lists every option
  qexp --version

Examples
  qexp train quantizer=daq bits=2
  qexp train -m quantizer=ste,br,dqa,daq bits=2,4,8
  qexp train dataset=cifar10 model=resnet20 quantizer=daq bits=2 protocol=short model.width=1
  qexp eval ihlhmgdn checkpoint=best
  qexp table dqa/1 --run --protocol smoke
  qexp runs tensorboard

Exit codes: 0 all went well; 1 a run failed; 2 wrong command, option, data or device, nothing was created;
3 a sweep with failures; 4 the run diverged; 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

COMMANDS = ("train", "eval", "table", "runs", "plot", "report", "models", "new", "doctor", "completion")
RUN_CODE = ("train", "eval", "table", "plot", "report", "models")  # of the user's own, where `trust=` names its package


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name, debug = (words or ["help"])[0], "--debug" in words
    words = [word for word in words[1:] if word != "--debug"]
    with lasting_output() as output:
        try:
            if name not in COMMANDS:
                code = _answer(name)
            else:
                command: Callable[..., int] = import_module(f"qexp.cli.{name}").main
                os.environ["QEXP_DEBUG"] = "1" if debug else ""
                takes_trust = name in RUN_CODE
                with handling(_leave), trusting(words, takes_words=takes_trust) as rest, _own_errors_in_a_line():
                    code = command(rest, debug=debug)
        except QexpError as error:
            if debug:
                traceback.print_exc()
            print(f"qexp {name}: error: {one_line(str(error), 900)}", file=sys.stderr)
            code = error.exit_code
        except (KeyboardInterrupt, Interrupted) as error:
            trains = name == "train" or (name == "table" and "--run" in words and "--dry-run" not in words)
            print(f"qexp {name}: interrupted{'; the same command resumes it' * trains}", file=sys.stderr)
            code = error.exit_code if isinstance(error, Interrupted) else 130
        output.flush()
        return exit_code(output, code)


@contextmanager
def _own_errors_in_a_line() -> Iterator[None]:
    """Let what the user's own code raises be one line; all else that is none of ours is a mistake of qexp's."""
    try:
        yield
    except QexpError:
        raise
    except (Exception, SystemExit) as error:
        if (found := error_in_own_code(error)) is None:
            raise
        raise UsageError(found) from error


def _answer(word: str) -> int:
    """Answer a first word that is no command."""
    if word in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if word in ("-V", "--version"):
        print(f"qexp {qexp.__version__}")
        return 0
    listed = ", ".join(COMMANDS)
    print(f"qexp: error: no command '{printable(word)}'{suggest(word, COMMANDS)}; there are {listed}", file=sys.stderr)
    return UsageError.exit_code


def _leave(number: int, frame: FrameType | None) -> None:
    """Heed a signal where nothing is to be saved; a run has a handler of its own."""
    raise Interrupted(number)
