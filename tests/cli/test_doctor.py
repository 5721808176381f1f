"""`qexp doctor`."""

from pathlib import Path

import pytest
import torch

from support.commands import Qexp


def test_doctor_finds_this_installation_well(qexp: Qexp) -> None:
    result = qexp("doctor")
    assert (result.code, result.err) == (0, "")
    lines = {line.split()[1]: line for line in result.out.splitlines()}
    assert set(lines) >= {"qexp", "python", "packages", "torch", "cpu", "cuda", "run", "data"}
    assert all(line.startswith("ok ") for line in lines.values())
    assert torch.__version__ in lines["torch"]
    assert list(Path().iterdir()) == []


def test_doctor_names_a_store_that_cannot_be_written(
    qexp: Qexp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QEXP_RUNS", str(tmp_path / "file" / "runs"))
    result = qexp("doctor")
    (line,) = (line for line in result.out.splitlines() if line.startswith("PROBLEM"))
    assert result.code == 1
    assert "run store" in line
    assert str(tmp_path / "file" / "runs") in line
