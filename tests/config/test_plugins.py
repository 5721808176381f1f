"""What Hydra may make, and what it may not."""

from pathlib import Path

import pytest

from support.commands import Qexp, refused
from support.jobs import jobs_of

# What Hydra may make


@pytest.mark.parametrize(
    "words",
    [
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        ("hydra/job_logging=default", "hydra/hydra_logging=disabled"),
        ("hydra/job_logging=none", "hydra.verbose=[a,b]"),
        ("+hydra.callbacks.x._target_=hydra.experimental.callbacks.LogJobReturnCallback",),
        ("hydra.job_logging.handlers.console.class=rich.logging.RichHandler",),
        ("hydra.job_logging.handlers.console.class=logging.NullHandler",),
        ("hydra.job_logging.root.level=DEBUG", "hydra.sweeper.max_batch_size=3"),
    ],
)
def test_hydras_own_classes_are_accepted(qexp: Qexp, words: tuple[str, ...]) -> None:
    assert len(jobs_of(qexp, "-m", "bits=2,4", *words)) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("+hydra.launcher.nothing=1",), "hydra.launcher: got an unexpected keyword argument 'nothing'"),
        (("hydra.launcher=null",), "hydra.launcher: names no launcher; hydra/launcher=basic is the usual one"),
        (("hydra.callbacks=3",), "hydra.callbacks=3: "),
        (("++hydra.callbacks=${seed}",), "hydra.callbacks=0: must be a group of options"),
        (
            ("hydra.job_logging.handlers.console.stream='ext://os.environ'",),
            "hydra.job_logging.handlers.console.stream=",
        ),
        (
            ("+hydra.job_logging.formatters.simple.class=os.system",),
            "hydra.job_logging.formatters.simple.class=os.system: ",
        ),
        (("hydra.job_logging.root.level=[x]",), "hydra.job_logging.root.level=['x']: is nothing of Hydra's"),
        (("++hydra.callbacks.x=${dataset}",), "hydra.callbacks.x._target_=qexp.data.datasets.Digits: "),
    ],
)
def test_what_hydra_cannot_make_is_refused(qexp: Qexp, words: tuple[str, ...], said: str) -> None:
    (line,) = refused(qexp, "-m", *words)
    assert line.startswith(said)


def test_one_job_of_a_sweep_cannot_bring_code_along(qexp: Qexp, conf: Path) -> None:
    """Each job has logging of its own, which a group that is swept over may set."""
    (conf / "experiment").mkdir()
    evil = "hydra: {job_logging: {handlers: {x: {'()': os.system, command: mkdir intruder}}}}"
    for name, content in (("good", "seed: 3"), ("evil", evil)):
        (conf / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{content}\n")
    (line,) = refused(qexp, "--config-dir", str(conf), "-m", "+experiment=good,evil")
    assert line.startswith("hydra.job_logging.handlers.x.()=os.system: ")
    assert line.endswith("[job 2 of 2: +experiment=evil]")
    (line,) = refused(qexp, "--config-dir", str(conf), "+experiment=../../x")
    assert line == "+experiment=../../x: leads out of the folder of choices"
