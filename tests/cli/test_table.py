"""`qexp table` from outside: what it prints, what it refuses, and the commands that it gives away."""

import csv
import io
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qexp import runs
from qexp.cli import table
from qexp.config.compose import composing
from qexp.config.places import conf_dir
from qexp.tables.duration import Speed
from qexp.tables.join import TableRequest
from qexp.utils.errors import Interrupted
from support.commands import Qexp, Result
from support.papers import SMALL, columns, fabricate, joined_table, rows_of

pytestmark = pytest.mark.thorough

# Printing


def test_help(qexp: Qexp) -> None:
    result = qexp("table", "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("usage: qexp table ")
    for option in ("--run", "--rows", "--seeds", "--protocol", "--format", "--dry-run"):
        assert option in result.out


def test_without_a_name_all_tables_are_listed(folder: Path, workspace: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "more.yaml").write_text(SMALL.replace("Two nets", "Three nets"))
    for form in ("csv", "md", "text"):
        assert table.main(["--format", form], folder=folder) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[:7] == [
        "table,title,rows,done,citation",
        "a/small,Two nets,4,0,Somebody 2020",
        "more,Three nets,4,0,Somebody 2020",
        "| table | title | rows | done | citation |",
        "| --- | --- | ---: | ---: | --- |",
        "| a/small | Two nets | 4 | 0 | Somebody 2020 |",
        "| more | Three nets | 4 | 0 | Somebody 2020 |",
    ]
    assert columns(out.splitlines()[-2]) == ["more", "Three nets", "4", "0", "Somebody 2020"]
    assert list(workspace.iterdir()) == []
    finish(folder, "ste", 80.0, 81.0)
    assert table.main(["--format", "csv"], folder=folder) == 0
    assert "a/small,Two nets,4,1,Somebody 2020" in capsys.readouterr().out


def finish(folder: Path, key: str, *tops: float, overrides: tuple[str, ...] = ()) -> None:
    """Fabricate finished runs of a row of a/small, one per seed from 0."""
    joined = joined_table(folder, "a/small", TableRequest(key, None, "paper", overrides))
    for run, top1 in zip(joined.lines[0].runs, tops, strict=False):
        fabricate(run.path, top1, unsettled=["conv"] if key == "dqa" else [])


def test_a_table_is_printed_with_our_numbers(small: Callable[..., Result], folder: Path) -> None:
    finish(folder, "ste", 80.0, 81.0)
    finish(folder, "dqa", 82.0)
    result = small()
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:2] == ["a/small  Two nets", "Somebody 2020"]
    (head,) = (line for line in lines if "ours - paper" in line)
    assert columns(head) == ["row", "paper", "ours", "n", "ours - paper", "state"]
    rows = rows_of(lines)
    assert rows == {
        "fp": ["float", "90.0 (99.5)", "-", "0", "-", "not run"],
        "ste": ["STE", "80.5 ± 0.25", "80.50 ± 0.71", "2", "+0.00", "done"],
        "dqa": ["DQA", "unknown", "82.00*", "1", "-", "1/2 seeds"],
        "lsq": ["LSQ", "85.0", "-", "-", "-", "not in qexp"],
    }
    assert "  * in a run some quantizers" in result.out
    assert "  epochs: 5" in lines


def test_csv_reads_back(small: Callable[..., Result], folder: Path) -> None:
    text = (folder / "a" / "small.yaml").read_text()
    (folder / "a" / "small.yaml").write_text(text.replace("label: STE", 'label: "STE, \\"plain\\""'))
    finish(folder, "ste", 80.0, 81.0)
    result = small("--format", "csv", "--rows", "ste,lsq")
    ste, lsq = csv.DictReader(io.StringIO(result.out))
    assert ste == {
        "table": "a/small",
        "row": "ste",
        "label": 'STE, "plain"',
        "paper_top1": "80.5",
        "paper_top5": "",
        "paper_std": "0.25",
        "paper_runs": "3",
        "top1": "80.5",
        "std": repr(0.5**0.5),
        "runs": "2",
        "difference": "0.0",
        "difference_to": "paper",
        "unsettled": "0",
        "spread": "",
        "unfirm": "0",
        "state": "done",
        "protocol": "paper",
        "note": "a|b",
        "source": "page 3",
    }
    assert [lsq[key] for key in ("paper_top1", "top1", "runs", "difference", "state")] == [
        "85.0",
        "",
        "0",
        "",
        "not in qexp",
    ]


def test_markdown_is_a_table_for_github(small: Callable[..., Result], folder: Path) -> None:
    finish(folder, "fp", 70.0, overrides=("recipe.epochs=3",))
    finish(folder, "ste", 60.0, overrides=("recipe.epochs=3",))
    lines = small("--format", "md", "recipe.epochs=3").out.splitlines()
    assert lines[0] == "### a/small: Two nets"
    assert lines[4:8] == [
        "| row |  | paper | ours | n | ours - float | state |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
        "| fp | float | 90.0 (99.5) | 70.00 | 1 | - | 1/2 seeds |",
        "| ste | STE | 80.5 ± 0.25 | 60.00 | 1 | -10.00 | 1/2 seeds |",
    ]
    assert "- ste: a|b" in lines


NO_TORCH = """
import sys
from pathlib import Path
from qexp.cli import table
from qexp.cli.main import main
assert main(["table", "dqa/4", "--seeds", "0,1", "--protocol", "short"]) == 0
assert main(["table", "dqa/9"]) == 2
assert table.main([], folder=Path(sys.argv[1])) == 0
assert "torch" not in sys.modules, "torch is imported to print a table"
"""


@pytest.mark.process
def test_tables_do_not_wait_for_torch(workspace: Path, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", NO_TORCH, str(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[1:]) == (0, [])
    assert list(workspace.iterdir()) == []


# Mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("dqa/5", "no table 'dqa/5' (did you mean 'dqa/4'?)"),
        ("xyz", "no table 'xyz'; there are cpq/1, daq/cifar10-resnet20, "),
        ("dqa/1 dqa/2", "dqa/1 dqa/2: one table at a time"),
        ("--run", "which table? there are cpq/1, daq/cifar10-resnet20"),
        ("dqa/4 --rows r18_fq", "--rows r18_fq: no such row (did you mean 'r18_fp'?)"),
        ("dqa/4 --rows r18_fp,zzz", "--rows zzz: no such row; rows: r18_fp, "),
        ("dqa/4 --seeds 1,x", "--seeds 1,x: must be different whole numbers, such as 0,1,2"),
        ("dqa/4 --seeds 1,1", "--seeds 1,1: must be different"),
        ("dqa/4 --seeds -1", "--seeds -1: must be different whole numbers"),
        ("dqa/4 --protocol shrt", "--protocol shrt: no such protocol (did you mean 'short'?)"),
        ("dqa/4 --format html", "--format html: must be text, md, csv"),
        ("dqa/4 --runs", "unrecognized arguments: --runs (qexp table --help)"),
        ("dqa/4 seed=1", "seed=1: --seeds names the seeds"),
        ("dqa/4 protocol=short", "protocol=short: --protocol names the protocol"),
        ("dqa/4 overwrite=true", "overwrite=true: --run trains only what is missing"),
        ("dqa/4 recipe.epochs=1,2", "recipe.epochs=1,2: names several values"),
        ("dqa/4 paper/dqa=1", "paper/dqa=1: is an option of Hydra"),
        ("dqa/4 recipe.epoch=1", "recipe.epoch=1: unknown option (did you mean 'epochs'?)"),
        ("dqa/4 =3", "=3: expected key=value"),
        ("dqa/4 --run data_dir=nowhere", "imagenet: there is no folder nowhere/imagenet"),
        ("dqa/2 --run dataset.train_size=0", "dataset.train_size=0: must be at least 1"),
    ],
)
def test_one_mistake_is_one_line_and_creates_nothing(qexp: Qexp, workspace: Path, words: str, message: str) -> None:
    result = qexp("table", *words.split())
    (line,) = result.errors
    assert (result.code, result.out) == (2, "")
    assert line.startswith(f"qexp table: error: {message}")
    assert list(workspace.iterdir()) == []


def test_all_mistakes_are_named_at_once(qexp: Qexp) -> None:
    result = qexp("table", "dqa/4", "recipe.epoch=1", "threads=-1")
    assert result.code == 2
    assert [line.partition("error: ")[2].partition(":")[0] for line in result.errors] == [
        "recipe.epoch=1",
        "threads=-1",
    ]


def test_a_row_that_cannot_run_stops_a_training_but_no_printing(small: Callable[..., Result], folder: Path) -> None:
    text = (folder / "a" / "small.yaml").read_text()
    (folder / "a" / "small.yaml").write_text(text.replace("quantizer=dqa", "quantizer=dqb"))
    assert small().code == 0
    result = small("--run")
    assert (result.code, result.out) == (2, "")
    (line,) = result.errors
    assert line.startswith("qexp table: error: quantizer=dqb: no such quantizer")
    assert line.endswith("[dqa; --rows can leave them out]")
    assert not Path("runs").exists()


# What is missing


def commands_in(text: str) -> dict[str, list[str]]:
    """Row -> the words of its `qexp train`, as a shell would split them."""
    lines = iter(text.splitlines())
    found = {line[2:].partition(":")[0]: shlex.split(next(lines)) for line in lines if line.startswith("# ")}
    assert all(words[:2] == ["qexp", "train"] for words in found.values())
    return {key: words[2:] for key, words in found.items()}


def composed(words: list[str]) -> Iterator[Path]:
    """The run directories of `qexp train *words`."""
    with composing() as composer:
        multirun = words[0] == "-m"
        overrides, problems = composer.parse(words[multirun:])
        lists, more = composer.expand(overrides, multirun=multirun)
        assert problems + more == []
        for own in lists:
            config = composer.job(own).config
            assert config is not None
            yield runs.run_directory(config)


@pytest.fixture
def _no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimating takes seconds of training steps; one test does that."""
    speed = Speed(100.0, 0.01, "measured never")
    monkeypatch.setattr("qexp.tables.duration.measured", lambda config: speed)


@pytest.mark.usefixtures("_no_measurement")
@pytest.mark.parametrize(
    ("name", "rows", "protocol", "words"),
    [
        ("dqa/2", "c10_ps*", "short", ("threads=1", "quantizer.sawb=formula")),
        ("daq/cifar10-resnet20", "w1*", "paper", ("recipe.optimizer.scale={lr: 0.5}",)),
    ],
)
def test_the_commands_of_a_dry_run_give_the_runs_of_the_table(
    qexp: Qexp, workspace: Path, name: str, rows: str, protocol: str, words: tuple[str, ...]
) -> None:
    options = ("--rows", rows, "--protocol", protocol, "--seeds", "0,3")
    result = qexp("table", name, *options, *words, "--dry-run")
    assert (result.code, result.err) == (0, "")
    assert list(workspace.iterdir()) == []
    joined = joined_table(conf_dir() / "paper", name, TableRequest(rows, (0, 3), protocol, words))
    found = commands_in(result.out)
    assert list(found) == [line.row.id for line in joined.lines]
    for line in joined.lines:
        assert list(composed(found[line.row.id])) == [run.path for run in line.runs]


@pytest.mark.usefixtures("_no_measurement")
def test_a_dry_run_counts_what_is_missing_and_their_float_nets(small: Callable[..., Result], folder: Path) -> None:
    """At 100 images/s and 10 ms per test image: a run has 5 epochs of 0.64 s and 5 evaluations of 0.32 s."""
    finish(folder, "ste", 80.0)
    words = ("--dry-run", "recipe.epochs=5", "device=cpu")
    text = small(*words).out
    assert text.splitlines()[0] == "a/small: 6 runs missing; about 29 s one after another"
    assert list(commands_in(text)) == ["fp", "ste", "dqa"]
    text = small(*words, "--rows", "ste,dqa").out
    assert text.startswith("a/small: 6 runs missing, 2 of them float nets that others start from; about 29 s")
    assert "  fp, resnet20 x0.25 on synthetic: 2 runs, about 10 s (100 images/s, measured never)" in text
    text = small("--dry-run", "device=cpu", "--rows", "ste").out  # seed 0 is done
    assert text.startswith("a/small: 2 runs missing, 1 of them float nets")
    assert commands_in(text)["ste"][-1] == "seed=1"
    assert commands_in(text)["ste"][0] != "-m"
    assert small("--dry-run", "--rows", "lsq").out == "a/small: nothing is missing\n"


def test_a_dry_run_that_is_interrupted_prints_the_commands(qexp: Qexp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring takes a while, and what it is about is not the time alone; nothing was trained that could resume."""

    def measured(config: object) -> Speed:
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr("qexp.tables.duration.measured", measured)
    result = qexp("table", "dqa/1", "--rows", "c10_fp,c10_minmax*", "--dry-run")
    assert (result.code, result.err) == (130, "qexp table: interrupted\n")
    assert "missing; the time they take was not measured\n" in result.out
    assert "c10_fp" in commands_in(result.out)


@pytest.mark.usefixtures("_no_measurement")
def test_a_dry_run_says_that_data_are_not_there(qexp: Qexp) -> None:
    out = qexp("table", "dqa/1", "--rows", "c10_fp", "--dry-run").out
    assert "  cifar10: neither data/cifar10/{train,test}.npz nor data/cifar-10-batches-py is there: --run" in out


def test_a_long_list_of_rows_is_cut(qexp: Qexp) -> None:
    error = qexp("table", "dqa/1", "--rows", "nothing").err
    assert re.search(r"--rows nothing: no such row; rows: (\w+, ){7}\w+ and \d+ more\n", error)
