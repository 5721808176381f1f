"""A package outside of the tree, tests/own_package: trained, killed, resumed, evaluated, listed, tabled, swept."""

import csv
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from qexp.config.places import list_runs
from qexp.engine.step import Step
from support.commands import OnlyRun, Qexp
from support.crashes import Prepare, command, difference, kill_at, only_run, result, run_child
from support.pages import OWN_PACKAGE

PARTS = ("dataset=squares", "model=plain", "quantizer=fading", "init=scratch", "device=cpu")
UNTRUSTED = "of which nothing is run unless you name it"


def words(*more: str) -> tuple[str, ...]:
    return ("train", "--config-dir", "conf", "trust=homemade", *PARTS, *more)


def test_nothing_of_it_is_run_unless_it_is_named(qexp: Qexp, own: Path) -> None:
    result = qexp("train", "--config-dir", "conf", *PARTS)
    assert result.code == 2
    assert [line.partition(": is of")[0].removeprefix("qexp train: error: ") for line in result.errors] == [
        "dataset._target_=homemade.squares.Squares",
        "model._target_=homemade.plain.plain",
        "quantizer._target_=homemade.fading.Fading",
        "recipe.augment._target_=homemade.course.shift",
        "recipe.schedule.own._target_=homemade.course.sawtooth",
    ]
    assert all(line.endswith("unless you name it: trust=homemade") for line in result.errors)
    assert not [name for name in sys.modules if name.partition(".")[0] == "homemade"]
    assert not Path("runs").exists()


@pytest.mark.training
def test_it_is_trained_listed_shown_and_evaluated(
    qexp: Qexp, own: Path, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert qexp(*words()).code == 0
    path = only_run("fading")
    summary = json.loads((path / "summary.json").read_text())
    assert (summary["dataset"], summary["model"], summary["quantizer"]) == ("squares", "plain", "fading")
    assert summary["top1_hard"] > 80  # chance is 25
    for name in [name for name in sys.modules if name.partition(".")[0] == "homemade"]:
        del sys.modules[name]
    listed, shown = qexp("runs"), qexp("runs", "show", path.name.partition("-")[2])
    assert "homemade" not in sys.modules
    assert "fading W4A4" in listed.out or "fading-w4a4" in listed.out
    assert "own code         homemade, code" in shown.out
    hash_ = path.name.partition("-")[2]
    refused = qexp("eval", hash_)
    assert (refused.code, len(refused.errors)) == (2, 1)
    assert f"{path} uses homemade.squares.Squares, homemade.plain.plain, homemade.fading.Fading" in refused.err
    assert refused.err.endswith(f"qexp eval {hash_} trust=homemade\n")
    trusted = json.loads(qexp("eval", hash_, "trust=homemade", "--json").out)
    assert trusted["top1_hard"] == summary["top1_hard"]
    assert "code_changed" not in trusted
    monkeypatch.setenv("QEXP_TRUST", "others, homemade")
    assert qexp("eval", hash_).code == 0


@pytest.mark.process
def test_its_methods_have_transfer_functions(qexp: Qexp, own: Path) -> None:
    """Shrinking is the plain quantizer of weights with less of a range; `all` has both beside those of qexp."""
    drawn = ("plot", "transfer", "shrinking", "bits=2", "--config-dir", "conf")
    refused = qexp(*drawn)
    assert (refused.code, len(refused.errors)) == (2, 1)
    assert UNTRUSTED in refused.err
    assert not list(Path().glob("transfer*"))
    assert qexp(*drawn, "trust=homemade").code == 0
    rows = list(csv.DictReader(Path("transfer-shrinking-bits=2.csv").read_text().splitlines()))
    hard = {
        row["y"] for row in rows if row["series"] == "evaluated (hard)" and row["panel"].startswith("weights: value")
    }
    assert len(hard) == 4
    told = "command: qexp plot transfer shrinking bits=2 --config-dir conf;"
    assert told in Path("transfer-shrinking-bits=2.svg").read_text()
    wrong = qexp("plot", "transfer", "shrinkin", "--config-dir", "conf")
    assert (wrong.code, "did you mean 'shrinking'?" in wrong.err) == (2, True)
    assert "--config-dir nowhere: no such folder" in qexp("plot", "transfer", "daq", "--config-dir", "nowhere").err
    assert "bits=99: must be" in qexp(*drawn[:3], "bits=99", *drawn[4:], "trust=homemade").err


@pytest.mark.training
def test_a_report_has_the_command_that_repeats_it(
    qexp: Qexp, own: Path, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs are what runs of qexp's own recipe here have not, and their recipe has three; and it is checked."""
    assert qexp(*words("recipe.epochs=2", "tracking.tensorboard=false")).code == 0
    checked = "Checked: composed again, the command gives the hash of the run."
    assert qexp("report", "squares", "--config-dir", "conf", "--to", "untrusted.html").code == 0
    assert "of which nothing is run unless you name it: trust=homemade" in Path("untrusted.html").read_text()
    monkeypatch.setenv("QEXP_TRUST", "homemade")
    assert qexp("report", "squares", "--config-dir", "conf", "--to", "trusted.html").code == 0
    page = Path("trusted.html").read_text()
    assert checked in page
    (command,) = re.findall(r"qexp train --config-dir conf dataset=squares [^<]*", page)
    found = qexp(*shlex.split(command)[1:], "--dry-run", "trust=homemade")
    assert only_run("fading").name in found.out


@pytest.mark.training
def test_a_run_with_other_code_says_so(qexp: Qexp, own: Path, only_run: OnlyRun) -> None:
    """When it is evaluated, and when the same command finds it done."""
    assert qexp(*words("recipe.epochs=1")).code == 0
    path = only_run("fading")
    recorded = json.loads((path / "env.json").read_text())["own"]
    assert qexp(*words("recipe.epochs=1")).out.startswith("already done")
    with (own / "homemade" / "fading.py").open("a") as file:
        file.write("# another thought\n")
    told = f"warning: {path}: the code of homemade has changed since this run was trained; overwrite=true trains it"
    assert told in qexp(*words("recipe.epochs=1")).out
    assert "WARNING          the code of homemade has changed" in qexp("eval", str(path), "trust=homemade").out
    assert qexp(*words("recipe.epochs=1", "overwrite=true")).code == 0
    again = json.loads((path / "env.json").read_text())["own"]
    assert again["homemade"]["digest"] != recorded["homemade"]["digest"]
    assert qexp(*words("recipe.epochs=1")).out.startswith("already done")


@pytest.mark.training
def test_what_fails_in_a_run_is_told_with_its_place(qexp: Qexp, own: Path, only_run: OnlyRun) -> None:
    """A data set that cannot be read, in the run's one line, its status and its error.txt."""
    source = own / "homemade" / "squares.py"
    source.write_text(source.read_text().replace("return self._draw(128, 1)", "return [][3], self._draw(128, 1)"))
    failed = qexp(*words())
    assert failed.code == 1
    line = "homemade/squares.py, line 24: IndexError: list index out of range"
    assert line in failed.out + failed.err
    path = only_run("fading")
    assert json.loads((path / "status.json").read_text())["message"] == line
    assert "Traceback" in (path / "error.txt").read_text()


SAVES = ("checkpoint.steps=2", "recipe.batch_size=16")
MOMENTS: dict[str, Prepare] = {
    "in the middle of an epoch": kill_at(Step, "forward", 12),
    "at the end of one": kill_at(Step, "forward", 17),
}


@pytest.mark.training
@pytest.mark.process
def test_killed_and_resumed_it_ends_in_the_same_bits(own: Path, tmp_path: Path) -> None:
    folders = {name: tmp_path / name.replace(" ", "-") for name in ("alone", *MOMENTS)}
    for folder in folders.values():
        shutil.copytree(OWN_PACKAGE, folder)
    assert run_child(command(words(*SAVES)), folders["alone"]) == 0, (folders["alone"] / "log").read_text()
    expected = result(only_run(folders["alone"]))
    for moment, kill in MOMENTS.items():
        assert run_child(command(words(*SAVES)), folders[moment], kill) == -9
        assert run_child(command(words(*SAVES)), folders[moment]) == 0, (folders[moment] / "log").read_text()
        assert difference(expected, result(only_run(folders[moment]))) is None
        log = (folders[moment] / "log").read_text()
        assert "resuming at step" in log
        assert "has changed" not in log


@pytest.mark.training
@pytest.mark.process
def test_resumed_with_other_code_it_says_so(own: Path, tmp_path: Path) -> None:
    shutil.copytree(OWN_PACKAGE, folder := tmp_path / "changed")
    assert run_child(command(words(*SAVES)), folder, MOMENTS["in the middle of an epoch"]) == -9
    with (folder / "homemade" / "plain.py").open("a") as file:
        file.write("# another thought\n")
    assert run_child(command(words(*SAVES)), folder) == 0
    told = "warning: the code of homemade has changed since this run was begun; its result is of both"
    assert told in (folder / "log").read_text()


@pytest.mark.training
def test_its_table_is_trained_and_printed(qexp: Qexp, own: Path) -> None:
    flags = ("--config-dir", "conf", "homemade/1")
    assert "homemade/1" in qexp("table", "--config-dir", "conf").out
    assert UNTRUSTED in qexp("table", *flags).out
    refused = qexp("table", *flags, "--run")
    assert (refused.code, not Path("runs").exists()) == (2, True)
    assert [line.partition("  [")[2] for line in refused.errors] == [
        "fading4; --rows can leave them out]",
        "ste4; --rows can leave them out]",
    ]
    dry = qexp("table", *flags, "trust=homemade", "--dry-run", "device=cpu")
    row = "dataset=squares model=plain init=scratch quantizer=fading bits=4 device=cpu seed=0"
    assert f"qexp train --config-dir conf trust=homemade {row}\n" in dry.out
    done = qexp("table", *flags, "trust=homemade", "--run", "device=cpu", "recipe.epochs=1", "--format", "csv")
    assert done.code == 0, done.err
    rows = done.out.splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [["homemade/1", "fading4"], ["homemade/1", "ste4"]]
    assert all(",done" in row for row in rows[1:])
    assert len(list_runs(Path("runs"))) == 2


@pytest.mark.training
@pytest.mark.process
def test_processes_of_a_launcher_trust_it_too(qexp: Qexp, own: Path, joblib_launcher: tuple[str, ...]) -> None:
    done = qexp(*words("-m", *joblib_launcher, "recipe.epochs=1", "seed=0,1"))
    assert done.code == 0, done.err + done.out
    assert len(list(Path("runs").glob("squares/plain/fading-w4a4/*/summary.json"))) == 2
    assert "QEXP_TRUST" not in os.environ
