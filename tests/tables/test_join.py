"""The papers' tables: the committed ones compose, and joining rows with runs does the arithmetic it says."""

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from qexp import runs
from qexp.config.compose import Job, compose_job, composing
from qexp.config.config import conf_dir
from qexp.config.schema import Invalid
from qexp.config.variants import Variants
from qexp.experiment.runner import float_config
from qexp.tables import data as tables
from qexp.tables.format import as_csv, as_markdown, cells, markdown, notes
from qexp.tables.join import Line, Request, View, view
from qexp.utils.errors import UsageError
from support.commands import TINY
from support.papers import SMALL, fabricate

PAPER = conf_dir() / "paper"
ROWS = {
    "dqa/1": 28,
    "dqa/2": 13,
    "dqa/3": 8,
    "dqa/4": 4,
    "daq/imagenet-resnet18": 50,
    "daq/cifar10-resnet20": 5,
    "parq/cifar10-resnet20": 11,
}
ALL = sorted(ROWS)
RUNNABLE = {**ROWS, "daq/imagenet-resnet18": 9}


@pytest.fixture(scope="module")
def variants() -> Variants:
    return Variants()


def asked(*overrides: str, rows: str | None = None, seeds: Sequence[int] = (), protocol: str = "paper") -> Request:
    return Request(rows, tuple(seeds) or None, protocol, overrides)


# The committed tables


def test_the_committed_tables_are_those_of_the_papers() -> None:
    assert tables.names(PAPER) == ALL
    assert {name: len(tables.load(PAPER, name).rows) for name in ALL} == ROWS


@pytest.mark.parametrize("name", ALL)
def test_every_row_composes_to_a_run_of_its_own(name: str, variants: Variants, workspace: Path) -> None:
    joined = view(PAPER, name, asked(), variants)
    assert [line.reason for line in joined.lines if line.reason] == []
    found = [run for line in joined.lines for run in line.runs]
    assert len(found) == RUNNABLE[name] * len(joined.seeds)
    assert len({run.path for run in found}) == len(found)
    assert {line.state for line in joined.lines if line.row.overrides is None} <= {"not in qexp"}


@pytest.mark.parametrize("name", ALL)
def test_every_row_has_its_float_net_in_the_same_table(name: str, variants: Variants, workspace: Path) -> None:
    """Under another protocol than the paper's, rows are compared with it."""
    joined = view(PAPER, name, asked(), variants)
    configs = [run.config for line in joined.lines for run in line.runs]
    floats = {runs.run_directory(config) for config in configs if config.quantizer.name == "fp"}
    assert {runs.run_directory(float_config(config)) for config in configs} == floats


def test_tables_of_weights_and_of_activations_share_their_float_nets(variants: Variants, workspace: Path) -> None:
    def floats(name: str, pattern: str) -> list[Path]:
        return [line.runs[0].path for line in view(PAPER, name, asked(rows=pattern), variants).lines]

    assert floats("dqa/1", "c10_fp,c100_fp") == floats("dqa/2", "c10_fp,c100_fp")
    assert floats("dqa/3", "r18_fp") == floats("dqa/4", "r18_fp")


def test_numbers_and_words_of_some_rows() -> None:
    """Spot checks against the papers, one per table, by hand."""
    expected = {
        ("dqa/1", "c100_bwn_twn_fp_dqa"): (75.9, None, None, 5),
        ("dqa/2", "c100_ps248_dqa"): (78.1, None, None, 1),
        ("dqa/3", "mv2_minmax248_dqa"): (52.2, 77.1, None, 1),
        ("dqa/4", "r18_minmax2_br_fp"): (57.7, 81.5, None, 1),
        ("daq/imagenet-resnet18", "daq_w1a2"): (64.6, None, None, None),
        ("daq/imagenet-resnet18", "qnet_w3a32"): (70.4, None, None, None),
        ("daq/cifar10-resnet20", "w1a1"): (85.8, None, None, None),
        ("parq/cifar10-resnet20", "brt"): (91.25, None, 0.07, 3),
    }
    for (name, key), numbers in expected.items():
        (row,) = tables.select(tables.load(PAPER, name).rows, key)
        reported = row.reported
        assert (reported.top1, reported.top5, reported.std, reported.runs) == numbers


def test_a_shorter_protocol_wins_over_the_words_of_the_table(variants: Variants, workspace: Path) -> None:
    """The PARQ paper's 200 epochs are not those of a short run; its weight decay is."""
    configs = {}
    for protocol in ("paper", "short"):
        (line,) = view(PAPER, "parq/cifar10-resnet20", asked(rows="ste2", protocol=protocol), variants).lines
        configs[protocol] = line.runs[0].config
    assert [configs[name].recipe.epochs for name in ("paper", "short")] == [200, 20]
    assert {config.recipe.optimizer.weight.weight_decay for config in configs.values()} == {2e-4}
    assert configs["short"].dataset.options["train_size"] == 10_000
    assert configs["short"].recipe.schedule.milestones == (0.4, 0.6, 0.75)
    (line,) = view(PAPER, "dqa/1", asked("recipe.epochs=2", rows="c10_fp", protocol="short"), variants).lines
    assert line.runs[0].config.recipe.epochs == 2


# Composing many jobs


@pytest.mark.parametrize(
    "words",
    [
        "dataset=cifar10 quantizer=br bits=2 quantizer.mix=[minmax@2,fp] protocol=short seed=3",
        "quantizer=daq weight_bits=1 activation_bits=2 keep_float=[] recipe=daq dataset=cifar10",
        "+recipe.epochs=3 ++seed=1 recipe.optimizer.clip={lr:0.5} 'init=\"my file.pt\"' threads=${seed}",
        "dataset.mean=[0.1] recipe.schedule.milestones=[] runs_dir=null quantizer=ste",
        "quantizr=daq",
        "recipe.epoch=3 bits=99",
        "quantizer=dag model=resnet19",
        "model=resnet18 model=resnet20",
        "~seed",
        "+quantizer=daq",
        "quantizer.mix.more=2",
    ],
)
def test_variants_give_the_jobs_that_a_composition_gives(words: str, variants: Variants) -> None:
    with composing():
        job = variants.job(shlex.split(words))
        expected = compose_job(shlex.split(words))
    assert job == expected
    assert job.raw == expected.raw


def test_a_word_that_is_no_override_is_a_problem_of_its_job(variants: Variants) -> None:
    with composing():
        job = variants.job(["seed=1", "quantizer.mix=[minmax@2"])
    assert job.config is None
    assert str(job.problems[0]).startswith("quantizer.mix=[minmax@2: expected key=value")


@pytest.fixture
def folder(workspace: Path) -> Path:
    """A folder of tables with one table, a/small."""
    place = workspace.parent / "paper"
    (place / "a").mkdir(parents=True)
    (place / "a" / "small.yaml").write_text(SMALL)
    return place


def test_adding_a_file_adds_a_table(folder: Path, variants: Variants) -> None:
    (folder / "b.yaml").write_text(SMALL)
    assert tables.names(folder) == ["a/small", "b"]
    assert [line.row.id for line in view(folder, "b", asked(), variants).lines] == ["fp", "ste", "dqa", "lsq"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Two nets\n", "", "title: missing option"),
        ("citation: ", "citaton: ", "citaton=Somebody 2020: unknown option (did you mean 'citation'?)"),
        ("top1: 90.0", "top1: 190", "rows[0].reported.top1=190.0: must be at most 100"),
        ("top1: 90.0", "top1: about 90", "rows[0].reported.top1=about 90: expected a number"),
        ("id: dqa", "id: ste", "several rows have the id ste"),
        ("quantizer=ste bits=2", '"quantizer=\'ste"', "No closing quotation"),
        ("seeds: [0, 1]", "seeds: [0, 1", ", line 9: no valid YAML"),
        ("runs: one}", "runs: one, extra: 1}", "protocol.extra=1: unknown option"),
    ],
)
def test_a_mistake_in_a_table_is_named_with_its_file(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "a" / "small.yaml"
    assert old in SMALL
    path.write_text(SMALL.replace(old, new))
    with pytest.raises(UsageError) as caught:
        tables.load(folder, "a/small")
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_are_chosen_by_id_and_by_pattern() -> None:
    rows = tables.load(PAPER, "dqa/1").rows
    assert [row.id for row in tables.select(rows, "c100_fp,c10_minmax2*,c10_fp")] == [
        "c10_fp",
        "c10_minmax2",
        "c10_minmax2_br_fp",
        "c10_minmax248_br",
        "c10_minmax248_dqa",
        "c100_fp",
    ]
    assert len(tables.select(rows, None)) == 28


def by_id(joined: View) -> dict[str, Line]:
    return {line.row.id: line for line in joined.lines}


def paths(joined: View, key: str) -> list[Path]:
    return [run.path for run in by_id(joined)[key].runs]


def test_the_join_does_what_it_says(folder: Path, variants: Variants) -> None:
    """Seeds 0 and 1: the float row has both, STE both, DQA the first, unsettled."""
    empty = view(folder, "a/small", asked(), variants)
    for path, top1 in zip(paths(empty, "fp"), (90.0, 92.0), strict=True):
        fabricate(path, top1)
    for path, top1 in zip(paths(empty, "ste"), (80.0, 83.0), strict=True):
        fabricate(path, top1)
    fabricate(paths(empty, "dqa")[0], 85.0, unsettled=["layer1"])
    lines = by_id(view(folder, "a/small", asked(), variants))
    assert (lines["ste"].mean, len(lines["ste"].accuracies)) == (81.5, 2)
    assert lines["ste"].std == pytest.approx(4.5**0.5)  # ((1.5)^2 + (1.5)^2) / (2 - 1)
    assert (lines["dqa"].mean, lines["dqa"].std, lines["dqa"].unsettled) == (85.0, None, True)
    assert not lines["ste"].unsettled
    assert lines["ste"].minus_reported() == 81.5 - 80.5
    assert lines["ste"].minus_float() == ((80 - 90) + (83 - 92)) / 2
    assert lines["dqa"].minus_float() == 85 - 90  # seed 1 has no DQA
    assert (lines["dqa"].minus_reported(), lines["fp"].minus_float()) == (None, None)
    assert (lines["fp"].mean, lines["lsq"].mean) == (91.0, None)
    states = {key: line.state for key, line in lines.items()}
    assert states == {"fp": "done", "ste": "done", "dqa": "1/2 seeds", "lsq": "not in qexp"}


def test_the_difference_is_to_the_paper_only_under_its_own_protocol(folder: Path, variants: Variants) -> None:
    own = view(folder, "a/small", asked("threads=1", "tracking.eval_interval=2"), variants)
    fabricate(paths(own, "fp")[0], 90.25)
    fabricate(paths(own, "ste")[0], 80.0)
    fabricate(paths(own, "dqa")[0], 90.254, unsettled=["x"])
    changed = view(folder, "a/small", asked("recipe.epochs=3", "threads=1"), variants)
    fabricate(paths(changed, "fp")[1], 70.0)
    fabricate(paths(changed, "ste")[1], 69.997)
    headers, rows, _ = cells(view(folder, "a/small", asked("threads=1", "tracking.eval_interval=2"), variants))
    assert headers[2:] == ["paper", "ours", "n", "ours - paper", "state"]
    assert [row[2:] for row in rows] == [
        ["90.0 (99.5)", "90.25", "1", "+0.25", "1/2 seeds"],
        ["80.5 ± 0.25", "80.00", "1", "-0.50", "1/2 seeds"],
        ["unknown", "90.25*", "1", "-", "1/2 seeds"],
        ["85.0", "-", "-", "-", "not in qexp"],
    ]
    joined = view(folder, "a/small", asked("recipe.epochs=3", "threads=1"), variants)
    headers, rows, _ = cells(joined)
    assert headers[5] == "ours - float"
    assert [row[3:] for row in rows[:3]] == [
        ["70.00", "1", "-", "1/2 seeds"],
        ["70.00", "1", "+0.00", "1/2 seeds"],  # -0.003: no negative zero
        ["-", "0", "-", "not run"],
    ]
    assert joined.changes == ["recipe.epochs=3"]
    assert any("recipe.epochs=3" in line for line in notes(joined)["our runs"])
    assert not view(folder, "a/small", asked(protocol="smoke"), variants).is_own


def test_the_difference_to_the_float_row_is_of_the_same_seeds(folder: Path, variants: Variants) -> None:
    empty = view(folder, "a/small", asked("recipe.epochs=3", seeds=[4, 5]), variants)
    fabricate(paths(empty, "fp")[1], 50.0)
    for path, top1 in zip(paths(empty, "ste"), (10.0, 45.0), strict=True):
        fabricate(path, top1)
    joined = view(folder, "a/small", asked("recipe.epochs=3", seeds=[4, 5]), variants)
    assert joined.seeds == (4, 5)
    assert by_id(joined)["ste"].minus_float() == 45 - 50


def test_states(folder: Path, variants: Variants) -> None:
    """All the words a cell can have; a table of three seeds."""
    request = asked(seeds=[0, 1, 2])
    empty = view(folder, "a/small", request, variants)
    assert [line.state for line in empty.lines[:3]] == ["not run"] * 3
    fabricate(paths(empty, "fp")[0], None, state="failed")
    fabricate(paths(empty, "fp")[1], None, state="failed")
    fabricate(paths(empty, "fp")[2], None, state="failed")
    fabricate(paths(empty, "ste")[0], 50.0)
    fabricate(paths(empty, "ste")[1], None, state="diverged")
    fabricate(paths(empty, "dqa")[0], None, state="running")  # nobody holds its lock
    fabricate(paths(empty, "dqa")[2], None)  # done, and its summary is lost
    with ExitStack() as held:
        held.enter_context(runs.claim(paths(empty, "dqa")[1]))
        runs.write_status(paths(empty, "dqa")[1], "running")
        joined = view(folder, "a/small", request, variants)
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


def test_a_row_that_does_not_compose_cannot_run_and_says_why(folder: Path, variants: Variants) -> None:
    text = SMALL.replace("quantizer=dqa bits=2", "quantizer=dag bits=2")
    (folder / "a" / "small.yaml").write_text(text)
    joined = view(folder, "a/small", asked("threads=1"), variants)
    assert [line.state for line in joined.lines] == ["not run", "not run", "cannot run", "not in qexp"]
    (problem,) = notes(joined)["problems"]
    assert problem.startswith("cannot run: quantizer=dag: no such quantizer (did you mean 'dqa'?)")
    assert problem.endswith("  (dqa)")
    assert "cannot run: quantizer=dag" in as_csv(joined)


def test_what_is_wrong_with_the_users_words_is_no_property_of_a_row(folder: Path, variants: Variants) -> None:
    with pytest.raises(Invalid) as caught:
        view(folder, "a/small", asked("recipe.epoch=3", "init=nowhere.pt", "threads=1"), variants)
    (problem,) = caught.value.problems
    assert str(problem) == "recipe.epoch=3: unknown option (did you mean 'epochs'?) (row fp)"
    with pytest.raises(Invalid, match=r"init=nowhere.pt: must be fp, scratch, .*no run 'nowhere.pt'"):
        view(folder, "a/small", asked("init=nowhere.pt"), variants)


def test_markdown_escapes_what_a_table_cannot_hold() -> None:
    text = markdown(["a", "b"], [["x|y", "1*"]], ["b"])
    assert text == "| a | b |\n| --- | ---: |\n| x\\|y | 1\\* |"


def test_notes_are_below_the_table(folder: Path, variants: Variants) -> None:
    empty = view(folder, "a/small", asked(), variants)
    assert not any(line.startswith("trained with") for line in notes(empty)["our runs"])
    fabricate(paths(empty, "ste")[0], 50.0, unsettled=["x"])
    joined = view(folder, "a/small", asked(), variants)
    below = notes(joined)
    assert below["notes"][0].startswith("* in a run the attention")
    assert below["notes"][1:] == ["ste: a|b", "dqa: from page 4"]
    assert "epochs: 5" in below["the paper's protocol"]
    assert "numbers from: page 3" in below["the paper's protocol"]
    assert below["our runs"][-2:] == ["trained with qexp 9.9, torch 8.8 on abacus", "ours is smaller"]
    text = as_markdown(joined)
    assert text.startswith("### a/small: Two nets\n\nSomebody 2020\n\n| row |")
    assert "\n- \\* in a run" in text
    assert "\n- epochs: 5\n" in text


def test_a_job_remembers_its_words(folder: Path, variants: Variants) -> None:
    line = by_id(view(folder, "a/small", asked("threads=1"), variants))["ste"]
    job: Job = line.runs[1].job
    assert job.overrides == (*TINY, "init=fp", "quantizer=ste", "bits=2", "threads=1", "seed=1")
