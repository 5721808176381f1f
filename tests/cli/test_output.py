"""A training whose output nobody takes."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qexp import runs
from qexp.cli.output import Lasting, exit_code, lasting_output
from support.commands import STE, TINY

QEXP = (sys.executable, "-m", "qexp")
ONE = ("train", *TINY, *STE, "recipe.epochs=2", "tracking.tensorboard=false")


class Full(io.StringIO):
    """Takes three letters."""

    def write(self, text: str) -> int:
        if self.tell() + len(text) > 3:
            raise OSError(errno.ENOSPC, "full")
        return super().write(text)


def test_what_does_not_fit_is_dropped() -> None:
    stream = Full()
    lasting = Lasting(stream)
    for letter in "abcdef":
        assert lasting.write(letter) == 1
    lasting.flush()
    assert stream.getvalue() == "abc"
    assert lasting.error is not None


@pytest.mark.parametrize(("number", "code"), [(None, 0), (errno.EPIPE, 0), (errno.ENOSPC, 1)])
def test_lost_output_is_told_unless_its_reader_left(
    capsys: pytest.CaptureFixture, number: int | None, code: int
) -> None:
    output = Lasting(io.StringIO())
    output.error = None if number is None else OSError(number, "")
    assert exit_code(output, 0) == code
    assert exit_code(output, 4) == 4
    assert ("No space left on device" in capsys.readouterr().err) == bool(code)


def test_the_streams_come_back() -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyError), lasting_output():
        raise KeyError
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.process
@pytest.mark.parametrize("where", ["/dev/full", "closed", "| head -1", "| true", "ascii"])
def test_a_training_ends_whatever_becomes_of_its_output(tmp_path: Path, where: str) -> None:
    """Its run is done, and the exit code is 0 unless what it printed is lost on a full disk."""
    store = tmp_path / ("störe" if where == "ascii" else "store")
    ending = {"/dev/full": ">/dev/full", "closed": ">&- 2>&-", "ascii": ""}.get(where, where)
    words = " ".join([*QEXP, *ONE])
    environment = (
        os.environ
        | {"QEXP_RUNS": str(store)}
        | ({"PYTHONIOENCODING": "ascii", "LC_ALL": "C"} if where == "ascii" else {})
    )
    command = ["bash", "-o", "pipefail", "-c", f"{words} {ending}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if where == "/dev/full" else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    (status,) = store.glob("*/*/*/*/status.json")
    assert runs.state_of(status.parent) == "done"


@pytest.mark.process
def test_a_list_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{' '.join(QEXP)} --help >/dev/full", shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "qexp: error: what was printed is lost: No space left on device\n")
