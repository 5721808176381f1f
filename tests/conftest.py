"""What every test starts from, and `qexp` as a fixture: the command line, in process, in an empty directory."""

import contextlib
import io
import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from qexp.config.compose import compose_job, composing
from qexp.config.config import Config
from support.commands import TINY, Result, Sweep, call

OURS = ("QEXP_RUNS", "QEXP_DEBUG", "QEXP_MAIN", "QEXP_SCRATCH")  # QEXP_DATA stays: some tests look for real data
CHANGE_OUTPUT = ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS", "HYDRA_FULL_ERROR")


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
def configure() -> Callable[..., Config]:
    """`configure(*words)` is the configuration that `qexp train *words` would run."""

    def compose(*words: str) -> Config:
        with composing():
            job = compose_job(words)
        assert job.config is not None, job.problems
        return job.config

    return compose


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """DAQ and DQA for two epochs each, with their float net, everything logged; for tests that only read."""
    store, out = tmp_path_factory.mktemp("sweep") / "runs", io.StringIO()
    with mock.patch.dict(os.environ), mock.patch.object(sys, "argv", ["qexp"]), contextlib.redirect_stdout(out):
        words = (f"runs_dir={store}", "quantizer=daq,dqa", "bits=2", "tracking.step_interval=1")
        assert call("train", "-m", *TINY, "recipe.epochs=2", *words) == 0
    return Sweep(store, out.getvalue())
