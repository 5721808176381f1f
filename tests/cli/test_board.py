"""The live table of a sweep: what it makes of its jobs, and a terminal that shows it."""

import io
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch

from qexp import runs
from qexp.cli import table
from qexp.cli.board import JobTable
from qexp.cli.live import is_live
from qexp.cli.progress import Plan
from qexp.config.config import Config
from qexp.engine.train_state import TrainState
from qexp.experiment.runner import RunOutcome
from qexp.tracking import make_progress
from qexp.utils.callback import EpochRecord, Metrics, StepRecord
from qexp.utils.printing import mention, say
from support.commands import INTERRUPTED, STE, STOPPING, TINY, Configure, Sweep
from support.papers import make_folder
from support.screens import Terminal

SWEEP = ("train", "-m", *TINY, "tracking.tensorboard=false", "init=scratch", "bits=2")
HEADER = re.compile(r"^  job +state +epoch +top-1 +time$", re.MULTILINE)


def record(epoch: int, top1: float | None) -> EpochRecord:
    hard = None if top1 is None else Metrics(1.0, top1, 99.0, 100)
    return EpochRecord(epoch, 4, Metrics(1.0, 50.0, 90.0, 100), 0.0, hard, hard, {}, 1.0, 100.0)


def step(number: int) -> StepRecord:
    return StepRecord(number, 8, (number - 1) // 2, 64, torch.tensor(0.5), {})


@pytest.fixture
def jobs(configure: Configure) -> list[Config]:
    return [configure(*TINY, "quantizer=ste", "init=fp", f"seed={seed}") for seed in (0, 1)]


@pytest.fixture
def shown(workspace: Path) -> JobTable:
    """A table of two jobs, on no terminal."""
    found = JobTable(Plan(["ste  seed 0", "ste  seed 1"], [], 0.0), ["ste seed 0", "ste seed 1"], stderr=False)
    found.console.file = io.StringIO()
    return found


def lines(shown: JobTable) -> list[str]:
    return [line.strip() for line in shown.frame(80, 24).plain.splitlines()[3:]]


def test_a_job_goes_from_its_float_net_to_its_end(shown: JobTable, jobs: list[Config]) -> None:
    shown.begin(0, jobs[0])
    assert lines(shown) == ["ste seed 0   running", "ste seed 1   to come", "2 jobs: 1 running, 1 to come"]
    make_progress(shown.console, path=Path("its/float/net"), epochs=4, steps=8).epoch(record(1, 40.0), torch.nn.ReLU())
    assert lines(shown)[0].split() == ["ste", "seed", "0", "float", "net", "1/4", "40.00", "%"]
    own = make_progress(shown.console, path=runs.run_directory(jobs[0]), epochs=4, steps=8)
    assert lines(shown)[0].split() == ["ste", "seed", "0", "running", "0/4"]
    shown.began -= 6.0
    for number in (3, 4):
        own.step(step(number))
        own._gauge.shown -= 1.0  # type: ignore[attr-defined]
        own._first = own._first[0], own._first[1] - 3.0  # type: ignore[attr-defined]
    own.step(step(5))
    own.epoch(record(2, 61.25), torch.nn.ReLU())
    own.epoch(record(3, None), torch.nn.ReLU())
    assert lines(shown)[0].split() == ["ste", "seed", "0", "running", "3/4", "61.25", "%", "9", "s", "left"]
    assert re.fullmatch(r"━{12}─{8}  62 %   loss 0.500   \d+ images/s", lines(shown)[2])
    assert lines(shown)[3] == "2 jobs: 1 running, 1 to come; about 24 s left"  # 9, and 15 as this one takes
    own.after_norm(record(4, 62.0))
    assert "62.00 %" in lines(shown)[0]
    shown.end(RunOutcome("done", "x", {"top1_hard": 63.0, "epochs": 4}))
    assert lines(shown)[0].split() == ["ste", "seed", "0", "done", "4/4", "63.00", "%", "6", "s"]
    assert lines(shown)[-1] == "2 jobs: 1 done, 1 to come"


@pytest.mark.parametrize("state", ["skipped", "locked", "interrupted", "failed", "diverged"])
def test_every_end_of_a_job_has_its_row(shown: JobTable, jobs: list[Config], state: str) -> None:
    summary = {"top1_hard": 50.0, "epochs": 4, "epochs_trained": 3} if state == "skipped" else None
    shown.begin(1, jobs[1])
    shown.end(RunOutcome(state, "x", summary, "why"))  # type: ignore[arg-type]
    row = lines(shown)[1].split()
    assert row[3] == state
    assert row[4:] == {"skipped": ["3/4", "50.00", "%"], "locked": []}.get(state, ["0", "s"])
    assert lines(shown)[-1] == f"2 jobs: 1 {state}, 1 to come"


def test_what_is_said_stands_below_the_name_of_its_job_and_what_the_table_shows_is_not(
    shown: JobTable, jobs: list[Config]
) -> None:
    shown.begin(0, jobs[0])
    mention(shown.console, "ste -> runs/x")
    mention(shown.console, "quantized: all", once=True)
    say(shown.console, "warning: [b]x[/b]")
    shown.begin(1, jobs[1])
    mention(shown.console, "quantized: all", once=True)
    assert shown.console.file.getvalue() == "\n1 of 2  ste  seed 0\nquantized: all\nwarning: [b]x[/b]\n"  # type: ignore[attr-defined]


# On a terminal


@pytest.fixture
def terminals(workspace: Path) -> Iterator[Callable[..., Terminal]]:
    """`terminals(*words)` is a command on a terminal."""
    found: list[Terminal] = []

    def start(*words: str, **options: object) -> Terminal:
        found.append(Terminal(*words, **options))  # type: ignore[arg-type]
        return found[-1]

    yield start
    for one in found:
        one.close()


@pytest.mark.process
def test_a_sweep_is_one_table_and_then_its_closing_report(terminals: Callable[..., Terminal]) -> None:
    terminal = terminals(*SWEEP, "quantizer=ste,daq", "recipe.epochs=3", "recipe.schedule.milestones=[0.5,0.75]")
    text = terminal.wait_for(lambda text: "1 done, 1 running" in text)
    assert len(HEADER.findall(text)) == 1
    assert not terminal.screen.has_cursor
    assert re.search(r"^  ste W2A2 seed 0   done +3/3 +\d+\.\d\d % +\d+ s$", text, re.MULTILINE)
    text = terminal.end()
    assert (terminal.code, terminal.screen.has_cursor) == (0, True)
    assert not HEADER.search(text)
    assert "epoch 1/3" not in terminal.written
    assert "\n1 of 2  ste W2A2  seed 0\nquantized: 18 W2A2 of 20 layers" in text
    assert text.count("quantized: ") == 1
    assert "2 runs: synthetic, resnet20 x0.25, protocol paper" in text
    assert text.endswith("2 jobs: 2 done")


@pytest.mark.process
def test_ctrl_c_leaves_a_clean_terminal_and_the_same_command_goes_on(terminals: Callable[..., Terminal]) -> None:
    words = (*SWEEP, "quantizer=ste,daq", "recipe.epochs=400")
    terminal = terminals(*words)
    terminal.wait_for(lambda text: re.search(r"running +[1-9]\d*/400", text))
    terminal.type(b"\x03")
    text = terminal.end()
    assert (terminal.code, terminal.screen.has_cursor) == (130, True)
    assert f"SIGINT: {STOPPING}" in " ".join(text.split())
    assert not HEADER.search(text)
    assert "2 jobs: 1 interrupted, 1 not run" in text
    assert text.endswith(INTERRUPTED)
    again = terminals(*words)
    text = again.wait_for(lambda text: "resuming at step" in text and re.search(r"running +[1-9]\d*/400", text))
    assert text.index("1 of 2  ste W2A2  seed 0") < text.index("resuming at step") < text.index("  job  ")


@pytest.mark.process
def test_failures_and_warnings_stand_above_the_table(terminals: Callable[..., Terminal]) -> None:
    """The first job diverges at once; the second waits before its first step, so that the table is seen meanwhile."""
    small = workspace_table("fp,ste", "init=scratch", "recipe.epochs=300", "recipe.optimizer.weight.lr=1e30")
    begin = TrainState.begin_epoch

    def slowly(state: TrainState) -> None:
        time.sleep(3)
        begin(state)

    def action() -> int:
        with mock.patch.object(TrainState, "begin_epoch", slowly):
            return small()

    text = terminals(action=action).wait_for(lambda text: "1 diverged, 1 running" in text)
    assert text.index("qexp table: fp, seed 0, diverged: ") < text.index("  job  ")
    assert len(HEADER.findall(text)) == 1


def workspace_table(rows: str, *words: str) -> Callable[[], int]:
    """What trains rows of a/small in this folder."""
    folder = make_folder(Path.cwd().parent)
    return lambda: table.main(["a/small", "--run", "--rows", rows, "--seeds", "0", *words], folder=folder)


@pytest.mark.process
def test_a_table_that_is_stopped_stays_on_the_screen(terminals: Callable[..., Terminal]) -> None:
    terminal = terminals(action=workspace_table("fp,ste", "recipe.epochs=400", "tracking.tensorboard=false"))
    terminal.wait_for(lambda text: re.search(r"fp seed 0 +running +[1-9]\d*/400", text))
    terminal.type(b"\x03")
    text = terminal.end()
    assert (terminal.code, terminal.screen.has_cursor) == (130, True)
    assert len(HEADER.findall(text)) == 1
    assert "2 jobs: 1 running, 1 to come" in text


@pytest.mark.training
def test_jobs_of_another_launcher_say_what_they_have_to_above_the_table(
    terminals: Callable[..., Terminal], finished: Path, joblib_launcher: tuple[str, ...]
) -> None:
    words = (*TINY, "recipe.epochs=1", "tracking.tensorboard=false", *STE, "firmness=true")
    terminal = terminals("train", "-m", *words, *joblib_launcher, "seed=0", "tracking.step_interval=1,2", height=40)
    text = terminal.end()
    assert terminal.code == 0, text
    assert "firmness=true measures at the end of a training" in text
    assert "skipped: top-1" not in terminal.written
    assert text.endswith("2 jobs: 2 skipped")
    assert not Path("runs/.jobs").exists()


# Elsewhere


@pytest.mark.parametrize(
    ("is_terminal", "variables", "expected"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, True),
        (True, {"TERM": "dumb"}, False),
        (True, {"TERM": "xterm", "TTY_INTERACTIVE": "0"}, False),
        (False, {"TERM": "xterm", "FORCE_COLOR": "1"}, False),
    ],
)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_only_a_terminal_that_can_change_what_it_shows_has_a_table(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, variables: dict[str, str], expected: bool, stream: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(getattr(sys, stream), "isatty", lambda: is_terminal)
    assert is_live(stderr=stream == "stderr") is expected
    assert not is_live(stderr=stream != "stderr")


RUN = """\
epoch 1/2  loss N  train N %  test N %  N s  N images/s
epoch 2/2  loss N  train N %  test N %  N s  N images/s
"""
QUANTIZED = "quantized: 18 W2A2 of 20 layers, 98.4 % of their weights; float: conv1 (keep_float first), "
QUANTIZED += "linear (keep_float last)\n"
PLAIN = f"""
1 of 2  daq W2A2  seed 0
fp W32A32  resnet20 x0.25 on synthetic  seed 0  -> PATH
{RUN}float baseline trained: top-1 N %  PATH
daq W2A2  resnet20 x0.25 on synthetic  seed 0  -> PATH
{QUANTIZED}{RUN}done: top-1 N %  PATH

2 of 2  dqa W2A2  seed 0  (about N s left)
float baseline found: top-1 N %  PATH
dqa W2A2  resnet20 x0.25 on synthetic  seed 0  -> PATH
{QUANTIZED}{RUN}done: top-1 N %  PATH

2 runs: synthetic, resnet20 x0.25, protocol paper
"""


def test_a_pipe_has_the_lines_that_it_had_before_there_were_tables(sweep: Sweep) -> None:
    masked = re.sub(r"\S*/runs/\S+", "PATH", sweep.out)
    masked = re.sub(r"(loss|penalty|train|test|soft|top-1|about) +[\d.]+", r"\1 N", masked)
    masked = re.sub(r" [\d.,]+ (s|images/s)\b", r" N \1", masked)
    masked = re.sub(r" (soft|penalty) N|^warning: .*\n", "", masked, flags=re.MULTILINE)
    assert masked[: len(PLAIN)] == PLAIN
    assert sweep.out.endswith("\n2 jobs: 2 done\n")
    assert "\x1b" not in sweep.out
