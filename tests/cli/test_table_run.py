"""`qexp table --run` from outside: what it trains."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from qexp.config.yaml_files import load_yaml
from support.commands import TINY, Qexp, Result
from support.papers import SMALL, rows_of

QUICK = ("recipe.epochs=1", "tracking.tensorboard=false")


@pytest.mark.training
def test_run_trains_what_is_missing_and_one_failure_does_not_end_it(small: Callable[..., Result], folder: Path) -> None:
    """STE diverges at a learning rate beyond reason, in the middle of the table."""
    path = folder / "a" / "small.yaml"
    path.write_text(
        SMALL.replace("quantizer=ste bits=2", "quantizer=ste bits=2 init=scratch recipe.optimizer.weight.lr=1e30")
    )
    words = (*QUICK, "--seeds", "0", "--rows", "fp,ste,dqa")
    result = small("--run", *words)
    assert result.code == 3
    failures = [line for line in result.errors if line.startswith("qexp table: ")]
    assert [line.partition(",")[0] for line in failures] == ["qexp table: ste"]
    assert "seed 0, diverged: diverged in epoch 1" in failures[0]
    after = result.out[result.out.index("a/small  Two nets") :]
    states = {key: cells[-1] for key, cells in rows_of(after.splitlines()).items()}
    assert states == {"fp": "done", "ste": "diverged", "dqa": "done"}
    heads = re.findall(r"^\d of \d  .*$", result.out, re.MULTILINE)
    assert [" ".join(head.split()[:5]) for head in heads] == ["1 of 3 fp fp", "2 of 3 ste ste", "3 of 3 dqa dqa"]
    assert "left)" not in heads[0]
    assert re.search(r"  \(about \d+ s left\)$", heads[2])
    path.write_text(SMALL)
    again = small("--run", *words, "--format", "csv")
    assert again.code == 0
    found = {row["row"]: row for row in csv.DictReader(io.StringIO(again.out))}
    assert {row["state"] for row in found.values()} == {"done"}
    assert "1 of 1  ste  ste W2A2  seed 0\n" in again.err
    assert float(found["ste"]["difference"]) == float(found["ste"]["top1"]) - float(found["fp"]["top1"])
    assert found["ste"]["difference_to"] == "float"


@pytest.mark.training
def test_every_row_of_a_table_trains_and_its_weights_have_the_levels_of_its_bits(qexp: Qexp, workspace: Path) -> None:
    """The CIFAR-10 half of DQA's Table 1 on random patterns: 2 levels of BWN, 3 of TWN, 4 of 2 bits."""
    words = [*(word for word in TINY if not word.startswith("model")), "model.width=0.125"]
    result = qexp("table", "dqa/1", "--rows", "c10_*", "--run", "--protocol", "smoke", *words, "--format", "csv")
    assert result.code == 0
    assert [row["state"] for row in csv.DictReader(io.StringIO(result.out))] == ["done"] * 14
    levels = []
    for path in workspace.glob("runs/*/*/*/*/summary.json"):
        summary = json.loads(path.read_text())
        mix = load_yaml(path.parent / "config.yaml")["quantizer"]
        lowest = (mix.get("mix") or [mix.get("grid", "fp")])[0].partition("@")[0]
        levels.append((lowest, summary["weight_bits"], summary["most_weight_levels"]))
    assert Counter(levels) == {
        ("fp", 32, None): 1,
        ("minmax", 2, 4): 4,
        ("sawb", 2, 4): 3,
        ("bwn", 1, 2): 3,
        ("twn", 2, 3): 3,
    }
