"""`qexp runs`: what it lists, shows and removes, from run directories made by hand; no training."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qexp import runs
from qexp.config.config import float_parent, run_key, to_yaml
from qexp.runs import query
from qexp.utils.errors import QexpError
from support.processes import held_elsewhere

Qexp = Callable[..., Any]

CONFIG = """\
dataset: {name: digits, train_size: null, _target_: qexp.data.datasets.Digits}
model: {name: resnet18, width: 0.25}
quantizer: {name: QUANTIZER, default_bits: 2}
recipe: {epochs: 20, batch_size: 64, schedule: {name: cosine}}
protocol: short
weight_bits: 2
keep_float: [first, last]
init: fp
seed: SEED
device: auto
deterministic: false
"""
SUMMARY = {
    "key": "abcdefgh",
    "dataset": "digits",
    "model": "resnet18",
    "quantizer": "daq",
    "weight_bits": 2,
    "activation_bits": 2,
    "seed": 0,
    "init": "fp",
    "protocol": "short",
    "epochs": 20,
    "test_images": 1360,
    "top1_hard": 98.611,
    "top1_soft": 98.5,
    "quantizer_gap": -0.111,
    "best_top1_hard": 98.889,
    "best_epoch": 15,
    "float_top1": 98.056,
    "difference": 0.555,
    "unsettled": [],
    "time_images_per_second": 2834.4,
    "device": "cpu",
    "time_seconds": 11.5,
}


def make(name: str, state: str | None = "done", *, summary: Any = None, epochs: int = 0, message: str = "") -> Path:
    """A run directory below ./runs/digits/resnet18, `name` as in daq-w2a2/s0-abcdefgh."""
    path = Path("runs", "digits", "resnet18", name)
    path.mkdir(parents=True)
    seed = name.partition("/s")[2].partition("-")[0]
    config = CONFIG.replace("QUANTIZER", name.partition("-")[0]).replace("SEED", seed)
    (path / "config.yaml").write_text(config)
    if state:
        runs.write_status(path, state, message)  # type: ignore[arg-type]
    if state == "done":
        (path / "summary.json").write_text(json.dumps({**SUMMARY, **(summary or {})}))
    for epoch in range(1, epochs + 1):
        with (path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"epoch": epoch, "epochs": 20, "hard": {"top1": 90.0 + epoch}}) + "\n")
    return path


@pytest.fixture
def store(workspace: Path) -> dict[str, Path]:
    """One run in every state that needs no process."""
    return {
        "daq": make("daq-w2a2/s0-abcdefgh", epochs=20),
        "dqa": make("dqa-w2a2/s1-bbbbbbbb", "interrupted", epochs=7, message="stopped by SIGTERM"),
        "ste": make("ste-w1a1/s0-cccccccc", "failed", message="the disk is full"),
        "br": make("br-w4a4/s2-dddddddd", "diverged", message="loss is nan in step 3"),
    }


def listed(out: str) -> list[str]:
    """The hashes in a printed table."""
    return [line.split()[-1] for line in out.splitlines() if " resnet18 " in line]


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Put somebody in front of the terminal who types `text`."""
    typed = io.StringIO(text)
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", typed)


# list


def test_without_a_word_every_run_is_listed(qexp: Qexp, store: dict[str, Path]) -> None:
    for words in (("runs",), ("runs", "list")):
        result = qexp(*words)
        assert (result.code, result.err) == (0, "")
        assert listed(result.out) == ["dddddddd", "abcdefgh", "bbbbbbbb", "cccccccc"]


def test_a_row_holds_accuracies_and_for_unfinished_runs_how_far_they_came(qexp: Qexp, store: dict[str, Path]) -> None:
    lines = [line.split() for line in qexp("runs").out.splitlines() if " resnet18 " in line]
    start = ["digits", "resnet18"]
    assert lines == [
        [*start, "br-w4a4", "2", *["-"] * 6, "diverged", "dddddddd"],
        [*start, "daq-w2a2", "0", "98.61", "%", "98.06", "%", "+0.56", "20", "12", "s", "short", "done", "abcdefgh"],
        [*start, "dqa-w2a2", "1", *["-"] * 3, "7/20", "-", "-", "interrupted", "bbbbbbbb"],
        [*start, "ste-w1a1", "0", *["-"] * 6, "failed", "cccccccc"],
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["digits", "w2a2"], "ab"),
        (["runs/digits/resnet18/dqa"], "b"),
        (["daq", "dqa"], ""),
        (["abcdefgh", "bbbbbbbb"], "ab"),
        (["abcdefgh", "bbbbbbbb", "daq"], "a"),
        (["runs/digits/resnet18/daq-w2a2/s0-abcdefgh/"], "a"),
        (["recipe.epochs=20"], "dabc"),
        (["recipe.epochs=21"], ""),
        (["seed=0"], "ac"),
        (["seed=0,2"], "dac"),
        (["quantizer=daq,br", "seed=0"], "a"),
        (["model.width=0.250"], "dabc"),
        (["recipe.schedule=cosine", "dataset.train_size=null", "keep_float=[first,last]"], "dabc"),
        (["deterministic=FALSE"], "dabc"),
        (["best_epoch=15"], "a"),
        (["state=failed"], "c"),
        (["--state", "failed"], "c"),
        (["--state", "failed,diverged"], "dc"),
        (["--state", "done", "dqa"], ""),
        (["--state", "running"], ""),
    ],
)
def test_runs_are_filtered_by_path_configuration_summary_and_state(
    qexp: Qexp, store: dict[str, Path], words: list[str], expected: str
) -> None:
    result = qexp("runs", "list", *words)
    assert (result.code, result.err) == (0, "")
    assert "".join(key[0] for key in listed(result.out)) == expected
    assert expected or result.out == "no such runs in runs\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["epoch=20"], "no run in runs has 'epoch' (did you mean 'epochs'?)"),
        (["width=1"], "no run in runs has 'width' (did you mean 'model.width'?)"),
        (["recipe=digits"], "no run in runs has 'recipe' (did you mean 'recipe.epochs'?)"),
        (["--state", "faild"], "--state faild: must be running, interrupted, done, failed, diverged, damaged (did you"),
        (["--staet", "x"], "unrecognized arguments: --staet"),
        (["--yes"], "--yes does not go with list"),
        (["show"], "show takes one run"),
        (["show", "abcdefgh", "bbbbbbbb"], "show takes one run"),
        (["show", "pppp"], "no run 'pppp': it is neither a run directory nor the hash of a run in runs"),
        (["show", ""], "no run ''"),
        (["rm"], "which runs? name some, or all with --all"),
        (["rm", "--all", "daq"], "--all goes without filters"),
        (["rm", "--yes", ""], "an empty word would fit every run"),
        (["rm", "--yes", "runs/"], "an empty word would fit every run"),
        (["rm", "--json", "daq"], "--json does not go with rm"),
        (["rm", "--yes", "epoch=20"], "no run in runs has 'epoch'"),
        (["rm", "daq"], "would be removed, and there is nobody to ask: add --yes"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    qexp: Qexp, store: dict[str, Path], words: list[str], said: str
) -> None:
    before = sorted(Path("runs").rglob("*"))
    result = qexp("runs", *words)
    (line,) = result.errors
    assert (result.code, result.out) == (2, "")
    assert line.startswith("qexp runs: error: ")
    assert said in line
    assert sorted(Path("runs").rglob("*")) == before


def test_a_misspelled_action_finds_no_runs_and_is_named(qexp: Qexp, store: dict[str, Path]) -> None:
    assert qexp("runs", "lst").out == "no such runs in runs (did you mean 'list'?)\n"


def test_an_empty_store_has_no_runs_whatever_is_asked(qexp: Qexp) -> None:
    for words in ([], ["seed=0"], ["rm", "daq"], ["rm", "--all", "--yes"]):
        result = qexp("runs", *words)
        assert (result.code, result.out, result.err) == (0, "no such runs in runs\n", "")
    assert qexp("runs", "--json").out == "[]\n"
    assert not Path("runs").exists()


def test_json_holds_the_same_for_programs(qexp: Qexp, store: dict[str, Path]) -> None:
    first, second = json.loads(qexp("runs", "--json", "w2a2").out)
    assert first["summary"] == SUMMARY
    assert (first["run"], first["key"], first["state"]) == (str(store["daq"]), "abcdefgh", "done")
    assert {key: value for key, value in second.items() if key != "time"} == {
        "run": str(store["dqa"]),
        "dataset": "digits",
        "model": "resnet18",
        "quantizer": "dqa-w2a2",
        "seed": 1,
        "key": "bbbbbbbb",
        "state": "interrupted",
        "message": "stopped by SIGTERM",
        "epoch": 7,
        "epochs": 20,
        "summary": None,
    }


def test_a_run_that_is_running_says_so_and_how_far_it_is(qexp: Qexp, store: dict[str, Path]) -> None:
    path = make("pact-w2a2/s0-eeeeeeee", epochs=3)
    (path / "summary.json").unlink()
    with held_elsewhere(path):
        (row,) = [line for line in qexp("runs", "--state", "running").out.splitlines() if " resnet18 " in line]
    assert row.split()[4:] == ["-", "-", "-", "3/20", "-", "-", "running", "eeeeeeee"]


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "no status": lambda path: (path / "status.json").unlink(),
    "half a status": lambda path: (path / "status.json").write_text('{"state": "do'),
    "a status of another kind": lambda path: (path / "status.json").write_text('{"state": ["done"]}'),
    "an unknown state": lambda path: (path / "status.json").write_text('{"state": "asleep"}'),
    "done without a summary": lambda path: (path / "summary.json").unlink(),
    "done with half a summary": lambda path: (path / "summary.json").write_text('{"top1_hard": 9'),
    "done with a list": lambda path: (path / "summary.json").write_text("[]"),
    "bytes that are no text": lambda path: (path / "status.json").write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_run_is_listed_shown_and_removed_as_what_is_known_of_it(
    qexp: Qexp, store: dict[str, Path], damage: Callable[[Path], Any]
) -> None:
    damage(store["daq"])
    assert listed(qexp("runs", "--state", "damaged").out) == ["abcdefgh"]
    assert len(listed(qexp("runs").out)) == 4
    assert "state            damaged" in qexp("runs", "show", "abcdefgh").out
    assert json.loads(qexp("runs", "show", "--json", "abcdefgh").out)["state"] == "damaged"
    assert qexp("runs", "rm", "--yes", "--state", "damaged").code == 0
    assert len(listed(qexp("runs").out)) == 3


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "env.json"])
@pytest.mark.parametrize("content", [b"", b"[1, 2]\n", b"\xff\xfe", b"{a: [", b"${oops:1}", b'{"epoch": "x"}'])
def test_damaged_files_beside_the_result_do_not_hide_it(
    qexp: Qexp, store: dict[str, Path], name: str, content: bytes
) -> None:
    (store["daq"] / name).write_bytes(content)
    assert listed(qexp("runs", "state=done").out) == ["abcdefgh"]
    assert "98.61 %  hard, last epoch, 1,360 test images" in qexp("runs", "show", "abcdefgh").out
    assert json.loads(qexp("runs", "show", "--json", "abcdefgh").out)["summary"] == SUMMARY


def test_a_summary_of_another_time_is_shown_as_far_as_it_goes(qexp: Qexp, store: dict[str, Path]) -> None:
    (store["daq"] / "summary.json").write_text('{"top1_hard": 97.5, "epochs": 3, "time_seconds": "long", "seed": 0}')
    (row,) = [line.split() for line in qexp("runs", "daq").out.splitlines() if " resnet18 " in line]
    assert row[4:] == ["97.50", "%", "-", "-", "3", "-", "-", "done", "abcdefgh"]
    assert "top-1            97.50 %  hard, last epoch\n" in qexp("runs", "show", "abcdefgh").out


def test_a_summary_beside_another_state_than_done_is_no_result(qexp: Qexp, store: dict[str, Path]) -> None:
    (store["ste"] / "summary.json").write_text(json.dumps(SUMMARY))
    (row,) = [line.split() for line in qexp("runs", "ste").out.splitlines() if " resnet18 " in line]
    assert row[4:] == [*["-"] * 6, "failed", "cccccccc"]
    assert "98.61" not in qexp("runs", "show", "cccccccc").out


def test_odd_names_and_what_is_no_run_do_not_disturb_the_list(qexp: Qexp, store: dict[str, Path]) -> None:
    for name in ("[bold]x/no-seed", ":smile:/s0-\udcff\n", "plain/readme"):
        (Path("runs") / "digits" / "resnet18" / name).mkdir(parents=True)
    for name in ("[bold]x/no-seed", ":smile:/s0-\udcff\n"):
        (Path("runs") / "digits" / "resnet18" / name / "status.json").write_text('{"state": "failed"}')
    (Path("runs") / ".jobs" / "1" / "2" / "3").mkdir(parents=True)
    (Path("runs") / ".jobs" / "1" / "2" / "3" / "config.yaml").touch()
    result = qexp("runs", "--state", "failed")
    assert result.code == 0
    found = [line.split() for line in result.out.splitlines() if " resnet18 " in line]
    assert [row[2:4] + row[-1:] for row in found] == [
        [":smile:", "0", "??"],
        ["[bold]x", "-", "no-seed"],
        ["ste-w1a1", "0", "cccccccc"],
    ]
    assert len(json.loads(qexp("runs", "--json").out)) == 6


# show


def test_show_tells_all_that_is_known_of_a_run(qexp: Qexp, store: dict[str, Path]) -> None:
    path = store["daq"]
    changes = {"versions": {"torch": "2.15.0+cpu", "numpy": "2.4.6"}, "time_resumed_at_steps": [120, 340]}
    git = {"commit": "0a1b2c", "dirty": True, "changes": "0123456789abcdef"}
    summary = {**SUMMARY, **changes, "git": git, "deterministic": True, "unsettled": list("vwxyz")}
    (path / "summary.json").write_text(json.dumps(summary))
    machine = {"qexp": "9.9", "device": "cpu", "device_name": "CPU", "cpu": "Abacus", "threads": 2}
    sessions = [{"time_started": f"2026-01-0{day}"} for day in (1, 2)]
    environment = {**machine, "hostname": "desk", "time_started": "2026-01-03", "earlier": sessions}
    (path / "env.json").write_text(json.dumps(environment))
    (path / "last.pt").write_bytes(bytes(1_234_567))
    status = json.loads((path / "status.json").read_text())
    lines = qexp("runs", "show", "abc").out.splitlines()
    assert lines[:21] == [
        "daq W2A2  resnet18 on digits  seed 0",
        "  run              runs/digits/resnet18/daq-w2a2/s0-abcdefgh",
        f"  state            done  ({status['time']}, pid {status['pid']} on {status['host']})",
        "  top-1            98.61 %  hard, last epoch, 1,360 test images",
        "  best             98.89 % in epoch 15, chosen by test accuracy",
        "  top-1 soft       98.50 %",
        "  quantizer gap    -0.11 points  (soft - hard)",
        "  float top-1      98.06 %",
        "  difference       +0.56 points to float",
        "  WARNING          5 quantizers did not end at the lowest bit-width (v, w, x, ...)",
        "  protocol         short",
        "  epochs           20",
        "  batch            64",
        "  start            fp",
        "  deterministic    yes",
        "  time             11.5 s  (2,834 images/s)",
        "  resumed at step  120 (2026-01-02), 340 (2026-01-03)",
        "  versions         qexp 9.9, torch 2.15.0+cpu, numpy 2.4.6",
        "  git              0a1b2c and uncommitted changes 0123456789abcdef (of their SHA-256)",
        "  device           cpu, Abacus, threads 2",
        "  machine          desk",
    ]
    assert lines[21].startswith("  files               1.2 MB  in all")
    assert "                      1.2 MB  last.pt" in lines


def test_a_float_run_has_one_accuracy(qexp: Qexp, workspace: Path) -> None:
    changes = {"quantizer": "fp", "top1_soft": 98.611, "quantizer_gap": 0, "difference": 0, "best_top1_soft": 98.7}
    make("fp-w32a32/s0-abcdefgh", summary=changes)
    lines = qexp("runs", "show", "abcdefgh").out.splitlines()
    assert lines[0] == "fp W32A32  resnet18 on digits  seed 0"
    assert lines[3:5] == [
        "  top-1            98.61 %  last epoch, 1,360 test images",
        "  best             98.89 %, soft 98.70 % in epoch 15, chosen by test accuracy",
    ]
    assert not any("float" in line or "gap" in line for line in lines)


@pytest.mark.parametrize(
    ("git", "said"),
    [
        ({"commit": "0a", "dirty": False, "changes": None}, "0a"),
        ({"commit": "0a", "dirty": False, "changes": "bb"}, "0a and uncommitted changes bb (of their SHA-256)"),
        ({"commit": "0a", "dirty": True, "changes": None}, "0a and uncommitted changes outside of qexp and conf"),
        ({"commit": "0a", "dirty": True}, "0a and uncommitted changes that are not identified"),
    ],
)
def test_show_says_what_differs_from_the_commit(
    qexp: Qexp, store: dict[str, Path], git: dict[str, Any], said: str
) -> None:
    (store["daq"] / "env.json").write_text(json.dumps({"git": git}))
    assert f"\n  git              {said}\n" in qexp("runs", "show", "abcdefgh").out


def test_show_says_why_a_run_failed_and_where_to_read_on(qexp: Qexp, store: dict[str, Path]) -> None:
    (store["ste"] / "error.txt").write_text("Traceback")
    lines = qexp("runs", "show", str(store["ste"])).out.splitlines()
    assert lines[0] == "ste W1A1  resnet18 on digits  seed 0"
    assert lines[2].startswith("  state            failed  (")
    assert lines[3:5] == [
        "  message          the disk is full",
        f"  traceback        {store['ste']}/error.txt",
    ]


def test_show_says_how_far_an_interrupted_run_came(qexp: Qexp, store: dict[str, Path]) -> None:
    with (store["dqa"] / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 8, "epo')
    lines = qexp("runs", "show", "bbbb").out.splitlines()
    assert lines[3:5] == [
        "  message          stopped by SIGTERM",
        "  epochs trained   7/20, then at 97.00 % hard",
    ]


def test_show_says_that_a_process_ended_without_a_word(qexp: Qexp, workspace: Path) -> None:
    make("daq-w2a2/s0-abcdefgh", "running")
    lines = qexp("runs", "show", "abcdefgh").out.splitlines()
    assert lines[2].startswith("  state            interrupted  (")
    assert lines[3] == "  message          its process has ended without a word"


def test_show_reads_a_directory_anywhere(qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store["daq"].parent)
    assert qexp("runs", "show", "s0-abcdefgh").out.startswith("daq W2A2  resnet18 on digits  seed 0\n")


def test_show_as_json_holds_everything(qexp: Qexp, store: dict[str, Path]) -> None:
    found = json.loads(qexp("runs", "show", "--json", "abcdefgh").out)
    assert found["summary"] == SUMMARY
    assert found["status"] == json.loads((store["daq"] / "status.json").read_text())
    assert found["config"]["recipe"]["epochs"] == 20
    assert found["files"] == {path.name: path.stat().st_size for path in store["daq"].iterdir()}
    assert found["environment"] is None


# rm


def test_rm_lists_asks_and_removes(qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (store["ste"] / "last.pt").write_bytes(bytes(2_000_000))
    (store["ste"] / "plugins" / "deep").mkdir(parents=True)
    (store["ste"] / "plugins" / "deep" / "file").write_bytes(bytes(300_000))
    answer(monkeypatch, "y\n")
    result = qexp("runs", "rm", "--state", "failed,diverged")
    assert (result.code, result.err) == (0, "")
    first, second, question = result.out.splitlines()
    assert first.split()[-2:] == ["diverged", "digits/resnet18/br-w4a4/s2-dddddddd"]
    assert second == "     2.3 MB  failed       digits/resnet18/ste-w1a1/s0-cccccccc"
    assert question == "remove 2 runs (2.3 MB)? [y/N] removed 2 runs (2.3 MB)"
    assert listed(qexp("runs").out) == ["abcdefgh", "bbbbbbbb"]
    assert sorted(path.name for path in Path("runs/digits/resnet18").iterdir()) == ["daq-w2a2", "dqa-w2a2"]


@pytest.mark.parametrize("text", ["n\n", "\n", "", "yy\n", "no\n"])
def test_any_answer_but_yes_removes_nothing(
    qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    answer(monkeypatch, text)
    result = qexp("runs", "rm", "daq")
    assert result.code == 0
    assert result.out.endswith("nothing was removed\n")
    assert len(listed(qexp("runs").out)) == 4


@pytest.mark.parametrize("text", ["y\n", "YES\n", " yes \n"])
def test_yes_may_be_written_in_several_ways(
    qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    answer(monkeypatch, text)
    assert qexp("runs", "rm", "abcdefgh").code == 0
    assert not store["daq"].exists()


def test_rm_all_leaves_an_empty_store(qexp: Qexp, store: dict[str, Path]) -> None:
    result = qexp("runs", "rm", "--all", "--yes")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1].startswith("removed 4 runs (")
    assert list(Path("runs").iterdir()) == []


def test_several_runs_are_named_by_their_hashes(qexp: Qexp, store: dict[str, Path]) -> None:
    assert qexp("runs", "rm", "--yes", "abcdefgh", str(store["br"])).code == 0
    assert listed(qexp("runs").out) == ["bbbbbbbb", "cccccccc"]


def test_a_running_run_is_never_removed(qexp: Qexp, store: dict[str, Path]) -> None:
    """Exit code 1 says that something stays that was to go."""
    (store["daq"] / "summary.json").unlink()
    with held_elsewhere(store["daq"]):
        alone = qexp("runs", "rm", "--yes", "daq")
        both = qexp("runs", "rm", "--yes", "w2a2")
        stays = f"qexp runs: stays, because it is running: {store['daq']}"
        assert (alone.code, alone.out, alone.errors) == (1, "nothing was removed\n", [stays])
        assert (both.code, both.errors) == (1, [stays])
        assert both.out.splitlines()[-1].startswith("removed 1 run (")
        assert (store["daq"] / "config.yaml").is_file()
    assert not store["dqa"].exists()


def test_a_run_that_is_started_while_somebody_thinks_is_not_removed(store: dict[str, Path]) -> None:
    entry = query.Entry(store["dqa"])
    assert entry.state == "interrupted"
    with held_elsewhere(store["dqa"]), pytest.raises(runs.RunningElsewhere):
        query.remove(Path("runs"), entry)
    (store["dqa"] / "summary.json").write_text(json.dumps(SUMMARY))
    runs.write_status(store["dqa"], "done")
    with pytest.raises(QexpError, match="^stays, because it was trained meanwhile: "):
        query.remove(Path("runs"), entry)
    assert runs.state_of(store["dqa"]) == "done"


@pytest.mark.parametrize("deleted", [0, 1, 2, 3])
def test_a_removal_that_is_killed_leaves_nothing_that_looks_done(
    qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    """After any number of its files is gone: not done any more, but still listed, and the same command ends it."""
    unlink, left = Path.unlink, iter(range(deleted))

    def kill(path: Path, missing_ok: bool = False) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", kill)
        assert qexp("runs", "rm", "--yes", "abcdefgh").code == 130
    assert len(list(store["daq"].iterdir())) == 5 - deleted  # with the lock
    assert query.Entry(store["daq"]).state == ("damaged" if deleted else "done")
    assert qexp("runs", "rm", "--yes", "abcdefgh").code == 0
    assert listed(qexp("runs").out) == ["dddddddd", "bbbbbbbb", "cccccccc"]
    assert not store["daq"].exists()


def test_links_are_removed_and_what_they_lead_to_is_not(qexp: Qexp, store: dict[str, Path], tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").write_text("x")
    (store["daq"] / "folder").symlink_to(precious)
    (store["daq"] / "last.pt").symlink_to(precious / "data")
    assert qexp("runs", "rm", "--yes", "abcdefgh").code == 0
    assert not store["daq"].exists()
    assert (precious / "data").read_text() == "x"


def test_a_run_that_a_link_leads_to_stays(qexp: Qexp, store: dict[str, Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    os.rename(store["daq"], elsewhere)
    store["daq"].symlink_to(elsewhere)
    result = qexp("runs", "rm", "--yes", "abcdefgh")
    assert (result.code, result.errors) == (1, [f"qexp runs: stays, because a link leads to it: {store['daq']}"])
    assert (elsewhere / "summary.json").is_file()


def test_a_run_outside_of_the_store_is_not_removed(qexp: Qexp, store: dict[str, Path]) -> None:
    os.rename(store["daq"], "mine")
    assert qexp("runs", "rm", "--yes", "mine").out == "no such runs in runs\n"
    assert Path("mine", "summary.json").is_file()


def test_a_run_that_cannot_be_removed_is_named_and_the_others_go(
    qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rmdir = Path.rmdir

    def refuse(path: Path) -> None:
        if path == store["daq"]:
            raise PermissionError(13, "Permission denied")
        rmdir(path)

    monkeypatch.setattr(Path, "rmdir", refuse)
    result = qexp("runs", "rm", "--yes", "w2a2")
    assert (result.code, result.errors) == (1, [f"qexp runs: cannot remove {store['daq']}: Permission denied"])
    assert not store["dqa"].exists()


def test_rm_says_that_others_were_trained_from_a_float_net(
    qexp: Qexp, workspace: Path, configure: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("quantizer=daq", "bits=2")
    place = Path("runs") / "digits" / "resnet18"
    for name, raw in ((f"daq-w2a2/s0-{config.key}", config.raw), ("fp-w32a32/s0-", float_parent(config.raw))):
        path = place / (name + run_key(raw) if name.endswith("-") else name)
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(to_yaml(raw))
        runs.write_status(path, "failed")
    answer(monkeypatch, "n\n")
    assert (
        "others were trained from these float nets, and stay with their results: 1\n" in qexp("runs", "rm", "fp-").out
    )
    answer(monkeypatch, "n\n")
    assert "others were" not in qexp("runs", "rm", "digits").out


# The reader of the output


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["runs", "runs --json", "runs show abcdefgh", "runs --help", "--help"])
def test_a_reader_that_leaves_early_is_no_error(store: dict[str, Path], words: str, unbuffered: str) -> None:
    """`qexp runs | head -1`, with the output written at once or when Python ends."""
    command, environment = (
        [sys.executable, "-m", "qexp", *words.split()],
        {**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)
