"""`qexp runs tensorboard`: folders of links whose names say what varies, and nothing of anybody's lost."""

import contextlib
import http.client
import json
import re
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from qexp import runs
from qexp.cli.curves import MOST_BYTES, named_places
from qexp.config.yaml_files import to_yaml
from qexp.runs.query import entries
from support.commands import Configure, Qexp
from support.processes import Command, wait_until

LR = "recipe.optimizer.weight.lr"
EVENTS = Path(__file__).parents[1] / "data/store/synthetic/resnet20/daq-w2a2/s0-ffnjhgkk/events.out.tfevents.qexp"


def curves(configure: Configure, *words: str) -> Path:
    """A run of the store with an event file; returns its directory."""
    config = configure(*words)
    path = runs.run_directory(config)
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(to_yaml(config.tree))
    runs.write_status(path, "running")
    shutil.copy(EVENTS, path)
    return path


def links(folder: str) -> dict[str, str]:
    """Name -> hash of what it leads to."""
    return {path.name: path.resolve().name.partition("-")[2] for path in sorted(Path(folder).glob("[!.]*"))}


def test_links_are_called_by_what_varies(qexp: Qexp, workspace: Path, configure: Configure) -> None:
    paths = [
        curves(configure, "quantizer=daq", f"{LR}=0.1"),
        curves(configure, "quantizer=daq", f"{LR}=0.01", "seed=3"),
        curves(configure, "quantizer=dqa", "recipe.optimizer.norm.lr=0.3", "keep_float=[first]"),
    ]
    result = qexp("runs", "tensorboard", "--links", "shown", "--", "--port", "6007")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "tensorboard --logdir shown --port 6007"
    found = links("shown")
    assert list(found.values()) == [path.name.partition("-")[2] for path in (paths[1], paths[0], paths[2])]
    assert list(found) == [
        "daq W2A2 weight.lr=0.01 norm.lr=0.1 keep_float=[first,last] seed 3",
        "daq W2A2 weight.lr=0.1 norm.lr=0.1 keep_float=[first,last] seed 0",
        "dqa W2A2 weight.lr=0.1 norm.lr=0.3 keep_float=[first] seed 0",
    ]


def test_one_option_needs_its_last_word(qexp: Qexp, workspace: Path, configure: Configure) -> None:
    for rate in ("0.1", "0.01"):
        curves(configure, "quantizer=daq", f"{LR}={rate}")
    qexp("runs", "tensorboard", "--links", "shown")
    assert list(links("shown")) == ["daq W2A2 lr=0.01 seed 0", "daq W2A2 lr=0.1 seed 0"]


def test_links_follow_what_is_asked_for(qexp: Qexp, workspace: Path, configure: Configure) -> None:
    for method in ("daq", "dqa", "ste"):
        curves(configure, f"quantizer={method}")
    for words, expected in (((), "daq dqa ste"), (("dqa",), "dqa"), (("quantizer=ste,daq",), "daq ste")):
        assert qexp("runs", "tensorboard", *words, "--links", "shown").code == 0
        assert [name.split()[0] for name in links("shown")] == expected.split()


def test_runs_without_curves_have_no_link(qexp: Qexp, workspace: Path, configure: Configure) -> None:
    (curves(configure) / EVENTS.name).unlink()
    result = qexp("runs", "tensorboard", "--links", "shown")
    assert (result.code, result.out) == (0, "no such runs with curves in runs\n")
    assert not Path("shown").exists()


def test_a_folder_that_holds_anything_else_is_left_as_it_is(qexp: Qexp, workspace: Path, configure: Configure) -> None:
    curves(configure)
    Path("mine", "file").mkdir(parents=True)
    for folder, target in (("linked", workspace / "mine"), ("alike", curves(configure, "seed=1"))):
        Path(folder).mkdir()
        Path(folder, "link").symlink_to(target)
    for folder in ("mine", "linked", "alike", ""):
        result = qexp("runs", "tensorboard", "--links", folder)
        assert result.code == 2
        assert result.err.startswith("qexp runs: error: --links")
        assert result.err.count("\n") == 1
    assert Path("mine", "file").is_dir()
    for folder in ("linked", "alike"):
        assert [path.name for path in Path(folder).iterdir()] == ["link"]


@pytest.mark.parametrize("kind", ["another", "changed", "record"])
def test_links_of_somebodys_own_among_those_made_here_stay(
    qexp: Qexp, workspace: Path, configure: Configure, kind: str
) -> None:
    """Also where they lead to runs, and where one has the name of one that was made here."""
    run = curves(configure)
    words = ("runs", "tensorboard", "--links", "shown")
    assert (qexp(*words).code, qexp(*words).code) == (0, 0)
    made = workspace / "shown" / "daq W2A2 seed 0"
    record = workspace / "shown" / ".qexp-links.json"
    if kind == "another":
        (mine := workspace / "shown" / "favourite").symlink_to(run)
    elif kind == "changed":
        made.unlink()
        (mine := made).symlink_to(workspace / "elsewhere" / "daq-w2a2" / "s0-abcdefgh")
    else:
        record.rename(workspace / "elsewhere")
        (mine := record).symlink_to(workspace / "elsewhere")
    target = mine.readlink()
    refused = qexp(*words, "seed=0")
    assert (refused.code, len(refused.errors)) == (2, 1)
    assert f"{mine.name}" in refused.err
    assert "not made by this command; name a new or an empty folder" in refused.err
    assert mine.readlink() == target
    assert made.is_symlink()


@pytest.mark.parametrize("name", ["file", "loop", "dangling"])
def test_what_is_no_folder_is_said(qexp: Qexp, workspace: Path, configure: Configure, name: str) -> None:
    curves(configure)
    Path("file").touch()
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    refused = qexp("runs", "tensorboard", "--links", name)
    assert (refused.code, refused.err) == (2, f"qexp runs: error: --links {name}: is no folder\n")


def test_a_folder_that_cannot_be_written_is_one_line(qexp: Qexp, workspace: Path, configure: Configure) -> None:
    curves(configure)
    Path("file").touch()
    result = qexp("runs", "tensorboard", "--links", "file/shown")
    assert (result.code, result.err) == (2, "qexp runs: error: cannot write file/shown: Not a directory\n")


def test_odd_values_make_names_of_files(workspace: Path, configure: Configure) -> None:
    """A slash would begin a folder; a damaged configuration leaves what the path tells."""
    first = curves(configure, "seed=1")
    second = curves(configure, "seed=2")
    text = (first / "config.yaml").read_text()
    (first / "config.yaml").write_text(re.sub("^init: .*$", f"init: /a/{'b' * 300}.pt", text, flags=re.MULTILINE))
    (second / "config.yaml").write_text("{")
    long, damaged = sorted(named_places(entries(Path("runs"))), key=len, reverse=True)
    assert len(long.encode()) <= MOST_BYTES
    assert "/" not in long
    assert damaged == "daq W2A2 seed 2"


def test_runs_that_look_alike_have_their_hash(workspace: Path, configure: Configure) -> None:
    paths = [curves(configure, "seed=1"), curves(configure, "seed=1", f"{LR}=0.3")]
    for path in paths:
        (path / "config.yaml").write_text("{")
    expected = {f"daq W2A2 seed 1 {path.name.partition('-')[2]}" for path in paths}
    assert set(named_places(entries(Path("runs")))) == expected


@pytest.mark.parametrize("words", [("list", "--", "--port", "1"), ("list", "--links", "x"), ("show", "--links", "x")])
def test_words_that_do_not_go_together(qexp: Qexp, words: tuple[str, ...]) -> None:
    result = qexp("runs", *words)
    assert result.code == 2
    assert "go with" in result.err


@pytest.mark.process
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_tensorboard_shows_them_until_it_is_stopped(
    workspace: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    """A run that begins meanwhile appears; the folder of links goes, the runs stay."""
    first = curves(configure, "quantizer=daq")
    scratch = workspace.parent / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr("qexp.cli.curves.LOOK_SECONDS", 0.2)
    before = signal.signal(number, signal.SIG_DFL)  # nohup has SIGHUP ignored
    command = Command("runs", "tensorboard", "--", "--port", "0", "--load_fast", "false", "--reload_interval", "1")
    signal.signal(number, before)
    try:
        port = wait_until(lambda: re.search(r"http://localhost:(\d+)/", command.err.read_text()))[1]

        def shown() -> list[str]:
            connection = http.client.HTTPConnection("localhost", int(port), timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", "/data/runs")
                return json.load(connection.getresponse())

        wait_until(lambda: shown() == ["daq W2A2 seed 0"])
        curves(configure, "quantizer=ste")
        wait_until(lambda: sorted(shown()) == ["daq W2A2 seed 0", "ste W2A2 seed 0"])
    finally:
        command.send(number)
        wait_until(lambda: command.code is not None, 20)
    assert command.code == code
    with pytest.raises(OSError, match="refused"):
        http.client.HTTPConnection("localhost", int(port), timeout=10).connect()
    assert list(scratch.iterdir()) == []
    assert (first / EVENTS.name).read_bytes() == EVENTS.read_bytes()
