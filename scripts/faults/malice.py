"""The malicious and damaged inputs of tests/support/malice.py, those of another seed each time."""

import time
from collections.abc import Iterator
from pathlib import Path

from cases import Setting, wrong
from rows import Row
from trials import Facts, Trial, attempt, check

from support.malice import KINDS, malicious
from support.malice_case import Case
from support.malice_checks import verdict
from support.malice_store import load, make


def rows(setting: Setting) -> Iterator[Row]:
    """Give every input to its command."""
    make(setting.folder / "malice-store")
    store = load(setting.folder / "malice-store")
    for kind in KINDS:
        began = time.monotonic()
        trials = {case.name: _trial(case) for case in malicious(kind, setting.seed, store)}
        findings = attempt(trials, setting.folder / f"malice-{kind}", setting.jobs)
        yield Row("malice", f"malicious {kind}", len(findings), wrong(findings), "", time.monotonic() - began)


def _trial(case: Case) -> Trial:
    def trial(folder: Path) -> Facts:
        problems = verdict(case, folder)
        check(not problems, f"{'; '.join(problems)} by {' '.join(map(ascii, case.words))[:1000]}")
        return {}

    return trial
