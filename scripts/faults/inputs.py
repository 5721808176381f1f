"""The commands of tests/bad_inputs.py, each in an empty folder and a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from cases import Setting, wrong
from figures import Row
from trials import Facts, Trial, attempt, check


def rows(setting: Setting) -> Iterator[Row]:
    """Give every bad input."""
    began = time.monotonic()
    try:
        cases = import_module("bad_inputs").BAD_INPUTS
    except ModuleNotFoundError:
        yield Row("inputs", "not run: no tests/bad_inputs.py", 0)
        return
    trials = {f"input {number} {case.name}": _trial(case) for number, case in enumerate(cases)}
    findings = attempt(trials, setting.folder / "inputs", setting.jobs)
    what = "bad inputs: exit code, one line, nothing left behind"
    yield Row("inputs", what, len(findings), wrong(findings), "", time.monotonic() - began)


def _trial(case: Any) -> Trial:
    def trial(folder: Path) -> Facts:
        work = folder / "work"
        work.mkdir()
        case.prepare(work)
        before = sorted(work.rglob("*"))
        words = [sys.executable, "-m", "qexp", *case.words]
        environment = {**os.environ, "COLUMNS": "200"}
        ended = subprocess.run(
            words, cwd=work, env=environment, capture_output=True, text=True, errors="replace", timeout=300, check=False
        )
        lines = [line for line in ended.stderr.splitlines() if ": error: " in line]
        check(ended.returncode == case.code, f"ends with {ended.returncode} instead of {case.code}: {ended.stderr!r}")
        check("Traceback" not in ended.stdout + ended.stderr, f"a traceback: {ended.stderr[-500:]!r}")
        check(any(case.says in line for line in lines), f"does not say {case.says!r} but {ended.stderr!r}")
        left = sorted(set(work.rglob("*")) - set(before))
        check(not left, f"leaves {[str(path.relative_to(work)) for path in left]}")
        return {}

    return trial
