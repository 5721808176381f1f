"""docs/own.md, carried out from top to bottom in an empty folder: its commands are run, its files are written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.pages import ROOT

PAGE = (ROOT / "docs" / "own.md").read_text()
STEP = re.compile(
    r"^```sh\n(?P<commands>.*?)^```|^`(?P<name>\S+)`\n\n```\w+\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)


def test_the_page_has_its_steps() -> None:
    steps = [found["name"] or "commands" for found in STEP.finditer(PAGE)]
    assert steps == [
        "commands",
        "commands",
        "my_snap/snap.py",
        "./tests/test_snap.py",
        "commands",
        "commands",
        "commands",
        "./conf/paper/mine/1.yaml",
        "commands",
        "commands",
        "my_snap/training.py",
        "commands",
    ]
    assert PAGE.count("```sh") == steps.count("commands")


@pytest.mark.process
@pytest.mark.thorough
def test_every_block_can_be_carried_out(tmp_path: Path) -> None:
    """By a shell that stops at the first command that fails; `qexp` and `python` are those of this environment."""
    tools, log = tmp_path / "bin", tmp_path / "log"
    tools.mkdir()
    for name, words in (("qexp", "-m qexp"), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (tools / name).chmod(0o755)
    script = ["set -e"]
    for found in STEP.finditer(PAGE):
        script.append(found["commands"] or f"cat > {found['name']} <<'END OF FILE'\n{found['text']}END OF FILE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("QEXP", "PYTEST"))}
    environment |= {"PATH": f"{tools}:{environment['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        done = subprocess.run(
            ["sh", "-c", "\n".join(script)], cwd=tmp_path, env=environment, stdout=file, stderr=file, timeout=550
        )
    text = log.read_text()
    assert done.returncode == 0, text
    runs = tmp_path / "my_snap" / "runs"
    found_runs = {path.parent.parent.relative_to(runs).as_posix() for path in runs.glob("*/*/*/*/summary.json")}
    swept = {f"{name}-w{bits}a{bits}" for name in ("snap", "ste", "daq") for bits in (2, 4)}
    assert found_runs == {
        *(f"digits/tiny/{method}" for method in swept | {"snap-w3a3", "fp-w32a32"}),
        "stripes/tiny/snap-w4a4",
        "stripes/tiny/fp-w32a32",
    }
    assert "6 jobs: 1 skipped, 5 done" in text
    assert "top-1 hard" in text
    assert "has changed" not in text  # what is trained again is trained with the code that it records
