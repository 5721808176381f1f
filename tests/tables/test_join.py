"""The papers' tables: the committed ones compose, and joining rows with runs does the arithmetic it says."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from qexp import runs
from qexp.config.compose import Composer, Job
from qexp.config.schema import Invalid
from qexp.tables.format import as_csv, cells, notes
from qexp.tables.join import join
from support.commands import TINY
from support.papers import PAPER, SMALL, asked, by_id, fabricate, paths


def test_a_shorter_protocol_wins_over_the_words_of_the_table(composer: Composer, workspace: Path) -> None:
    """The PARQ paper's 200 epochs are not those of a short run; its weight decay is."""
    configs = {}
    for protocol in ("paper", "short"):
        (line,) = join(PAPER, "parq/cifar10-resnet20", asked(rows="ste2", protocol=protocol), composer).lines
        configs[protocol] = line.runs[0].config
    assert [configs[name].recipe.epochs for name in ("paper", "short")] == [200, 20]
    assert {config.recipe.optimizer.weight.weight_decay for config in configs.values()} == {2e-4}
    assert configs["short"].dataset.options["train_size"] == 10_000
    assert configs["short"].recipe.schedule.milestones == (0.4, 0.6, 0.75)
    (line,) = join(PAPER, "dqa/1", asked("recipe.epochs=2", rows="c10_fp", protocol="short"), composer).lines
    assert line.runs[0].config.recipe.epochs == 2


def test_the_join_does_what_it_says(folder: Path, composer: Composer) -> None:
    """Seeds 0 and 1: the float row has both, STE both, DQA the first, unsettled."""
    empty = join(folder, "a/small", asked(), composer)
    for path, top1 in zip(paths(empty, "fp"), (90.0, 92.0), strict=True):
        fabricate(path, top1)
    for path, top1 in zip(paths(empty, "ste"), (80.0, 83.0), strict=True):
        fabricate(path, top1)
    fabricate(paths(empty, "dqa")[0], 85.0, unsettled=["layer1"])
    lines = by_id(join(folder, "a/small", asked(), composer))
    assert (lines["ste"].mean, len(lines["ste"].accuracies)) == (81.5, 2)
    assert lines["ste"].std == pytest.approx(4.5**0.5)  # ((1.5)^2 + (1.5)^2) / (2 - 1)
    assert (lines["dqa"].mean, lines["dqa"].std, lines["dqa"].is_unconverged) == (85.0, None, True)
    assert not lines["ste"].is_unconverged
    assert lines["ste"].minus_reported() == 81.5 - 80.5
    assert lines["ste"].minus_float() == ((80 - 90) + (83 - 92)) / 2
    assert lines["dqa"].minus_float() == 85 - 90  # seed 1 has no DQA
    assert (lines["dqa"].minus_reported(), lines["fp"].minus_float()) == (None, None)
    assert (lines["fp"].mean, lines["lsq"].mean) == (91.0, None)
    states = {key: line.state for key, line in lines.items()}
    assert states == {"fp": "done", "ste": "done", "dqa": "1/2 seeds", "lsq": "not in qexp"}


def test_the_difference_is_to_the_paper_only_under_its_own_protocol(folder: Path, composer: Composer) -> None:
    own = join(folder, "a/small", asked("threads=1", "tracking.eval_interval=2"), composer)
    fabricate(paths(own, "fp")[0], 90.25)
    fabricate(paths(own, "ste")[0], 80.0)
    fabricate(paths(own, "dqa")[0], 90.254, unsettled=["x"])
    changed = join(folder, "a/small", asked("recipe.epochs=3", "threads=1"), composer)
    fabricate(paths(changed, "fp")[1], 70.0)
    fabricate(paths(changed, "ste")[1], 69.997)
    headers, rows, _ = cells(join(folder, "a/small", asked("threads=1", "tracking.eval_interval=2"), composer))
    assert headers[2:] == ["paper", "ours", "n", "ours - paper", "state"]
    assert [row[2:] for row in rows] == [
        ["90.0 (99.5)", "90.25", "1", "+0.25", "1/2 seeds"],
        ["80.5 ± 0.25", "80.00", "1", "-0.50", "1/2 seeds"],
        ["unknown", "90.25*", "1", "-", "1/2 seeds"],
        ["85.0", "-", "-", "-", "not in qexp"],
    ]
    joined = join(folder, "a/small", asked("recipe.epochs=3", "threads=1"), composer)
    headers, rows, _ = cells(joined)
    assert headers[5] == "ours - float"
    assert [row[3:] for row in rows[:3]] == [
        ["70.00", "1", "-", "1/2 seeds"],
        ["70.00", "1", "+0.00", "1/2 seeds"],  # -0.003: no negative zero
        ["-", "0", "-", "not run"],
    ]
    assert joined.changes == ["recipe.epochs=3"]
    assert any("recipe.epochs=3" in line for line in notes(joined)["our runs"])
    assert not join(folder, "a/small", asked(protocol="smoke"), composer).is_own


def test_the_difference_to_the_float_row_is_of_the_same_seeds(folder: Path, composer: Composer) -> None:
    empty = join(folder, "a/small", asked("recipe.epochs=3", seeds=[4, 5]), composer)
    fabricate(paths(empty, "fp")[1], 50.0)
    for path, top1 in zip(paths(empty, "ste"), (10.0, 45.0), strict=True):
        fabricate(path, top1)
    joined = join(folder, "a/small", asked("recipe.epochs=3", seeds=[4, 5]), composer)
    assert joined.seeds == (4, 5)
    assert by_id(joined)["ste"].minus_float() == 45 - 50


def test_states(folder: Path, composer: Composer) -> None:
    """All the words a cell can have; a table of three seeds."""
    request = asked(seeds=[0, 1, 2])
    empty = join(folder, "a/small", request, composer)
    assert [line.state for line in empty.lines[:3]] == ["not run"] * 3
    fabricate(paths(empty, "fp")[0], None, state="failed")
    fabricate(paths(empty, "fp")[1], None, state="failed")
    fabricate(paths(empty, "fp")[2], None, state="failed")
    fabricate(paths(empty, "ste")[0], 50.0)
    fabricate(paths(empty, "ste")[1], None, state="diverged")
    fabricate(paths(empty, "dqa")[0], None, state="running")  # nobody holds its lock
    fabricate(paths(empty, "dqa")[2], None)  # done, and its summary is lost
    runs.write_json(paths(empty, "dqa")[2] / "summary.json", {"seed": 0})  # or a part of it
    with ExitStack() as held:
        held.enter_context(runs.claim(paths(empty, "dqa")[1]))
        runs.write_status(paths(empty, "dqa")[1], "running")
        joined = join(folder, "a/small", request, composer)
        missing = [(line.row.id, run.config.seed) for line, run in joined.missing()]
    assert [line.state for line in joined.lines[:3]] == [
        "failed",
        "1/3 seeds, 1 diverged",
        "0/3 seeds, 1 interrupted, 1 running",
    ]
    assert missing == [("fp", 0), ("dqa", 0), ("fp", 1), ("ste", 1), ("fp", 2), ("ste", 2), ("dqa", 2)]
    problems = notes(joined)["problems"]
    assert problems[0] == f"fp, seed 0, failed: it broke  ({paths(empty, 'fp')[0]})"
    assert len(problems) == 4


def test_a_row_that_does_not_compose_cannot_run_and_says_why(folder: Path, composer: Composer) -> None:
    text = SMALL.replace("quantizer=dqa bits=2", "quantizer=dag bits=2")
    (folder / "a" / "small.yaml").write_text(text)
    joined = join(folder, "a/small", asked("threads=1"), composer)
    assert [line.state for line in joined.lines] == ["not run", "not run", "cannot run", "not in qexp"]
    (problem,) = notes(joined)["problems"]
    assert problem.startswith("cannot run: quantizer=dag: no such quantizer (did you mean 'dqa'?)")
    assert problem.endswith("  (dqa)")
    assert "cannot run: quantizer=dag" in as_csv(joined)


def test_what_is_wrong_with_the_users_words_is_no_property_of_a_row(folder: Path, composer: Composer) -> None:
    with pytest.raises(Invalid) as caught:
        join(folder, "a/small", asked("recipe.epoch=3", "init=nowhere.pt", "threads=1"), composer)
    (problem,) = caught.value.problems
    assert str(problem) == "recipe.epoch=3: unknown option (did you mean 'epochs'?) (row fp)"
    with pytest.raises(Invalid, match=r"init=nowhere.pt: must be fp, scratch, .*no run 'nowhere.pt'"):
        join(folder, "a/small", asked("init=nowhere.pt"), composer)


def test_a_job_remembers_its_words(folder: Path, composer: Composer) -> None:
    line = by_id(join(folder, "a/small", asked("threads=1"), composer))["ste"]
    job: Job = line.runs[1].job
    assert job.overrides == (*TINY, "init=fp", "quantizer=ste", "bits=2", "threads=1", "seed=1")


@pytest.mark.parametrize(
    ("top1", "spread", "is_marked"),
    [
        *((80.0, 0.3, False), (80.0, 0.31, True)),
        *((80.4, 0.09, False), (80.4, 0.11, True), (80.6, 0.11, True)),  # 0.1 from the published 80.5
        *((80.5, 0.0, False), (80.5, 0.01, True)),
    ],
)
def test_a_spread_counts_beside_the_difference_that_a_row_is_about(
    folder: Path, composer: Composer, top1: float, spread: float, is_marked: bool
) -> None:
    empty = join(folder, "a/small", asked(rows="ste", seeds=[0]), composer)
    fabricate(paths(empty, "ste")[0], top1, firmness={"spread": spread})
    joined = join(folder, "a/small", asked(rows="ste", seeds=[0]), composer)
    assert joined.hangs_on_rounding(joined.lines[0]) == is_marked


def test_without_a_difference_the_limit_is_three_tenths(folder: Path, composer: Composer) -> None:
    """A row whose published number is unknown."""
    for seed, spread in enumerate((0.29, 0.31)):
        request = asked(rows="dqa", seeds=[seed])
        fabricate(paths(join(folder, "a/small", request, composer), "dqa")[0], 85.0, firmness={"spread": spread})
        joined = join(folder, "a/small", request, composer)
        assert joined.difference(joined.lines[0]) is None
        assert joined.hangs_on_rounding(joined.lines[0]) == (spread > 0.3)


@pytest.mark.parametrize("firmness", [None, 3, [], {}, {"spread": None}, {"spread": "9"}, {"spread": True}])
def test_no_spread_is_read_where_there_is_none(folder: Path, composer: Composer, firmness: Any) -> None:
    request = asked(rows="ste", seeds=[0])
    fabricate(paths(join(folder, "a/small", request, composer), "ste")[0], 80.5, firmness=firmness)
    line = join(folder, "a/small", request, composer).lines[0]
    assert line.spread is None
