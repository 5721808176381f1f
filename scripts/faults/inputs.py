"""The commands of tests/support/bad_inputs.py, each in an empty folder and a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from cases import Setting, wrong
from rows import Row
from trials import Facts, Trial, attempt, check

from qexp.cli.main import COMMANDS


def rows(setting: Setting) -> Iterator[Row]:
    """Give every bad input."""
    began = time.monotonic()
    try:
        cases = import_module("support.bad_inputs").BAD_INPUTS
    except ModuleNotFoundError:
        yield Row("inputs", "not run: no tests/support/bad_inputs.py", 0)
        return
    trials = {f"input {number}: {case.name}": _trial(case) for number, case in enumerate(cases)}
    findings = attempt(trials, setting.folder / "inputs", setting.jobs)
    what = "bad inputs: exit code, one line, nothing left behind"
    yield Row("inputs", what, len(findings), wrong(findings), "", time.monotonic() - began)


def _trial(case: Any) -> Trial:
    def trial(folder: Path) -> Facts:
        work = folder / "work"
        work.mkdir()
        case.prepare(work)
        before = set(work.rglob("*"))
        environment = {**os.environ, "COLUMNS": "200"}
        words = [sys.executable, "-m", "qexp", *case.words]
        ended = subprocess.run(words, cwd=work, env=environment, capture_output=True, timeout=300, check=False)
        out, err = ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace")
        lines = err.split("\n")[:-1]
        start = f"qexp {case.words[0]}: error: " if case.words[0] in COMMANDS else "qexp: error: "
        check(ended.returncode == case.code, f"ends with {ended.returncode} instead of {case.code}: {err!r}")
        check("Traceback" not in out + err, f"a traceback: {err[-500:]!r}")
        check(len(lines) == case.lines and all(line.startswith(start) for line in lines), f"says {err!r}")
        check(case.says in lines[0], f"does not say {case.says!r} but {err!r}")
        left = {path.relative_to(work).parts[0] for path in set(work.rglob("*")) - before}
        check(left == (set() if case.code == 2 else {"runs"}), f"leaves {left}")
        return {}

    return trial
