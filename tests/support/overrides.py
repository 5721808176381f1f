"""Command lines for `qexp train` out of a seed, from nearly right to garbage, and what is wrong with the answer to one.

python tests/support/overrides.py SEED COUNT    tries so many, and prints those whose answer is wrong
"""

import contextlib
import io
import os
import random
import string
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from hydra.core.global_hydra import GlobalHydra

from qexp.cli import main as command
from qexp.utils.text import UNFIT

Words = list[str]
LONGEST_LINE = 1000  # characters
SLOWEST_SECONDS = 20.0

VALID = (
    *("quantizer=daq", "quantizer=ste", "quantizer=dqa", "quantizer=br", "quantizer=fp", "bits=2", "bits=4", "seed=7"),
    *(
        "dataset=synthetic",
        "dataset=cifar10",
        "dataset=mnist",
        "model=resnet20",
        "model=mobilenetv2",
        "model.width=0.5",
    ),
    *("recipe=daq", "recipe.epochs=3", "recipe.batch_size=32", "recipe.optimizer.weight.lr=0.01", "protocol=smoke"),
    *("keep_float=[first,last]", "keep_float=[]", "init=scratch", "device=cpu", "dataset.train_size=200"),
    *("recipe.schedule.restarts=[0.5]", "model=lenet5"),
    *("recipe.schedule.milestones=[0.5,0.75]", "tracking.tensorboard=false", "runs_dir=store", "data_dir=null"),
    *("weight_bits=3", "activation_bits=32", "recipe.precision=bfloat16", "on_error=stop", "stuck_after=null"),
    *(
        "recipe.accumulate=2",
        "recipe.dampening=0.1",
        "recipe.norm_batches=2",
        "checkpoint.seconds=5",
        "workers=0",
        "threads=1",
        "overwrite=true",
        "dataset.mean=[0.5]",
    ),
)
KEYS = (
    *(
        "quantizer",
        "dataset",
        "model",
        "recipe",
        "protocol",
        "bits",
        "seed",
        "init",
        "device",
        "keep_float",
        "runs_dir",
    ),
    *("data_dir", "weight_bits", "threads", "workers", "overwrite", "stuck_after", "compile", "deterministic"),
    *("quantizer.name", "quantizer._target_", "quantizer.grid", "quantizer.weight_sigma", "quantizer.default_bits"),
    *("dataset.name", "dataset._target_", "dataset.train_size", "dataset.test_size", "dataset.mean", "dataset.std"),
    *("dataset.classes", "dataset.image_size", "dataset.channels", "dataset.seed", "model.name", "model._target_"),
    *("model.width", "model.dropout", "recipe.epochs", "recipe.batch_size", "recipe.eval_batch_size", "recipe.crop"),
    *(
        "recipe.width",
        "recipe.init",
        "recipe.accumulate",
        "recipe.precision",
        "recipe.freezing",
        "recipe.schedule.end",
        "recipe.label_smoothing",
    ),
    *("recipe.schedule", "recipe.schedule.name", "recipe.schedule.milestones", "recipe.optimizer", "tracking"),
    *("recipe.optimizer.weight", "recipe.optimizer.weight.lr", "recipe.optimizer.range.name", "checkpoint.steps"),
    *("recipe.schedule.restarts", "recipe.optimizer.mask.lr"),
    *("recipe.schedule.warmup", "tracking.eval_interval", "paper/dqa", "paper", "nothing", "a.b.c", "_target_"),
)
HYDRA = (
    *("hydra.verbose", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name", "hydra.job.num"),
    *("hydra.job.env_set.X", "hydra.job.chdir", "hydra.callbacks.x._target_", "hydra.callbacks", "hydra.output_subdir"),
    *("hydra.job_logging.handlers.console.class", "hydra.job_logging.root.level", "hydra.job_logging", "hydra.mode"),
    *("hydra/job_logging", "hydra/hydra_logging", "hydra/help", "hydra.help.template", "hydra.searchpath", "hydra"),
    *("hydra.sweeper.params.seed", "hydra.sweeper.max_batch_size", "hydra.nothing", "hydra.runtime.cwd", "hydrax"),
)
VALUES = (
    *("", "0", "1", "-1", "2", "3", "1e9", "1e400", "-1e-400", "inf", "-inf", "nan", "null", "true", "no", "???", "~"),
    *("1" * 30, "9" * 400, "9" * 5000, "1e308", "0.1", "2.0", "[1,2]", "[]", "{}", "{a:1}", "[[[1]]]", "{a:{b:[c]}}"),
    *("a b", "'a b'", '"a\\"b"', "a:b", "a/b", "../x", "../../etc/passwd", "/etc/passwd", ".", "..", "~nobody/x", "fp"),
    *(
        "os.system",
        "builtins.eval",
        "qexp.runs.shutil.rmtree",
        "qexp.cli.main.main",
        "qexp.quantizers.daq.DAQ",
        "cuda:99",
    ),
    *("qexp.quantizers.base.Method", "qexp.data.datasets.Source", "qexp.models.pretrained.fetch", "logging.os.system"),
    *("scratch", "torchvision", "first", "[first:weight]", "[*]", "['[']", "digits", "synthetic", "resnet18", "sgd"),
    *(
        "é",
        "数据",
        "\U0001f600",
        "\u202e",
        "\u2028",
        "'\u00a0'",
        "\ud800",
        "'a\tb'",
        "'a\nb'",
        "'\x00'",
        "\x1b[31m",
        "'\x7f'",
    ),
    *("x" * 300, "'" + "y" * 5000 + "'", "[" + ",".join(map(str, range(300))) + "]", "0x10", "1_000", "-", "--", "="),
)
INTERPOLATIONS = (
    *(
        "${seed}",
        "${bits}",
        "${weight_bits}",
        "${recipe}",
        "${recipe.epochs}",
        "${.}",
        "${..}",
        "${.name}",
        "${nothing}",
    ),
    *(
        "${oc.env:HOME}",
        "${oc.env:NOT_THERE}",
        "${oc.env:NOT_THERE,3}",
        "${now:%Y}",
        "${hydra:job.name}",
        "${hydra.mode}",
    ),
    *("${${bits}}", "${", "${}", "${:}", "${a:b,c}", "${oc.create:{a:1}}", "${oc.decode:'[1'}", "${oc.select:x,4}"),
    *("a${seed}b", "'${seed}'", "\\${seed}", "${dataset}", "${quantizer.default_bits}", "${oc.dict.keys:recipe}"),
    *("${hydra:runtime.cwd}", "${hydra.job.num}", "${oc.deprecated:seed}", "${oc.env:}", "${seed", "$seed", "${seed}}"),
)
SWEEPS = (
    *("1,2", "2,4,99", "a,b,c", "ste,br", "range(3)", "range(1,4)", "range(0,1,0.25)", "range(0)", "range(0,1,0)"),
    *("range(1000000000000)", "range(0,1e308)", "range(0,1,1e-300)", "choice(1,2)", "choice()", "choice(ste,dqq)"),
    *(
        "glob(*)",
        "glob(d*)",
        "glob(zzz)",
        "glob([a*,d*],exclude=daq)",
        "interval(0,1)",
        "shuffle(range(3))",
        "sort(3,1)",
    ),
    *("tag(a,1,2)", "int(range(3))", "str([1,2])", "extend_list(1)", "range(1,", "choice(1,range(3))", "1,", ",", ",1"),
    *("[1],[2]", "{a:1},{b:2}", "'a,b'", "range(a,b)", "range()", "range(0,3,-1)", "range(3,0,-1)", "json_str({a:1})"),
)
FLAGS = (
    *("-m", "--multirun", "--nope", "-x", "--config-name=nosuch", "--config-name=eval_daq", "--config-name=../train"),
    *("--config-dir=nowhere", "--config-dir=.", "--config-name=", "--experimental-rerun=x", "--run", "--package=x"),
)
CHARACTERS = (
    string.ascii_letters + string.digits + "=.,:/[]{}()'\"\\$~+-@*?!#%&|<> \t\n\x00\x1béλ数\U0001f600\u202e\u2028\ud800"
)


def override_strings(seed: int, count: int) -> Iterator[Words]:
    """Yield `count` command lines, without `--dry-run`; a function of the seed."""
    draw = random.Random(seed)
    kinds: tuple[Callable[[random.Random], Words], ...] = (
        *(_mutated, _mutated, _any_value, _any_value, _any_value),
        *(_interpolated, _swept, _hydra, _garbage, _nested, _flagged, _clash),
    )
    for _ in range(count):
        words = [word for _ in range(draw.choice((1, 1, 1, 2, 3))) for word in draw.choice(kinds)(draw)]
        if any(word.startswith("-") and word != "-m" for word in words):  # argparse repeats all words as they are
            words = [word for word in words if not UNFIT.search(word)]
        valid = draw.sample(VALID, draw.choice((0, 0, 1, 2, 5)))
        yield [*words, *valid] if draw.random() < 0.5 else [*valid, *words]


def _mutated(draw: random.Random) -> Words:
    word = draw.choice(VALID)
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        place, letter = draw.randrange(len(word) + 1), draw.choice(CHARACTERS)
        word = draw.choice((word[:place] + letter, word[:place])) + word[place + draw.choice((0, 1)) :]
    return [word]


def _any_value(draw: random.Random) -> Words:
    return [f"{_prefix(draw)}{draw.choice(KEYS)}={draw.choice(VALUES)}"]


def _interpolated(draw: random.Random) -> Words:
    return [f"{_prefix(draw)}{draw.choice(KEYS)}={draw.choice(INTERPOLATIONS)}"]


def _swept(draw: random.Random) -> Words:
    word = f"{_prefix(draw)}{draw.choice(KEYS)}={draw.choice(SWEEPS)}"
    return [word] if draw.random() < 0.3 else ["-m", word]


def _hydra(draw: random.Random) -> Words:
    value = draw.choice(draw.choice((VALUES, INTERPOLATIONS, SWEEPS)))
    return [f"{draw.choice(('', '', '+', '++'))}{draw.choice(HYDRA)}={value}", *(["-m"] if draw.random() < 0.3 else [])]


def _garbage(draw: random.Random) -> Words:
    word = "".join(draw.choices(CHARACTERS, k=draw.choice((1, 2, 5, 20, 100, 3000))))
    return [word.lstrip("-") if draw.random() < 0.9 else word]


def _nested(draw: random.Random) -> Words:
    depth = draw.choice((1, 3, 10, 60, 400))
    before, after = draw.choice((("[", "]"), ("{a:", "}"), ("[{a:", "}]"), ("${", "}"), ("'", "'"), ("(", ")")))
    end = draw.choice((depth, depth, depth - 1, depth + 1))
    return [f"{_prefix(draw)}{draw.choice(KEYS)}={before * depth}{draw.choice(VALUES[:10])}{after * end}"]


def _flagged(draw: random.Random) -> Words:
    return [draw.choice(FLAGS)]


def _clash(draw: random.Random) -> Words:
    """Two words about one key, or a key below a value."""
    key = draw.choice(KEYS)
    below = f"{key}.{draw.choice(('x', 'name', '0', '', '_target_', 'é'))}={draw.choice(VALUES[:16])}"
    other = f"{_prefix(draw)}{key}={draw.choice(VALUES[:20])}"
    return draw.choice(([below], [below, other], [other, below], [other, other]))


def _prefix(draw: random.Random) -> str:
    return draw.choice(("", "", "", "", "+", "++", "~"))


def verdict(words: Words) -> str | None:
    """Return what is wrong with the answer of `qexp train --dry-run` to these words, None where nothing is.

    Right is a plan, or lines that each say what is wrong; nothing is created, and it does not take long.
    """
    out, err, began, before = io.StringIO(), io.StringIO(), time.monotonic(), sorted(Path().iterdir())
    GlobalHydra.instance().clear()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.object(sys, "argv", ["qexp"]):
            code = command.main(["train", "--dry-run", *words])
    except BaseException:
        return f"raises {traceback.format_exc()[-1500:]}"
    said = err.getvalue().split("\n")[:-1]
    if sorted(Path().iterdir()) != before:
        return f"creates {sorted(set(Path().iterdir()) - set(before))}"
    if (seconds := time.monotonic() - began) > SLOWEST_SECONDS:
        return f"takes {seconds:.1f} s"
    if code == 0:
        return None if not said and out.getvalue().endswith("; nothing was created\n") else f"a plan, and {said}"
    if code != 2 or out.getvalue() or not said:
        return f"exit code {code}, prints {out.getvalue()[:200]!r}, says {said}"
    bad = [line for line in said if not line.startswith("qexp train: error: ") or UNFIT.search(line)]
    said = [line.partition("  [job ")[0] for line in said]  # the words of a job may be long
    bad += [line for line in said if len(line) > LONGEST_LINE or not line.partition("error: ")[2].strip(" :")]
    return f"says {bad[0][:LONGEST_LINE]!r}" if bad else None


def main() -> int:
    """Try the command lines of a seed in an empty folder; return the exit code."""
    seed, count = map(int, sys.argv[1:3])
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for words in override_strings(seed, count):
            if problem := verdict(words):
                wrong += 1
                shown = [word if len(word) < 150 else f"{word[:150]}..." for word in words]
                print(f"{ascii(shown)}\n    {ascii(problem) if 'raises' not in problem else problem}", flush=True)  # noqa: T201
        os.chdir("/")
    print(f"{wrong} of {count} wrong")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
