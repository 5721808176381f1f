"""`qexp runs`: what it lists, shows and removes, from run directories made by hand; no training."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qexp import runs
from support.commands import Qexp, Sweep
from support.processes import held_elsewhere
from support.stored_runs import SUMMARY, listed, make, rows

# list


def test_without_a_word_every_run_is_listed(qexp: Qexp, store: dict[str, Path]) -> None:
    for words in (("runs",), ("runs", "list")):
        result = qexp(*words)
        assert (result.code, result.err) == (0, "")
        assert listed(result.out) == ["dddddddd", "abcdefgh", "bbbbbbbb", "cccccccc"]


def test_a_row_holds_accuracies_and_for_unfinished_runs_how_far_they_came(qexp: Qexp, store: dict[str, Path]) -> None:
    out = qexp("runs").out
    assert out.startswith("4 runs: digits, resnet18 x0.25, protocol short\n")
    assert rows(out) == [
        ["dddddddd", "br", "W4A4", "2", *["-"] * 7, "diverged"],
        [*["abcdefgh", "daq", "W2A2", "0", "98.61", "%", "98.06", "%", "+0.56", "-0.11", "-", "20", "12", "s", "done"]],
        ["bbbbbbbb", "dqa", "W2A2", "1", *["-"] * 5, "7/20", "-", "interrupted"],
        ["cccccccc", "ste", "W1A1", "0", *["-"] * 7, "failed"],
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
        (["widt=1"], "no run in runs has 'widt' (did you mean 'width'?)"),
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
        (["compare", "abcdefgh"], "compare takes two runs"),
        (["compare", "abcdefgh", "pppp"], "no run 'pppp'"),
        (["--sort", "epoch"], "--sort: no run in runs has 'epoch' (did you mean 'epochs'?)"),
        (["--sort", "-lr"], "--sort: no run in runs has 'lr'"),
        (["--sort", "topp"], "--sort: no run in runs has 'topp' (did you mean 'top-1'?); qexp runs --help and qexp"),
        (["--columns", "hash,sead"], "--columns: no run in runs has 'sead' (did you mean 'seed'?)"),
        (["--columns", "hash,,seed"], "--columns hash,,seed: a name is empty"),
        (["--group", "quantiser"], "--group: no run in runs has 'quantiser' (did you mean 'quantizer'?)"),
        (["--group", ""], "--group : a name is empty"),
        (["--group", "bits", "--sort", "seed"], "--sort seed: must be bits, mean, std, n with this --group"),
        (["--group", "bits", "--columns", "seed"], "--columns does not go with --group"),
        (["--format", "latx"], "--format latx: must be text, md, csv, json, latex (did you mean 'latex'?)"),
        (["show", "--format", "md", "abcdefgh"], "--format does not go with show"),
        (["--json", "--group", "bits"], "--json does not go with --group"),
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


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["lst"], " (did you mean 'list'?)"),
        (["compar", "abc", "bbb"], " (did you mean 'compare'?)"),
        (["daqq"], " (did you mean 'daq'?)"),
        (["digits", "renset18"], " (did you mean 'resnet18'?)"),
        (["rm", "--yes", "w2a3"], " (did you mean 'w2a2'?)"),
        (["zzzzzz"], ""),
    ],
)
def test_a_word_that_is_in_no_path_is_an_error(qexp: Qexp, store: dict[str, Path], words: list[str], hint: str) -> None:
    result = qexp("runs", *words)
    wrong = next(word for word in words if word not in ("rm", "--yes", "digits"))
    assert (result.code, result.out) == (2, "")
    assert result.err == f"qexp runs: error: '{wrong}': no run in runs has that in its path{hint}\n"
    assert all(path.is_dir() for path in store.values())


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


@pytest.mark.process
def test_a_run_that_is_running_says_so_and_how_far_it_is(qexp: Qexp, store: dict[str, Path]) -> None:
    path = make("pact-w2a2/s0-eeeeeeee", epochs=3)
    (path / "summary.json").unlink()
    with held_elsewhere(path):
        (row,) = rows(qexp("runs", "--state", "running").out)
    assert row == ["eeeeeeee", "pact", "W2A2", "0", *["-"] * 5, "3/20", "-", "running"]


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
    (row,) = rows(qexp("runs", "daq").out)
    assert row == ["abcdefgh", "daq", "W2A2", "0", "97.50", "%", *["-"] * 4, "3", "-"]
    assert "top-1            97.50 %  hard, last epoch\n" in qexp("runs", "show", "abcdefgh").out


def test_a_summary_beside_another_state_than_done_is_no_result(qexp: Qexp, store: dict[str, Path]) -> None:
    (store["ste"] / "summary.json").write_text(json.dumps(SUMMARY))
    (row,) = rows(qexp("runs", "ste").out)
    assert row == ["cccccccc", "ste", "W1A1", "0", *["-"] * 7, "failed"]
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
    assert [(row[0], row[1] == "resnet18") for row in rows(result.out)] == [
        ("??", True),
        ("no-seed", True),
        ("cccccccc", True),
    ]
    assert [name in result.out for name in (":smile:", "[bold]x")] == [True, True]
    assert len(json.loads(qexp("runs", "--json").out)) == 6


# The reader of the output


@pytest.mark.process
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


# qexp runs, qexp doctor


def test_runs_lists_the_store(qexp: Qexp, swept: Path, sweep: Sweep) -> None:
    result = qexp("runs")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("3 runs: synthetic, resnet20 x0.25, protocol paper\n")
    for row, method in zip(rows(result.out), ("daq", "dqa", "fp"), strict=True):
        found = json.loads((sweep.run(method) / "summary.json").read_text())
        assert row[:4] == [found["key"], method, "W32A32" if method == "fp" else "W2A2", "0"]
        assert row[4:6] == [f"{found['top1_hard']:.2f}", "%"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("daq",), ["daq"]),
        (("resnet20", "w2a2"), ["daq", "dqa"]),
        (("daq", "dqa"), []),
        (("--state", "done", "fp"), ["fp"]),
        (("--state", "failed"), []),
    ],
)
def test_runs_takes_filters(qexp: Qexp, swept: Path, words: tuple[str, ...], expected: list[str]) -> None:
    result = qexp("runs", *words)
    assert result.code == 0
    assert [row[1] for row in rows(result.out)] == expected
    assert expected or result.out == f"no such runs in {swept}\n"


def test_runs_shows_unfinished_runs_and_takes_a_store(qexp: Qexp, tmp_path: Path) -> None:
    path = tmp_path / "mine" / "synthetic" / "resnet20" / "daq-w1a1" / "s3-0123abcd"
    path.mkdir(parents=True)
    runs.write_status(path, "running")
    (row,) = rows(qexp("runs", "--runs-dir", str(tmp_path / "mine")).out)
    assert row == ["0123abcd", "daq", "W1A1", "3", *["-"] * 7, "interrupted"]
    assert qexp("runs", "--state", "broken").code == 2
