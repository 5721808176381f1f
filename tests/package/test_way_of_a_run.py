"""The way of a run is short: few frames from the shell to the loss, and everything is made once."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl

import qexp
from qexp.cli.main import main
from qexp.config import compose, config
from qexp.experiment import build, preflight, runner
from support.commands import TINY, Train

PACKAGE = str(Path(qexp.__file__).parent)
STE = ("quantizer=ste", "init=scratch")


def frames() -> Iterator[str]:
    """The functions of qexp that wait for this call, from the innermost outwards."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            yield frame.f_code.co_qualname
        frame = frame.f_back


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """A list that grows with every call of `owner.name`."""
    real, calls = getattr(owner, name), []

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, call)
    return calls


@pytest.mark.training
def test_the_loss_is_eleven_frames_from_the_shell(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of qexp's own, that of `python -m qexp` included: ten; of a float net that is trained first too."""
    seen: list[list[str]] = []
    real = torch.nn.CrossEntropyLoss.forward

    def forward(self: torch.nn.Module, *arguments: Any) -> Any:
        seen.append(list(frames()))
        return real(self, *arguments)

    monkeypatch.setattr(torch.nn.CrossEntropyLoss, "forward", forward)
    assert main(["train", *TINY, "quantizer=ste", "init=fp", "recipe.epochs=1"]) == 0
    of_float, of_quantized = seen[0], seen[-1]
    for found in (of_float, of_quantized):
        assert (*found[:2], found[-1]) == ("Step.forward", "fit", "main")
    assert len(of_float) + 1 <= 11, of_float
    assert len(of_quantized) == len(of_float) - 1


@pytest.mark.training
def test_a_job_is_composed_parsed_and_assembled_once(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is built twice: without memory for the check, and for the training."""
    compositions = counted(monkeypatch, ConfigLoaderImpl, "load_configuration")
    parsed = counted(monkeypatch, compose, "parse_config")
    normalized = counted(monkeypatch, config, "normalized")
    checked = counted(monkeypatch, preflight, "assemble")
    assembled = counted(monkeypatch, build, "assemble")
    monkeypatch.setattr(runner, "assemble", build.assemble, raising=False)
    built = counted(monkeypatch, build.quantizers, "quantize")
    assert train(*STE).code == 0
    assert [len(compositions), len(parsed), len(normalized)] == [
        1,
        1,
        2,
    ]  # and that of the float parent, for its result
    assert [len(checked), len(assembled), len(built)] == [1, 0, 2]


@pytest.mark.training
def test_the_jobs_of_a_sweep_share_the_compositions_of_their_groups(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two quantizers, each at three seeds: one composition each, one of the sweep's own options."""
    compositions = counted(monkeypatch, ConfigLoaderImpl, "load_configuration")
    assert train("-m", "quantizer=ste,br", "seed=0,1,2", "init=scratch", "recipe.epochs=1").code == 0
    assert len(compositions) == 3
