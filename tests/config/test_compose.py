"""The check in front of training: what a command means, and what it is told when it means nothing."""

from pathlib import Path

import pytest

from qexp.config.identity import LIBRARIES
from support.commands import Configure, Qexp, refused
from support.jobs import LOCAL_METHOD, choices, jobs_of, methods_of

# One mistake, one line that names it

MISTAKES: list[tuple[str, str, str]] = [
    # command line; what the line begins with; what it says besides
    ("quantizr=daq", "quantizr=daq: unknown option", "did you mean 'quantizer'?"),
    ("recipe.epoch=3", "recipe.epoch=3: unknown option", "did you mean 'epochs'?"),
    ("lr=0.1", "lr=0.1: unknown option", "did you mean 'recipe.optimizer.weight.lr'?"),
    ("recipe.lr=0.1", "recipe.lr=0.1: unknown option", "did you mean 'recipe.optimizer.weight.lr'?"),
    ("+quantiser=daq", "quantiser=daq: unknown option", "did you mean 'quantizer'?"),
    ("++quantiser=daq", "quantiser=daq: unknown option", "did you mean 'quantizer'?"),
    ("++model.widht=1", "model.widht=1: unknown option", "did you mean 'width'?"),
    ("+quantizer.alpha=3", "quantizer.alpha=3: unknown option", "weight_sigma"),
    ("bits=two", "bits=two: must be one of 1, 2,", "32"),
    ("bits=99", "bits=99: must be one of 1, 2,", "32"),
    ("bits=true", "bits=True: must be one of 1, 2,", "32"),
    ("bits=2.0", "bits=2.0: must be one of 1, 2,", "32"),
    ("keep_float=[nolayer]", "keep_float", "'nolayer' fits no layer; layers: conv1,"),
    ("quantizer=dqq", "quantizer=dqq: no such quantizer", "did you mean 'dqa'?"),
    ("quantizer=null", "quantizer=null: no such quantizer", "there are br, daq, dqa, dropbits, fp, rq, srq, ste"),
    ("quantizer=fp bits=4", "quantizer=fp with weight_bits=4 activation_bits=4: has no 4-bit weights", "32"),
    ("quantizer.weight_sigma=-1", "quantizer.weight_sigma=-1.0: must be greater than 0", ""),
    ("quantizer._target_=os.system", "quantizer._target_=os.system: must name a quantizer in qexp.quantizers", ""),
    ("quantizer._target_=qexp.nothing.X", "quantizer._target_=qexp.nothing.X: must name a quantizer in", ""),
    ("quantizer._target_=qexp.quantizers.X", "quantizer._target_=qexp.quantizers.X: cannot be imported", ""),
    ("quantizer._target_=qexp.quantizers.ste", "quantizer._target_=qexp.quantizers.ste: ", ""),
    ("device=foo", "device=foo: must be auto, cpu, cuda", ""),
    ("init=nothing", "init=nothing: must be fp, scratch, torchvision, a checkpoint file or a run", "in runs"),
    ("dataset.train_size=1438", "dataset.train_size=1438: digits has 1437 training images", ""),
    ("dataset.mean=[0.5,0.5]", "dataset.mean=[0.5,0.5]: digits needs 1", ""),
    ("bits=2,4", "bits=2,4: names several values", "add -m"),
    ("daq", "daq: expected key=value", "did you mean quantizer=daq?"),
    ("blah", "blah: expected key=value", ""),
    ("~recipe", "~recipe: nothing can be deleted", ""),
    ("=3", "=3: expected key=value", ""),
    ("+paper/dqa=1", "+paper/dqa=1: is a table; qexp table", ""),
    ("paper/dqa=1", "paper/dqa=1: is a table; qexp table", ""),
    ("seed=${nothing}", "seed: ", "'nothing' not found"),
    ("seed=???", "seed: Missing mandatory value", ""),
    ("hydra/launcher=nosuch", "", "hydra/launcher/nosuch"),
    ("--config-dir=nowhere", "", "nowhere"),
    ("--config-name=nosuch", "", "nosuch"),
]


@pytest.mark.parametrize(("line", "start", "rest"), MISTAKES, ids=[line for line, _, _ in MISTAKES])
def test_a_mistake_is_answered_by_one_line(qexp: Qexp, line: str, start: str, rest: str) -> None:
    (said,) = refused(qexp, *line.split(" "))
    assert said.startswith(start)
    assert rest in said


@pytest.mark.parametrize("words", [("--nope",), ("--cfg", "everything")])
def test_a_wrong_flag_is_refused(qexp: Qexp, words: tuple[str, ...]) -> None:
    (said,) = refused(qexp, *words)
    assert words[-1] in said


# Several mistakes


@pytest.mark.parametrize(
    ("words", "culprits"),
    [
        (("bits=two", "quantizer=dqq", "++foo=1", "seed=-1"), ("quantizer=dqq", "bits=two", "foo=1", "seed=-1")),
        (("bits=99", "quantizer.weight_sigma=-1", "model.widht=1"), ("bits=99", "quantizer.weight_s", "model.widht")),
        (("device=foo", "init=nothing", "quantizer.alpha=1"), ("device=foo", "init=nothing", "quantizer.alpha=1")),
        (("keep_float=[nope]", "init=nothing", "device=cpu"), ("nope", "init=nothing")),
        (("daq", "bits=99", "recipe.epoch=1"), ("daq", "bits=99", "recipe.epoch=1")),
        (("recipe.epochs=0", "dataset.train_size=0", "model.width=x"), ("recipe.epochs", "dataset.train", "model.wi")),
    ],
)
def test_all_mistakes_of_a_command_are_reported_at_once(
    qexp: Qexp, words: tuple[str, ...], culprits: tuple[str, ...]
) -> None:
    lines = refused(qexp, *words)
    assert len(lines) == len(culprits)
    for culprit in culprits:
        assert sum(line.startswith(culprit) or f"'{culprit}'" in line for line in lines) == 1, (culprit, lines)


def test_ten_mistakes_are_ten_lines_each_with_its_answer(qexp: Qexp) -> None:
    answers = {
        "model=resnet19": "no such model (did you mean 'resnet18'?)",
        "protocol=smok": "no such protocol (did you mean 'smoke'?)",
        "+tracking.tensorbord=true": "unknown option (did you mean 'tensorboard'?)",
        "recipe.epochz=3": "unknown option (did you mean 'epochs'?)",
        "seed=-1": "must be at least 0",
        "recipe.optimizer.weight.lr=fast": "expected a number",
        "recipe.optimizer.norm.lr=nan": "must be a finite number",
        "recipe.optimizer.weight.name=sdg": "must be one of sgd, adam, adamw (did you mean 'sgd'?)",
        "recipe.schedule.milestones=[0.5,2]": "must be at most 1",
        "keep_float=first": "expected a list, such as [a,b]",
    }
    lines = refused(qexp, *answers)
    assert len(lines) == len(answers)
    for word, answer in answers.items():
        key = word.partition("=")[0].lstrip("+")
        (line,) = (line for line in lines if line.startswith(key))
        assert f": {answer}" in line


def test_only_the_third_job_of_a_sweep_is_wrong(qexp: Qexp) -> None:
    (said,) = refused(qexp, "-m", "bits=2,4,99", "seed=5")
    assert said.startswith("bits=99: must be one of")
    assert said.endswith("[job 3 of 3: bits=99 seed=5]")


def test_a_bit_width_that_only_one_method_of_a_sweep_lacks_is_refused(qexp: Qexp) -> None:
    (said,) = refused(qexp, "-m", "quantizer=ste,fp", "bits=4,32")
    assert "quantizer=fp with weight_bits=4" in said
    assert said.endswith("[job 3 of 4: quantizer=fp bits=4]")


def test_a_mistake_of_every_job_is_reported_once(qexp: Qexp) -> None:
    lines = refused(qexp, "-m", "quantizer=ste,dqq", "seed=0,1", "recipe.epoch=3")
    assert sorted(line.partition(":")[0] for line in lines) == ["quantizer=dqq", "recipe.epoch=3"]


# What a command means


def test_the_recipe_follows_the_dataset_unless_named(configure: Configure) -> None:
    cifar10, named = configure("dataset=cifar10").recipe, configure("dataset=cifar10", "recipe=daq").recipe
    assert configure().recipe.batch_size == 64
    assert (cifar10.epochs, cifar10.batch_size, cifar10.init, cifar10.schedule.name) == (300, 128, "scratch", "step")
    assert (named.epochs, named.batch_size, named.init, named.schedule.name) == (400, 256, "fp", "cosine")
    assert configure("recipe=daq").recipe == named


def test_every_dataset_has_a_recipe_of_its_name() -> None:
    assert set(choices("dataset")) <= set(choices("recipe"))


def test_every_choice_of_every_group_composes_and_is_named_after_its_file(configure: Configure) -> None:
    groups = {group: choices(group) for group in ("dataset", "model", "quantizer", "recipe", "protocol")}
    for number in range(max(map(len, groups.values()))):
        chosen = {group: names[number % len(names)] for group, names in groups.items()}
        config = configure(*(f"{group}={name}" for group, name in chosen.items()))
        found = {group: getattr(config, group) for group in ("dataset", "model", "quantizer")}
        names = {key: chosen[key] for key in found}
        if names["model"] in LIBRARIES:  # whose files stand for many networks
            names["model"] += f"-{config.model.options['network']}"
        assert {group: section.name for group, section in found.items()} == names
        assert config.protocol == chosen["protocol"]


def test_the_protocol_wins_over_the_recipe_and_the_command_line_over_both(configure: Configure) -> None:
    paper = configure("dataset=cifar10", "recipe=daq")
    short = configure("dataset=cifar10", "recipe=daq", "protocol=short")
    mine = configure("protocol=short", "recipe.epochs=3", "dataset=cifar10", "dataset.train_size=50", "model.width=1")
    assert (paper.recipe.epochs, paper.dataset.options["train_size"], paper.model.options["width"]) == (400, None, 1.0)
    assert (short.recipe.epochs, short.dataset.options["train_size"], short.model.options["width"]) == (20, 10000, 0.25)
    assert (mine.recipe.epochs, mine.dataset.options["train_size"], mine.model.options["width"]) == (3, 50, 1)
    assert (short.recipe.batch_size, short.protocol, paper.protocol) == (256, "short", "paper")


def test_bits_sets_both_widths_and_each_can_be_set_alone(configure: Configure) -> None:
    def widths(*words: str) -> tuple[int, int]:
        config = configure(*words)
        return config.weight_bits, config.activation_bits

    assert widths() == (2, 2)
    assert widths("quantizer=fp") == (32, 32)
    assert widths("bits=4", "activation_bits=32") == (4, 32)
    assert widths("weight_bits=1") == (1, 2)


def test_a_sweep_is_every_combination(qexp: Qexp) -> None:
    jobs = jobs_of(qexp, "-m", "quantizer=ste,br", "bits=2,4")
    assert [words for words, _ in jobs] == [f"quantizer={q} bits={b}" for q in ("ste", "br") for b in (2, 4)]
    assert methods_of(jobs) == ["ste-w2a2", "ste-w4a4", "br-w2a2", "br-w4a4"]


def test_ranges_and_globs_sweep_as_in_hydra(qexp: Qexp) -> None:
    assert len(jobs_of(qexp, "-m", "seed=range(2)")) == 2
    assert methods_of(jobs_of(qexp, "-m", "quantizer=glob(da*)")) == ["daq-w2a2"]


@pytest.mark.parametrize(
    "words", [("quantizer=ste", "-m", "bits=2,4"), ("--dry-run", "quantizer=ste", "-m", "bits=2,4")]
)
def test_flags_may_stand_anywhere(qexp: Qexp, words: tuple[str, ...]) -> None:
    assert methods_of(jobs_of(qexp, *words)) == ["ste-w2a2", "ste-w4a4"]


def test_a_quantizer_of_the_users_own_folder(qexp: Qexp, conf: Path) -> None:
    assert methods_of(jobs_of(qexp, "--config-dir", str(conf), "quantizer=mine")) == ["mine-w4a4"]
    assert methods_of(jobs_of(qexp, "--config-dir", str(conf), "-m", "quantizer=mine,ste")) == ["mine-w4a4", "ste-w2a2"]


def test_a_mistake_in_the_users_own_file_is_named(qexp: Qexp, conf: Path) -> None:
    (conf / "quantizer" / "mine.yaml").write_text(LOCAL_METHOD + "gird: x\n")
    (said,) = refused(qexp, "--config-dir", str(conf), "quantizer=mine")
    assert said == "quantizer.gird=x: unknown option (did you mean 'grid'?)"
    (said,) = refused(qexp, "--config-dir", str(conf), "quantizer=mien")
    assert "did you mean 'mine'?" in said


def test_a_file_that_is_no_yaml_is_refused(qexp: Qexp, conf: Path) -> None:
    (conf / "quantizer" / "mine.yaml").write_text("_target_: [qexp\n")
    (said,) = refused(qexp, "--config-dir", str(conf), "quantizer=mine")
    assert "mine" in said


SWEEP_IN_A_FILE = """
seed: 7
hydra:
  sweeper:
    params:
      quantizer: ste,br
      bits: 2,4
"""


def test_a_sweep_written_in_the_users_own_primary_file(qexp: Qexp, conf: Path) -> None:
    (conf / "mysweep.yaml").write_text("defaults: [train, _self_]\n" + SWEEP_IN_A_FILE)
    jobs = jobs_of(qexp, "--config-dir", str(conf), "--config-name", "mysweep", "-m", "bits=3")
    assert methods_of(jobs) == ["ste-w3a3", "br-w3a3"]
    assert all("/s7-" in directory for _, directory in jobs)


def test_a_sweep_written_in_a_group_of_the_users_own(qexp: Qexp, conf: Path) -> None:
    """Hydra's pattern of experiment files."""
    (conf / "experiment").mkdir()
    (conf / "experiment" / "mine.yaml").write_text("# @package _global_" + SWEEP_IN_A_FILE)
    jobs = jobs_of(qexp, "--config-dir", str(conf), "-m", "+experiment=mine", "bits=3")
    assert methods_of(jobs) == ["ste-w3a3", "br-w3a3"]
    assert all("/s7-" in directory for _, directory in jobs)


def test_a_wrong_job_in_a_sweep_file_is_refused(qexp: Qexp, conf: Path) -> None:
    (conf / "experiment").mkdir()
    (conf / "experiment" / "mine.yaml").write_text("# @package _global_" + SWEEP_IN_A_FILE.replace("2,4", "2,99"))
    lines = refused(qexp, "--config-dir", str(conf), "-m", "+experiment=mine")
    assert lines[0].startswith("bits=99: must be one of")
