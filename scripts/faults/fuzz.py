"""Random command lines, thousands of them, none of which may end in a traceback, hang, or leave anything behind."""

import itertools
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cases import Setting, wrong
from rows import Row
from trials import Facts, Trial, Wrong, attempt

from qexp.cli import main
from support.crashes import start_child
from support.overrides import override_strings, verdict

BATCH = 250
LONGEST_SECONDS = 120.0  # of one command line


def rows(setting: Setting) -> Iterator[Row]:
    """Answer them in batches, each in a process that may end without harm."""
    began = time.monotonic()
    starts = range(0, setting.fuzz, BATCH)
    batches = {f"lines from {start}": _batch(setting, start, min(BATCH, setting.fuzz - start)) for start in starts}
    findings = attempt(batches, setting.folder / "fuzz", setting.jobs)
    counts = sum((Counter(finding.facts.get("counts", {})) for finding in findings), Counter())
    problems = wrong(findings) + [line for finding in findings for line in finding.facts.get("problems", ())]
    detail = f"{counts['valid']:,} valid, {counts['refused']:,} refused in clear lines"
    yield Row("fuzz", "command lines", counts.total(), problems, detail, time.monotonic() - began)


def _batch(setting: Setting, start: int, count: int) -> Trial:
    def trial(folder: Path) -> Facts:
        lines = list(itertools.islice(override_strings(setting.seed, setting.fuzz), start, start + count))
        counts, problems, done = Counter(), [], 0
        while done < len(lines):
            answers = folder / f"answers-{done}"
            ended = _watch(start_child(_answer(lines[done:], answers), folder / f"from-{done}"), answers)
            found = [json.loads(line) for line in answers.read_text().splitlines()]
            for words, (kind, problem) in zip(lines[done:], found, strict=False):
                counts[kind] += 1
                if problem:
                    problems.append(f"{shown(words)}: {shown([problem])}")
            done += len(found)
            if done < len(lines):
                counts["wrong"] += 1
                problems.append(f"{shown(lines[done])}: ends the process with {ended}")
                done += 1
        return {"counts": dict(counts), "problems": problems}

    return trial


def shown(words: Sequence[str]) -> str:
    """Return words in ASCII, and not without end."""
    return " ".join(ascii(word if len(word) < 300 else f"{word[:300]}...") for word in words)


def _answer(lines: Sequence[Sequence[str]], answers: Path) -> Callable[[], int]:
    """Return what answers command lines, and leaves what became of each in a file."""

    def action() -> int:
        codes, real = [], main.main
        answers.touch()

        def remembered(words: Sequence[str]) -> int:
            codes.append(real(words))
            return codes[-1]

        main.main = remembered
        with answers.open("a") as file:
            for words in lines:
                codes.clear()
                problem = verdict(list(words))
                kind = "wrong" if problem else "refused" if codes[0] else "valid"
                print(json.dumps((kind, problem)), file=file, flush=True)
        return 0

    return action


def _watch(pid: int, answers: Path) -> int:
    """Return how a child ended; kill it if one answer takes too long."""
    moved, size = time.monotonic(), -1
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            if not answers.exists():
                raise Wrong("the process did not even begin")
            return os.waitstatus_to_exitcode(status)
        now = answers.stat().st_size if answers.exists() else -1
        if now != size:
            moved, size = time.monotonic(), now
        elif time.monotonic() - moved > LONGEST_SECONDS:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
