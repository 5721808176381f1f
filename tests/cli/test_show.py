"""`qexp runs show`."""

import json
from pathlib import Path
from typing import Any

import pytest

from qexp import runs
from qexp.config.config import float_parent_of
from qexp.config.yaml_files import to_yaml
from support.commands import Configure, Qexp
from support.stored_runs import SUMMARY, make

# show


def test_show_tells_all_that_is_known_of_a_run(qexp: Qexp, store: dict[str, Path]) -> None:
    path = store["daq"]
    changes = {"versions": {"torch": "2.15.0+cpu", "numpy": "2.4.6"}, "time_resumed_at_steps": [120, 340]}
    git = {"commit": "0a1b2c", "dirty": True, "changes": "0123456789abcdef"}
    changes["before_norm"] = {"top1_hard": 97.5, "top1_soft": 97.25}
    summary = {**SUMMARY, **changes, "git": git, "deterministic": True, "unsettled": list("vwxyz")}
    (path / "summary.json").write_text(json.dumps(summary))
    machine = {"qexp": "9.9", "device": "cpu", "device_name": "CPU", "cpu": "Abacus", "threads": 2}
    sessions = [{"time_started": f"2026-01-0{day}"} for day in (1, 2)]
    environment = {**machine, "hostname": "desk", "time_started": "2026-01-03", "earlier": sessions}
    (path / "env.json").write_text(json.dumps(environment))
    (path / "last.pt").write_bytes(bytes(1_234_567))
    status = json.loads((path / "status.json").read_text())
    lines = qexp("runs", "show", "abc").out.splitlines()
    assert lines[:24] == [
        "daq W2A2  resnet18 x0.25 on digits  seed 0",
        "  run              runs/digits/resnet18/daq-w2a2/s0-abcdefgh",
        f"  state            done  ({status['time']}, pid {status['pid']} on {status['host']})",
        "  top-1            98.61 %  hard, last epoch, 1,360 test images",
        "  before norm      97.50 %, soft 97.25 %, before batch norm was estimated again",
        "  best             98.89 % in epoch 15, chosen by test accuracy, before batch norm was estimated again",
        "  top-1 soft       98.50 %",
        "  quantizer gap    -0.11 points  (soft - hard)",
        "  float top-1      98.06 %",
        "  difference       +0.56 points to float",
        "  WARNING          5 quantizers did not end at the lowest bit-width (v, w, x, ...); the hard accuracy is of a "
        "network that training did not converge to",
        "  protocol         short",
        "  epochs           20",
        "  batch            64",
        "  start            fp",
        "  deterministic    yes",
        "  keep_float       [first,last]",
        "  options          dataset.train_size=null  (all else as in the YAML files)",
        "  time             11.5 s  (2,834 images/s)",
        "  resumed at step  120 (2026-01-02), 340 (2026-01-03)",
        "  versions         qexp 9.9, torch 2.15.0+cpu, numpy 2.4.6",
        "  git              0a1b2c and uncommitted changes 0123456789abcdef (of their SHA-256)",
        "  device           cpu, Abacus, threads 2",
        "  machine          desk",
    ]
    assert lines[24].startswith("  files               1.2 MB  in all")
    assert "                      1.2 MB  last.pt" in lines


def test_a_float_run_has_one_accuracy(qexp: Qexp, workspace: Path) -> None:
    changes = {"quantizer": "fp", "top1_soft": 98.611, "quantizer_gap": 0, "difference": 0, "best_top1_soft": 98.7}
    make("fp-w32a32/s0-abcdefgh", summary=changes)
    lines = qexp("runs", "show", "abcdefgh").out.splitlines()
    assert lines[0] == "fp W32A32  resnet18 x0.25 on digits  seed 0"
    assert lines[3:5] == [
        "  top-1            98.61 %  last epoch, 1,360 test images",
        "  best             98.89 %, soft 98.70 % in epoch 15, chosen by test accuracy",
    ]
    assert not any("float" in line or "gap" in line for line in lines)


FIRMNESS = {
    **{"weights": 267264, "within_1e-6": 1047, "within_1e-5": 9876, "layers": {}, "seed": 0, "draws": 5, "spread": 4.9},
    "drawn": {"smallest": 79.67, "largest": 84.59, "mean": 82.165, "changed": 13.04, "top1_hard": 85.4},
    "reestimated": {"smallest": 84.5, "largest": 85.25, "mean": 85.0, "changed": 9.0, "top1_hard": 85.5},
}


def test_show_says_how_firm_an_accuracy_is(qexp: Qexp, workspace: Path) -> None:
    make("daq-w2a2/s0-abcdefgh", summary={"firmness": FIRMNESS})
    lines = qexp("runs", "show", "abcdefgh").out.splitlines()
    assert lines[6:9] == [
        "  quantizer gap    -0.11 points  (soft - hard)",
        "  firmness         79.67 to 84.59 %, mean 82.17 %  (1,047 weights within 1e-6 of a threshold, 5 draws; 13.0 % "
        "of predictions change)",
        "  re-estimated     84.50 to 85.25 %, mean 85.00 %  (batch norm estimated again for each draw; 9.0 % of "
        "predictions change)",
    ]
    none = {**FIRMNESS, "within_1e-6": 0, "draws": 0, "spread": 0.0, "drawn": None, "reestimated": None}
    make("daq-w2a2/s0-bbbbbbbb", summary={"firmness": none})
    said = "firmness         no weight within 1e-6 of a threshold, 9,876 within 1e-5; no draws made, spread 0"
    assert qexp("runs", "show", "bbbbbbbb").out.splitlines()[7] == f"  {said}"


@pytest.mark.parametrize(
    "firmness",
    [
        *(None, 3, [], {}, {"within_1e-6": "x", "within_1e-5": 3}, {**FIRMNESS, "within_1e-5": None}),
        *({**FIRMNESS, "quantizer": "fp"},),
    ],
)
def test_no_firmness_is_shown_where_none_can_be_read(qexp: Qexp, workspace: Path, firmness: Any) -> None:
    is_float = isinstance(firmness, dict) and "quantizer" in firmness
    make("daq-w2a2/s0-abcdefgh", summary={"firmness": firmness} | ({"quantizer": "fp"} if is_float else {}))
    result = qexp("runs", "show", "abcdefgh")
    assert (result.code, result.err) == (0, "")
    assert "firmness" not in result.out


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
    assert lines[0] == "ste W1A1  resnet18 x0.25 on digits  seed 0"
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


def test_show_says_what_a_run_is_beside_its_name(qexp: Qexp, workspace: Path, configure: Configure) -> None:
    """What differs from the files of its data, network, method and recipe; bits, seed and width are in the headline."""
    words = "dataset=digits quantizer=daq bits=3 seed=4 model.width=0.5 recipe.optimizer.weight.lr=0.03"
    config = configure(*words.split(), "keep_float=[]", "layer_bits=['layer1.*:4']", "quantizer.granularity=channel")
    path = runs.run_directory(config)
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(to_yaml(config.tree))
    runs.write_status(path, "interrupted")
    lines = qexp("runs", "show", config.key).out.splitlines()
    assert "  learning rate    0.03" in lines
    assert "  granularity      channel" in lines
    assert "  layer_bits       [layer1.*:4]" in lines
    (row,) = [line for line in lines if line.startswith("  options  ")]
    told = row.removeprefix("  options          ").removesuffix("  (all else as in the YAML files)").split()
    assert sorted(told) == [
        "keep_float=[]",
        "layer_bits=[layer1.*:4]",
        "quantizer.granularity=channel",
        "recipe.optimizer.weight.lr=0.03",
    ]


def test_show_says_that_a_run_had_not_begun(qexp: Qexp, workspace: Path, configure: Configure) -> None:
    """It was stopped while its float net was trained; one that has a checkpoint of its own had begun."""
    config = configure("dataset=digits", "quantizer=daq", "bits=3")
    net = float_parent_of(config)
    for one in (config, net):
        path = runs.run_directory(one)
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(to_yaml(one.tree))
        runs.write_status(path, "running")
    said = f"  not begun        its float net came first, and is not done: {runs.run_directory(net).absolute()}"
    assert said in qexp("runs", "show", config.key).out.splitlines()
    assert "not begun" not in qexp("runs", "show", net.key).out
    (runs.run_directory(config) / "last.pt").write_bytes(b"...")
    assert "not begun" not in qexp("runs", "show", config.key).out


def test_show_reads_a_directory_anywhere(qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store["daq"].parent)
    assert qexp("runs", "show", "s0-abcdefgh").out.startswith("daq W2A2  resnet18 x0.25 on digits  seed 0\n")


def test_show_as_json_holds_everything(qexp: Qexp, store: dict[str, Path]) -> None:
    found = json.loads(qexp("runs", "show", "--json", "abcdefgh").out)
    assert found["summary"] == SUMMARY
    assert found["status"] == json.loads((store["daq"] / "status.json").read_text())
    assert found["config"]["recipe"]["epochs"] == 20
    assert found["files"] == {path.name: path.stat().st_size for path in store["daq"].iterdir()}
    assert found["environment"] is None
