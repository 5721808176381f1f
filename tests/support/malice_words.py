"""Command lines of every command, put together from pieces of Hydra's language, paths, flags and odd letters."""

import random
from collections.abc import Callable

from qexp.report.catalogue import FIGURES
from support.malice_case import Case
from support.malice_data import SHAPES, genuine
from support.malice_pieces import PATHS, TEXTS
from support.malice_store import TABLE, Store
from support.malice_yaml import HYDRAS, reference
from support.overrides import KEYS, VALID, VALUES, override_strings

FLAGS = (
    *("--json", "--yes", "--all", "--state", "--runs-dir", "--help", "-h", "--", "-", "-m", "--version", "-x"),
    *(
        "--format",
        "--rows",
        "--seeds",
        "--protocol",
        "--run=x",
        "--state=done,x",
        "--format=csv",
        "--seeds=0,1,x",
        "-c",
    ),
    *(
        "--config-path=..",
        "--config-dir=../outside",
        "--config-name=../../etc/passwd",
        "--experimental-rerun=precious.txt",
    ),
    *("--cfg=all", "--info", "--shell-completion", "--package=_global_", "--resolve", "--multirun", "--hydra-help"),
    *(
        "-sc",
        "install=bash",
        "uninstall=fish",
        "query=bash",
        "--rows=" + "[" * 500,
        "--seeds=0-99999999999",
        "--seeds=" + "9" * 5000,
    ),
)
TARGETS = (
    *("picture.svg", "picture.PNG", "picture.pdf", "page.html", "precious.txt", "runs", "runs/page.html", "none/x.svg"),
    *("-", "", ".svg", "..", "x.html/", "\u202egpj.svg", "x" * 300 + ".svg", "/dev/full", "/dev/null", "intruder.py"),
)
ACTIONS = ("list", "show", "rm", "rm", "RM", "show ", "")
# Data sets that a line may name: nothing is to be downloaded.
DATA = {path: content for name in SHAPES for path, content in genuine(name).items()}


def case(draw: random.Random, store: Store) -> Case:
    """A command line in a working directory with a store."""
    command = draw.choice((*MAKERS, "train", "train", "eval", "runs", "runs", "pictures"))
    words = draw.choice(MAKERS[command])(draw, store)
    clean = tuple(word.replace("\0", "") for word in words)  # no argument of a process holds one
    may_go = frozenset(store.runs) if clean[:2] == ("runs", "rm") else frozenset()
    environment = draw.choice(
        ({}, {}, {"COLUMNS": draw.choice(("1", "0", "-5", "99999", "x"))}, {"QEXP_DATA": draw.choice(PATHS)})
    )
    files = {**store.files, **DATA}
    return Case(f"words of {command}", clean, files, may_go, environment)


def word(draw: random.Random, store: Store) -> str:
    """Something that may stand behind any command."""
    makers: tuple[Callable[[], str], ...] = (
        lambda: draw.choice(PATHS),
        lambda: draw.choice(TEXTS),
        lambda: draw.choice(FLAGS),
        lambda: f"{draw.choice(KEYS)}={draw.choice((*VALUES, *TEXTS, *PATHS))}",
        lambda: f"{draw.choice(('', '+', '~', '++'))}hydra.{draw.choice(HYDRAS)}={draw.choice((*VALUES, *PATHS))}",
        lambda: f"{draw.choice(KEYS)}={reference(draw)}",
        lambda: draw.choice(VALID),
        lambda: next(override_strings(draw.getrandbits(32), 1))[0],
        lambda: draw.choice(store.runs),
        lambda: draw.choice(store.runs).rpartition("-")[2][: draw.choice((8, 3, 1))],
        lambda: f"{draw.choice(store.runs)}/../{draw.choice(PATHS)}",
    )
    return draw.choice(makers)()


def _some(draw: random.Random, store: Store) -> list[str]:
    return [word(draw, store) for _ in range(draw.choice((0, 1, 1, 2, 3, 5)))]


def _train(draw: random.Random, store: Store) -> list[str]:
    """Nothing is trained: what is to be tried is the way to it."""
    words = [*_some(draw, store), *(next(override_strings(draw.getrandbits(32), 1)) if draw.random() < 0.5 else [])]
    return ["train", "--dry-run", *(one for one in words if one != "--")]


def _eval(draw: random.Random, store: Store) -> list[str]:
    run = draw.choice((store.done, store.done, store.stopped, store.done.rpartition("-")[2], *_some(draw, store)))
    keys = (
        "checkpoint",
        "format",
        "dataset",
        "dataset.test_size",
        "device",
        "threads",
        "runs_dir",
        "recipe.eval_batch_size",
    )
    more = [f"{draw.choice(keys)}={draw.choice((*VALUES, *TEXTS, *PATHS))}" for _ in range(draw.choice((0, 1, 2)))]
    return ["eval", run, *more, *(_some(draw, store) if draw.random() < 0.4 else [])]


def _runs(draw: random.Random, store: Store) -> list[str]:
    action = draw.choice(ACTIONS)
    yes = ["--yes"] if action == "rm" and draw.random() < 0.8 else []
    return ["runs", *([action] if draw.random() < 0.8 else []), *_some(draw, store), *yes]


def _table(draw: random.Random, store: Store) -> list[str]:
    name = draw.choice((TABLE, TABLE, "daq/1", "../paper/dqa/1", *draw.sample(PATHS, 2)))
    words = _some(draw, store)
    return [
        "table",
        name,
        *(["--dry-run"] if draw.random() < 0.3 else []),
        *(one for one in words if not one.startswith("--run")),
    ]


def _doctor(draw: random.Random, store: Store) -> list[str]:
    return ["doctor", *_some(draw, store)]


def _plot(draw: random.Random, store: Store) -> list[str]:
    name = draw.choice([*(one.name for one in FIGURES), *draw.sample(PATHS, 2)])
    of = draw.choice((store.done, store.stopped, "digits", "all", "random", "ste", word(draw, store)))
    key = draw.choice(("bits", "x", "interval", "layers", "checkpoint", "extent", "points", "images", "seed", "layer"))
    option = f"{key}={draw.choice((*VALUES, *TEXTS, *PATHS))}"
    return ["plot", name, *_to(draw), *draw.choice(([of], [of], [of, option], [of, *_some(draw, store)]))]


def _report(draw: random.Random, store: Store) -> list[str]:
    return ["report", draw.choice((store.done, "digits", TABLE, word(draw, store))), *_to(draw), *_some(draw, store)]


def _to(draw: random.Random) -> list[str]:
    """Where a picture shall go: what is there already has to stay."""
    return ["--to", draw.choice(TARGETS)] if draw.random() < 0.4 else []


def _other(draw: random.Random, store: Store) -> list[str]:
    return [word(draw, store) or "x", *_some(draw, store)]


MAKERS = {
    "train": (_train,),
    "eval": (_eval,),
    "runs": (_runs,),
    "table": (_table,),
    "pictures": (_plot, _report),
    "doctor": (_doctor,),
    "other": (_other,),
}
