"""`qexp plot`: the files it writes, both or none; what it refuses, and what it leaves alone."""

import csv
import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from qexp.cli import plot as module
from qexp.cli import report
from qexp.cli.plot import MOST_LETTERS, file_name
from qexp.figures import Chart
from qexp.figures.drawing import Drawing
from qexp.report.catalogue import FIGURES
from support.commands import Qexp
from support.stored_runs import make

LONG = "a" * 300  # letters, more than any file system takes in a name


@pytest.fixture(autouse=True)
def _no_git(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is known without a process, but where a test is of that."""
    if not request.node.get_closest_marker("process"):
        monkeypatch.setattr(module, "git_state", lambda folder: {"commit": "c0ffee", "changes": None})


@pytest.fixture
def curves(workspace: Path) -> Path:
    """A run with two epochs, in ./runs."""
    path = make("daq-w2a2/s0-abcdefgh")
    lines = [{"epoch": at, "train": {"loss": 1 / at, "top1": 50.0}, "hard": {"top1": 40.0}} for at in (1, 2)]
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn is nothing: a file that is known again, and holds what was to be drawn."""

    def drawn(chart: Chart, kind: str, *, source: dict[str, str]) -> Drawing:
        return Drawing(f"{kind} <dc:description>command: {source['command']}</dc:description>{chart}".encode(), ())

    monkeypatch.setattr(module, "render", drawn)


def left() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


# What is written


def test_a_figure_and_its_numbers_are_written_the_same_each_time(qexp: Qexp, curves: Path) -> None:
    result = qexp("plot", "curves", "daq", "--to", "a.svg")
    assert (result.code, result.err) == (0, "")
    assert result.out == "drawn: a.svg, its numbers: a.csv\n"
    first = left()
    assert set(first) == {"a.svg", "a.csv"}
    rows = list(csv.DictReader(first["a.csv"].decode().splitlines()))
    assert [(row["x"], row["y"]) for row in rows if row["panel"] == "loss in training"] == [("1", "1.0"), ("2", "0.5")]
    assert qexp("plot", "curves", "daq", "--to", "a.svg").code == 0
    assert left() == first


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("end", ["svg", "pdf", "png", "PDF"])
def test_the_end_of_the_name_says_the_format(qexp: Qexp, curves: Path, end: str) -> None:
    assert qexp("plot", "curves", "--to", f"a.{end}").code == 0
    assert left()[f"a.{end}"].startswith(f"{end.lower()} ".encode())
    assert set(left()) == {f"a.{end}", "a.csv"}


@pytest.mark.usefixtures("plain")
def test_without_a_name_it_is_called_by_its_words(qexp: Qexp, curves: Path) -> None:
    assert qexp("plot", "curves", "daq", "seed=0", "--runs-dir", "runs").code == 0
    assert set(left()) == {"curves-daq-seed=0.svg", "curves-daq-seed=0.csv"}


def test_the_file_tells_its_command_and_commit_and_no_place_of_this_machine(qexp: Qexp, curves: Path) -> None:
    store = str(Path("runs").absolute())
    assert qexp("plot", "curves", "da q"[:2], f"--runs-dir={store}", "--data-dir", store, "--to", "a.svg").code == 0
    text = left()["a.svg"].decode()
    assert "<dc:description>command: qexp plot curves da; commit: c0ffee</dc:description>" in text
    assert store not in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["curves"], "curves"),
        (["bits", "x=size", "seed=0,1"], "bits-x=size-seed=0,1"),
        (["curves", "runs/digits/resnet18/daq-w2a2/s0-abcdefgh/"], "curves-s0-abcdefgh"),
        (["curves", "../../etc/passwd", "..", "/"], "curves-passwd-.."),
        (["curves", "\x1b[31m\n", "a b", "é", "", "-rf"], "curves-31m-a-b-rf"),
    ],
)
def test_names_are_plain_whatever_the_words_are(words: list[str], expected: str) -> None:
    assert file_name(words) == expected


def test_long_names_are_cut_and_differ() -> None:
    first, second = (file_name(["curves", f"{'x' * 300}{end}"]) for end in "ab")
    assert first != second
    assert max(len(first), len(second)) <= MOST_LETTERS + 9


@pytest.mark.process
def test_the_commit_is_that_of_the_checkout(qexp: Qexp, curves: Path) -> None:
    folder = Path(module.__file__).parents[2]
    found = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert qexp("plot", "curves", "--to", "a.svg").code == 0
    expected = found.stdout.strip() if found.returncode == 0 else "commit not known"
    assert expected in left()["a.svg"].decode()


# What is left alone


@pytest.mark.usefixtures("plain")
def test_own_files_are_replaced_and_others_are_not(qexp: Qexp, curves: Path) -> None:
    assert qexp("plot", "curves", "--to", "a.svg").code == 0
    before = left()
    for name, content in (("a.svg", b"<svg/>"), ("a.csv", b"my,table\n")):
        Path(name).write_bytes(content)
        result = qexp("plot", "curves", "--to", "a.svg")
        assert (result.code, result.out) == (2, "")
        assert result.errors == [
            f"qexp plot: error: cannot write {name}: it is there, and not made by qexp plot; --to names another"
        ]
        assert left() == {**before, name: content}
        Path(name).write_bytes(before[name])
    assert qexp("plot", "curves", "--to", "a.svg").code == 0
    assert left() == before


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("failing", ["a.svg", "a.csv"])
def test_both_files_are_written_or_none(
    qexp: Qexp, curves: Path, monkeypatch: pytest.MonkeyPatch, failing: str, before: bool
) -> None:
    if before:
        assert qexp("plot", "curves", "--to", "a.svg").code == 0
    old, replace = left(), os.replace
    lines = (curves / "metrics.jsonl").read_text().replace("0.5", "0.25")
    (curves / "metrics.jsonl").write_text(lines)

    def full(source: Path, target: Path) -> None:
        if Path(target).name == failing and not (before and Path(source).read_bytes() == old[failing]):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    result = qexp("plot", "curves", "--to", "a.svg")
    assert (result.code, result.out) == (1, "")
    assert result.errors == [
        f"qexp plot: error: cannot write {failing}: No space left on device; make space and run the same command again"
    ]
    assert left() == old


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "which figure? transfer, error, "),
        (["curvs"], "no figure 'curvs' (did you mean 'curves'?); there are"),
        (["curves", "--to", ""], "--to: names nothing"),
        (["curves", "--to", "a"], "--to a: must end in .svg, .pdf, .png"),
        (["curves", "--to", "a.jpg"], "--to a.jpg: must end in .svg, .pdf, .png"),
        (["curves", "--to", "a.csv"], "--to a.csv: must end in"),
        (["curves", "--to", "."], "--to .: must end in"),
        (["curves", "--to", "no/a.svg"], "--to no/a.svg: there is no folder no"),
        (["curves", "--to", "runs/a.svg/"], "cannot write runs/a.svg: it is no regular file"),
        (["curves", "--to", "pipe.svg"], "cannot write pipe.svg: it is no regular file"),
        (["curves", "--to", f"{'x' * 300}.svg"], "File name too long"),
        (["curves", "--to", "~nobody9/a.svg"], "--to ~nobody9/a.svg: "),
        (["curves", "--to", "a\x00.svg"], "--to a\\x00.svg: holds control characters"),
        (["curves", "--to", "a\n.svg", "--foo"], "unrecognized arguments: --foo (qexp plot --help)"),
        (["curves", "nosuch"], "'nosuch': no run in runs has that in its path"),
        (["curves", "sed=0"], "no run in runs has 'sed' (did you mean 'seed'?)"),
        (
            ["bits", "intervall=t"],
            "'intervall': is no option of bits, and no run in runs has it (did you mean 'interval'?)",
        ),
        (["bits", "x=size", "x=bits"], "x=bits: x is given twice"),
        (["curves", "--runs-dir", "nowhere"], "no runs in nowhere; --runs-dir names another store"),
        (["weights", "abcdefgh"], "run abcdefgh has no last.pt: it is done"),
        (["gap"], "no quantizer gaps are recorded of run abcdefgh"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_line_and_nothing_is_written(
    qexp: Qexp, curves: Path, words: list[str], says: str
) -> None:
    Path("runs/a.svg").mkdir()
    os.mkfifo("pipe.svg")
    result = qexp("plot", *words)
    assert (result.code, result.out) == (2, "")
    (line,) = result.errors
    assert line.startswith("qexp plot: error: ")
    assert says in line
    assert left() == {}
    assert list(Path("runs/a.svg").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(qexp: Qexp, curves: Path) -> None:
    Path("closed").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    result = qexp("plot", "curves", "--to", "closed/a.svg")
    assert (result.code, result.errors) == (2, ["qexp plot: error: cannot write closed/a.svg: Permission denied"])


def test_without_matplotlib_it_says_what_to_install(qexp: Qexp, curves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = qexp("plot", "curves")
    assert (result.code, result.errors) == (
        2,
        ["qexp plot: error: figures need matplotlib: pip install 'qexp[plot]'"],
    )
    assert left() == {}


# Help


def test_help_lists_every_figure_with_its_options(qexp: Qexp) -> None:
    out = qexp("plot", "--help").out
    for one in FIGURES:
        assert f"  {one.name} " in out
        assert one.summary in out
        assert all(f"{key}=  {meaning}" in out for key, meaning in one.options.items())
    assert max(map(len, out.splitlines())) <= 120


NO_TORCH = """
import sys
from qexp.cli.main import main
assert main(["plot", "nosuch"]) == 2
try:
    main(["plot", "--help"])
finally:
    assert not {"torch", "numpy", "matplotlib"} & set(sys.modules), "plot imports too much"
"""


@pytest.mark.process
def test_help_and_mistakes_wait_for_neither_torch_nor_matplotlib(workspace: Path) -> None:
    found = subprocess.run([sys.executable, "-c", NO_TORCH], capture_output=True, text=True)
    assert (found.returncode, found.stdout[:17]) == (0, "usage: qexp plot "), found.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["plot", "curves", LONG],
        ["plot", "curves", f"seed={LONG}"],
        ["plot", "weights", LONG],
        ["plot", "curves", "--to", f"{LONG}/a.svg"],
        ["plot", "curves", "--runs-dir", LONG],
        ["report", LONG],
        ["report", "daq", "--to", f"{LONG}.html"],
        ["report", "daq", "--to", f"{LONG}/a.html"],
        ["report", "daq", "--to", "a\nb.html"],
        ["report", "daq", "--config-dir", LONG],
        ["report", "daq", "--runs-dir", LONG],
        ["runs", LONG],
        ["runs", "show", LONG],
        ["eval", LONG],
        ["train", f"init={LONG}"],
    ],
)
def test_a_word_longer_than_a_file_name_is_a_mistake_like_another(
    qexp: Qexp, curves: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(report, "git_state", lambda folder: None)
    result = qexp(*words)
    assert (result.code, result.out, len(result.errors)) == (2, "", 1)
    assert result.errors[0].startswith(f"qexp {words[0]}: error: ")
    assert left() == {}
