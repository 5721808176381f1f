"""Runs that end as a test wants, and the state that they left."""

from typing import Any

import pytest
import torch

from qexp.engine.loop import fit as real_fit

# Failures


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException, method: str = "") -> None:
    """Let training end in `error`, only that of one method where it is named."""

    def fit(model: torch.nn.Module, *arguments: Any, **options: Any) -> Any:
        kinds = {type(module).__module__.rpartition(".")[2] for module in model.modules()}
        if method in ("", *kinds):
            raise error
        return real_fit(model, *arguments, **options)

    monkeypatch.setattr("qexp.experiment.train.fit", fit)
