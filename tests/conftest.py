"""What every test starts from, and `qexp` as a fixture: the command line, in process, in an empty directory."""

import contextlib
import io
import logging
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
import pytest
import torch
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins

from qexp.config.compose import Composer, composing
from qexp.config.config import Config
from support.commands import STE, TINY, OnlyRun, Result, Sweep, call
from support.processes import Command
from support.run_files import when_written
from support.shared import folder_of_all_workers, made_once
from support.short_runs import References
from support.stored_runs import make

OURS = ("QEXP_RUNS", "QEXP_DEBUG", "QEXP_MAIN", "QEXP_SCRATCH")  # QEXP_DATA stays: some tests look for real data
TRAINED = {"sweep", "store_of_one", "references"}  # fixtures
NEVER_QUICK = ("slow", "gpu", "network")
CHANGE_OUTPUT = ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS", "HYDRA_FULL_ERROR")


torch.set_num_threads(1)  # also for fixtures of a session, which come before those of a test
# Where torch.compile is the first to differentiate in a process, it starts threads of autograd's, and no process forked
# after that can differentiate.
torch.ones((), requires_grad=True).backward()

hypothesis.settings.register_profile("tests", derandomize=True, deadline=None, database=None, max_examples=60)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Seed torch, and undo what a command does to its process: environment, arguments, logging, Hydra."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    monkeypatch.setattr(sys, "argv", ["qexp"])
    handlers, level = logging.root.handlers[:], logging.root.level
    GlobalHydra.instance().clear()
    with mock.patch.dict(os.environ):
        for name in (*OURS, *CHANGE_OUTPUT):
            os.environ.pop(name, None)
        yield
    GlobalHydra.instance().clear()
    logging.root.handlers[:], logging.root.level = handlers, level


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is marked neither `process` nor `training` is neither: `make test-quick` relies on it."""
    if any(map(request.node.get_closest_marker, ("process", "training", *NEVER_QUICK))):
        return

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("this test starts a process or trains: mark it")

    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    monkeypatch.setattr("qexp.experiment.train.fit", refuse)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who reads a trained run may be the first to need it."""
    for item in items:
        if TRAINED & set(getattr(item, "fixturenames", ())):
            item.add_marker("training")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with no data anywhere and no network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("QEXP_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return folder


@pytest.fixture
def qexp(workspace: Path, capsys: pytest.CaptureFixture) -> Callable[..., Result]:
    """`qexp(*words)` runs a command line in the workspace."""

    def run(*words: str) -> Result:
        capsys.readouterr()
        code = call(*words)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def train(qexp: Callable[..., Result]) -> Callable[..., Result]:
    """`train(*words)` is a tiny `qexp train`; flags such as -m go first, later words win over the tiny ones."""

    def run(*words: str) -> Result:
        flags = [word for word in words if word.startswith("-")]
        return qexp("train", *flags, *TINY, "recipe.epochs=1", "tracking.tensorboard=false", *words[len(flags) :])

    return run


@pytest.fixture
def only_run() -> Callable[..., Path]:
    """`only_run(pattern)` is the one run directory in ./runs whose path holds the pattern."""

    def find(pattern: str, store: Path | str = "runs") -> Path:
        (status,) = Path(store).glob(f"*/*/{pattern}*/*/status.json")
        return status.parent

    return find


@pytest.fixture(scope="session")
def _hydra() -> Iterator[tuple[Composer, Any]]:
    """What composes jobs, and the Hydra that it needs: started once, because that takes most of the time."""
    Plugins.instance()  # registers the sources
    source, repository = SourcesRegistry.instance().resolve("file"), CachingConfigRepository
    read, find = source.load_config, repository.load_config
    with composing() as composer:
        source.load_config, repository.load_config = read, find  # its look at files is not for what else runs meanwhile
        yield composer, GlobalHydra.instance().hydra


@contextlib.contextmanager
def installed(composer: Composer, hydra: Any) -> Iterator[Composer]:
    """The composer with its Hydra in place. It keeps the trees of groups, and no job: what a job says may change."""
    instance, before = GlobalHydra.instance(), GlobalHydra.instance().hydra
    composer._jobs.clear()
    instance.hydra = hydra
    try:
        yield composer
    finally:
        instance.hydra = before


@pytest.fixture
def composer(_hydra: tuple[Composer, Any]) -> Iterator[Composer]:
    """What composes jobs."""
    with installed(*_hydra) as composer:
        yield composer


@pytest.fixture(scope="session")
def configure(_hydra: tuple[Composer, Any]) -> Callable[..., Config]:
    """`configure(*words)` is the configuration that `qexp train *words` would run."""

    def compose(*words: str) -> Config:
        with installed(*_hydra) as composer:
            job = composer.job(words)
        assert job.config is not None, job.problems
        return job.config

    return compose


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where those runs lie that tests only read: each is trained once, by the first worker that needs it."""
    return folder_of_all_workers(tmp_path_factory)


def trained(folder: Path, *words: str) -> str:
    """Train with `folder`/runs as the store; return what is printed, which stays in `folder`/out."""

    def make(folder: Path) -> None:
        out = io.StringIO()
        with mock.patch.dict(os.environ), mock.patch.object(sys, "argv", ["qexp"]), contextlib.redirect_stdout(out):
            assert call("train", *words, f"runs_dir={folder / 'runs'}") == 0
        (folder / "out").write_text(out.getvalue())

    return (made_once(folder, make) / "out").read_text()


@pytest.fixture(scope="session")
def sweep(together: Path) -> Iterator[Sweep]:
    """DAQ and DQA for two epochs each, with their float net, everything logged; for tests that only read."""
    words = ("-m", *TINY, "recipe.epochs=2", "quantizer=daq,dqa", "bits=2", "tracking.step_interval=1")
    found = Sweep(together / "sweep" / "runs", trained(together / "sweep", *words))
    before = when_written(found.store)
    yield found
    assert when_written(found.store) == before, "a test changed what others read"


@pytest.fixture(scope="session")
def store_of_one(together: Path) -> tuple[Path, str]:
    """A store with the finished run of STE, and what training it printed."""
    out = trained(together / "one", *TINY, "recipe.epochs=1", "tracking.tensorboard=false", *STE)
    return together / "one" / "runs", out


@pytest.fixture(scope="session")
def references(together: Path) -> References:
    return References(together / "references")


@pytest.fixture
def finished(store_of_one: tuple[Path, str], workspace: Path, only_run: OnlyRun) -> Path:
    """The directory of that run, copied into ./runs."""
    shutil.copytree(store_of_one[0], workspace / "runs")
    return only_run("ste")


@pytest.fixture
def processes() -> Iterator[list[Command]]:
    """Put processes in; they do not outlive the test."""
    started: list[Command] = []
    yield started
    for process in started:
        process.kill()


@pytest.fixture
def joblib_launcher() -> Iterator[tuple[str, ...]]:
    """The words that let two jobs run in processes of their own; the processes are gone afterwards."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    loky = pytest.importorskip("joblib.externals.loky")
    yield ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    loky.get_reusable_executor().shutdown(wait=True)


@pytest.fixture
def swept(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished sweep is the run store."""
    monkeypatch.setenv("QEXP_RUNS", str(sweep.store))
    return sweep.store


@pytest.fixture
def store(workspace: Path) -> dict[str, Path]:
    """One run in every state that needs no process."""
    return {
        "daq": make("daq-w2a2/s0-abcdefgh", epochs=20),
        "dqa": make("dqa-w2a2/s1-bbbbbbbb", "interrupted", epochs=7, message="stopped by SIGTERM"),
        "ste": make("ste-w1a1/s0-cccccccc", "failed", message="the disk is full"),
        "br": make("br-w4a4/s2-dddddddd", "diverged", message="loss is nan in step 3"),
    }
