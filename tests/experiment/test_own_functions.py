"""Augmentations and schedules of the user's own: what is said of one that is not as it must be, and what it does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qexp.config import trust
from qexp.config.config import parse_config
from qexp.config.identity import float_parent
from qexp.config.schema import Invalid
from qexp.experiment.build import build_source, make_step
from qexp.experiment.own_functions import check_own_functions, own_augment, own_schedule
from qexp.utils.errors import QexpError
from support.commands import Configure, OnlyRun, Train

HEAD = "import random\nimport numpy\nimport torch\nfrom qexp.utils.types import Fraction, Positive\n"
Write = Callable[[str], None]


@pytest.fixture
def write(write: Write) -> Write:
    """The same with what most of these functions import."""
    return lambda text: write(HEAD + text)


def augment(options: str = "") -> str:
    return f"recipe.augment={{_target_: mine.part.f{options}}}"


def rates(options: str = "") -> str:
    return f"recipe.schedule.own={{_target_: mine.part.f{options}}}"


WRONG_AUGMENTS = {
    "no images": ("def f(images, generator): pass", "gives nothing, and must give a tensor"),
    "one less": ("def f(images, generator): return images[1:]", "gives a tensor (3, 3, 8, 8) for images (4, 3, 8, 8)"),
    "cut": ("def f(images, generator): return images[..., 1:]", "(4, 3, 8, 7) for images (4, 3, 8, 8), and must keep"),
    "doubles": ("def f(images, generator): return images.double()", "gives torch.float64 for torch.float32"),
    "bytes": ("def f(images, generator): return images.byte()", "gives torch.uint8 for torch.float32, and must keep"),
    "elsewhere": ("def f(images, generator): return images.to('meta')", "gives a tensor on meta for images on cpu"),
    "a gradient": (
        "def f(images, generator): return images.requires_grad_() * 1",
        "wants a gradient; images have none",
    ),
    "infinite": ("def f(images, generator): return images / 0", "gives values that are infinite or not a number"),
    "Python's numbers": (
        "def f(images, generator): return images * random.random()",
        "other images from the same seed",
    ),
    "NumPy's numbers": (
        "def f(images, generator): return images * numpy.random.rand()",
        "gives other images from the same seed: its random numbers must come from `generator`, and nothing may be",
    ),
    "a state": (
        "calls = []\ndef f(images, generator):\n    calls.append(1)\n    return images + len(calls)",
        "gives other images from the same seed",
    ),
    "the last batch": (
        "last = []\ndef f(images, generator):\n    last.append(images.clone())\n    return images + last[-2:][0]",
        "gives other images from the same seed",
    ),
    "every other call": (
        "calls = []\ndef f(images, generator):\n    calls.append(1)\n    return images.flip(len(calls) % 2 + 2)",
        "and nothing may be kept between calls",
    ),
    "late": (
        "calls = []\ndef f(images, generator):\n    calls.append(1)\n    return images * (len(calls) < 40)",
        "and nothing may be kept between calls",
    ),
    "inference": (
        "@torch.inference_mode()\ndef f(images, generator): return images * 1.0",
        "gives an inference tensor (of torch.inference_mode), with which nothing can be trained",
    ),
    "no gradients": (
        "def f(images, generator):\n    torch.set_grad_enabled(False)\n    return images",
        "changes torch's grad mode from True to False, in all of the process; it must put back what it changes",
    ),
    "one thread": (
        "def f(images, generator):\n    torch.set_num_threads(1)\n    return images",
        "changes torch's number of threads from 2 to 1, in all of the process",
    ),
    "two threads": (
        "def f(images, generator):\n    torch.set_num_threads(2)\n    return images",
        "changes torch's number of threads from 1 to 2, in all of the process",
    ),
    "types and threads": (
        "def f(images, generator):\n    torch.set_default_dtype(torch.float64)\n    torch.set_num_threads(3)\n"
        "    return images",
        "changes torch's default type from torch.float32 to torch.float64 and torch's number of threads from ",
    ),
    "fails": ("def f(images, generator):\n    return images[9]", "mine/part.py, line 6: IndexError: index 9 is out of"),
    "one argument": (
        "def f(images): return images",
        "its second argument is missing, and must be 'generator': (images, generator, *, options)",
    ),
    "another name": ("def f(x, generator): return x", "its first argument is 'x', and must be 'images'"),
    "an option in front": (
        "def f(images, generator, share): return images",
        "its argument 'share' must stand behind *, as every option does: (images, generator, *, options)",
    ),
    "a class": ("class f: pass", "must be a function (images, generator, *, options) that returns images, not a class"),
    "a lambda of torch": ("from torch import flip as f", "is neither a class nor a function"),
    "not there": ("def ff(images, generator): pass", "there is no f in mine.part (did you mean 'ff'?)"),
    "an option that is missing": (
        "def f(images, generator, *, share: Fraction): return images",
        "recipe.augment.share: missing option",
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG_AUGMENTS.values(), ids=WRONG_AUGMENTS)
def test_an_augmentation_that_is_not_as_it_must_be(train: Train, write: Write, text: str, said: str) -> None:
    write(text)
    before, settings = sorted(Path().iterdir()), (True, torch.float32, torch.get_num_threads())
    done = train(augment(), "quantizer=ste")
    (line,) = done.errors
    assert (done.code, done.out) == (2, "")
    assert line.startswith("qexp train: error: recipe.augment")
    assert said in line
    assert sorted(Path().iterdir()) == before
    assert (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()) == settings


WRONG_SCHEDULES = {
    "nothing": ("def f(done): pass", "gives nothing for done=0, and must give a number"),
    "a tensor": (
        "def f(done): return torch.tensor(1.0)",
        "gives an object of torch.Tensor for done=0, and must give a",
    ),
    "true": ("def f(done): return True", "gives an object of builtins.bool for done=0"),
    "not a number": ("def f(done): return float('nan')", "gives nan for done=0, and must give a factor of 0 or more"),
    "below 0": ("def f(done): return 0.3 - done", "for done=0.305, and must give a factor of 0 or more"),
    "divides by 0": ("def f(done): return 1 / (done - 0.5) ** 2", "mine/part.py, line 5: ZeroDivisionError"),
    "counts": (
        "calls = []\ndef f(done):\n    calls.append(1)\n    return len(calls) / 1000",
        "gives 0.2 and then 0.201 for done=0.995: it must hang on `done` alone, and nothing may be kept between calls",
    ),
    "late": (
        "calls = []\ndef f(done):\n    calls.append(1)\n    return 1.0 if len(calls) < 450 else 0.5",
        "it must hang on `done` alone",
    ),
    "a best so far": (
        "least = [1]\ndef f(done):\n    least[0] = min(least[0], 1 - done)\n    return least[0]",
        "gives 0.01 and then 0.005 for done=0.99: it must hang on `done` alone",
    ),
    "huge": ("def f(done): return 10**400", "gives inf for done=0, and must give a factor of 0 or more"),
    "threads": (
        "def f(done):\n    torch.set_num_threads(1)\n    return done",
        "changes torch's number of threads from 2 to 1",
    ),
    "draws": (
        "def f(done): return random.random()",
        "for done=0.995: it must hang on `done` alone, and nothing may be kept between calls",
    ),
    "another name": ("def f(step): return 1", "its first argument is 'step', and must be 'done': (done, *, options)"),
    "a class": ("class f: pass", "must be a function (done, *, options) that returns a factor, not a class"),
}


@pytest.mark.parametrize(("text", "said"), WRONG_SCHEDULES.values(), ids=WRONG_SCHEDULES)
def test_a_schedule_that_is_not_as_it_must_be(train: Train, write: Write, text: str, said: str) -> None:
    write(text)
    before = sorted(Path().iterdir())
    done = train(rates(), "quantizer=ste")
    (line,) = done.errors
    assert (done.code, done.out) == (2, "")
    assert line.startswith("qexp train: error: recipe.schedule.own")
    assert said in line
    assert sorted(Path().iterdir()) == before


BOTH = """
def f(images, generator, *, share: Fraction = 0.5):
    return images * (torch.rand(len(images), 1, 1, 1, generator=generator) < share)

def g(done, *, exponent: Positive):
    return (1 - done) ** exponent
"""


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (augment(", share: 2"), "recipe.augment.share=2.0: must be at most 1"),
        (augment(", shar: 1"), "recipe.augment.shar=1: unknown option (did you mean 'share'?)"),
        ("recipe.augment={share: 1}", "recipe.augment._target_: must name a function of a package of your own"),
        (
            "recipe.augment=mine.part.f",
            ": expected a group of options, such as 'recipe.augment={_target_: mine.part.f}'",
        ),
        ("recipe.schedule.own=mine.part.g", "such as 'recipe.schedule.own={_target_: mine.part.g}'"),
        ("recipe.augment=noise", "such as 'recipe.augment={_target_: my_package.module.name}'"),
        (
            "recipe.augment={_target_: os.system}",
            "recipe.augment._target_=os.system: must name a function of a package",
        ),
        ("recipe.augment={_target_: torch.load}", "recipe.augment._target_=torch.load: must name a function of a"),
        ("recipe.augment={_target_: qexp.data.augment.paste}", "must name a function of a package of your own"),
        ("recipe.augment={_target_: yours.x.f}", "is of the package yours, of which nothing is run unless you name it"),
        ("recipe.schedule.own={_target_: yours.x.f}", "nothing is run unless you name it: trust=yours"),
        ("recipe.schedule.own={_target_: mine.part.g}", "recipe.schedule.own.exponent: missing option"),
        ("recipe.schedule={_target_: mine.part.g}", "recipe.schedule._target_=mine.part.g: unknown option"),
    ],
)
def test_words_that_name_none_are_one_line(train: Train, write: Write, word: str, said: str) -> None:
    write(BOTH)
    done = train(word, "quantizer=ste")
    (line,) = done.errors
    assert done.code == 2
    assert said in line
    assert not Path("runs").exists()


def test_a_schedule_of_ones_own_knows_no_restarts(train: Train, write: Write) -> None:
    write(BOTH)
    own = "recipe.schedule.own={_target_: mine.part.g, exponent: 1}"
    done = train(own, "recipe.schedule.restarts=[0.5]", "quantizer=ste")
    said = "recipe.schedule.restarts=[0.5]: begin cosine and step anew, and not one of your own"
    assert (done.code, done.errors) == (2, [f"qexp train: error: {said}"])
    assert not Path("runs").exists()


def test_every_job_of_a_sweep_is_tried(train: Train, write: Write) -> None:
    """And not the first alone of those that differ in nothing else."""
    write("def f(images, generator, *, cut): return images[: len(images) - cut]")
    done = train("-m", augment(", cut: 0") + "," + augment(", cut: 1").partition("=")[2], "quantizer=fp")
    (line,) = done.errors
    assert "gives a tensor (3, 3, 8, 8) for images (4, 3, 8, 8), and must keep the shape  [job 2 of 2" in line


def test_their_names_and_options_make_another_run_and_no_option_is_none(configure: Configure, write: Write) -> None:
    write(BOTH)
    words = [(), (augment(),), (augment(", share: 0.5"),), (augment(", share: 0.25"),)]
    words += [(f"recipe.schedule.own={{_target_: mine.part.g, exponent: {e}}}",) for e in (1, 2)]
    keys = [configure(*some).key for some in words]
    assert keys[0] == "ihlhmgdn"  # as before there were any
    assert len(set(keys)) == len(keys)
    config = configure(augment())
    assert parse_config(float_parent(config.tree)).recipe.augment == {"_target_": "mine.part.f"}


def test_they_are_called_with_their_options(configure: Configure, write: Write) -> None:
    write(BOTH)
    config = configure(augment(", share: 0"), "recipe.schedule.own={_target_: mine.part.g, exponent: 3}")
    changed, schedule = own_augment(config), own_schedule(config)
    assert changed is not None
    assert schedule is not None
    assert changed(torch.ones(2, 1, 4, 4), torch.Generator()).count_nonzero() == 0
    assert schedule(0.5) == 0.125
    step = make_step(torch.nn.Linear(2, 2), config.recipe, own_schedule=schedule)
    step.follow_schedules(0.5)
    assert set(step.optimizers.learning_rates().values()) == {0.0125}  # of 0.1, after the warm-up of 0.05
    assert (own_augment(configure()), own_schedule(configure())) == (None, None)
    check_own_functions(config, build_source(config))


@pytest.mark.parametrize("number", ["numpy.float32(1 - done)", "numpy.int64(1)", "1", "F(1, 2)"])
def test_a_number_of_any_kind_is_a_factor(write: Write, configure: Configure, number: str) -> None:
    write(f"from fractions import Fraction as F\ndef f(done): return {number}")
    config = configure(rates())
    check_own_functions(config, None)
    schedule = own_schedule(config)
    assert schedule is not None
    factor = schedule(0.5)
    assert type(factor) is float
    assert factor in (0.5, 1.0)


def test_what_goes_wrong_later_is_one_line_too(write: Write, configure: Configure) -> None:
    write("def f(done): return float('inf') if 0.301 < done < 0.304 else 1")
    config = configure(rates())
    check_own_functions(config, None)
    schedule = own_schedule(config)
    assert schedule is not None
    with pytest.raises(QexpError, match=r"^recipe\.schedule\.own: gives inf for done=0\.3025, and must give a factor"):
        schedule(0.3025)


def test_all_that_is_wrong_is_told_at_once(write: Write, configure: Configure) -> None:
    write("def f(images, generator): return 1\ndef g(done): return -1")
    config = configure(augment(), "recipe.schedule.own={_target_: mine.part.g}")
    with pytest.raises(Invalid) as caught:
        check_own_functions(config, build_source(config))
    assert [problem.key for problem in caught.value.problems] == ["recipe.augment", "recipe.schedule.own"]


@pytest.mark.training
def test_the_float_net_is_trained_with_them_and_evaluation_needs_no_trust(
    train: Train, qexp: Callable[..., Any], write: Write, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(BOTH)
    own = (augment(), "recipe.schedule.own={_target_: mine.part.g, exponent: 2}")
    assert train(*own, "quantizer=ste", "bits=4").code == 0
    run = only_run("ste")
    for path in (only_run("fp"), run):
        (record,) = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
        assert record["learning_rates"]["weight"] == pytest.approx(0.1 * (1 - 1 / 2) ** 2)  # of the second of two steps
        assert "mine.part.f" in (path / "config.yaml").read_text()
        assert '"mine"' in (path / "env.json").read_text()  # its code is on record
    monkeypatch.delenv(trust.NAMES)
    assert qexp("eval", str(run)).code == 0  # which calls neither of them
    assert "recipe.augment" in qexp("runs", "--columns", "hash,recipe.augment").out


@pytest.mark.training
def test_a_batch_that_is_no_batch_ends_the_run_in_one_line(train: Train, write: Write, only_run: OnlyRun) -> None:
    write("def f(images, generator): return images if len(images) < 5 else images[1:]")
    done = train(augment(), "quantizer=fp")
    assert done.code == 1
    line = "recipe.augment: gives a tensor (31, 3, 8, 8) for images (32, 3, 8, 8), and must keep the shape, in epoch 1"
    assert line in done.err
    assert not (only_run("fp") / "summary.json").exists()


EXITS = """
import sys
def f(images, generator):
    if len(images) > 4:
        sys.exit(0)
    return images
"""


@pytest.mark.training
def test_one_that_ends_the_process_ends_its_run_alone(train: Train, write: Write, only_run: OnlyRun) -> None:
    """Of a sweep too, whose other runs are trained; sys.exit(0) would have been an end without a fault."""
    write(EXITS)
    alone = train(augment(), "quantizer=fp")
    line = "mine/part.py, line 9: own code called sys.exit(0)"
    assert alone.code == 1
    assert line in alone.err
    run = only_run("fp")
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["message"]) == ("failed", line)
    assert "SystemExit: 0" in (run / "error.txt").read_text()
    swept = train("-m", "recipe.augment=null," + augment().partition("=")[2], "quantizer=fp", "seed=1,2")
    assert swept.code == 3
    assert len(list(Path("runs").glob("**/summary.json"))) == 2


def test_one_that_ends_the_process_in_its_trial_is_refused(train: Train, write: Write) -> None:
    write("import sys\ndef f(images, generator): sys.exit('enough')\ndef g(done): raise SystemExit")
    done = train(augment(), "recipe.schedule.own={_target_: mine.part.g}", "quantizer=fp")
    assert done.code == 2
    assert [line.partition("part.py, ")[2].partition(" [")[0] for line in done.errors] == [
        "line 6: own code called sys.exit('enough')",
        "line 7: own code called sys.exit()",
    ]
