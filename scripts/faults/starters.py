"""Several processes that start the same sweep at the same moment, one of which may be killed."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cases import Setting, compare, prepared, results, wrong
from rows import Row
from trials import Facts, Trial, attempt, begin, carry_out, check, end, no_traceback

from qexp import runs
from qexp.config import places
from support.crashes import Action, command
from support.short_runs import SHORT

METHODS, SEEDS = ("ste", "daq", "dqa"), (0, 1)
NUMBER_OF_RUNS = len(SEEDS) * (len(METHODS) + 1)  # and the float nets


def rows(setting: Setting) -> Iterator[Row]:
    """Start sweeps together."""
    began, folder = time.monotonic(), setting.folder / "starters-alone"
    ended = carry_out(_sweep(folder), folder, prepared())
    check(ended.code == 0, f"the sweep ends with {ended.code}: {ended.err}")
    expected = results(folder)
    seconds = ended.seconds
    repeats = setting.share(0.015)
    together = {
        f"{count} starters {turn}": _together(count, expected) for count in (2, 4, 8) for turn in range(repeats)
    }
    findings = attempt(together, setting.folder / "starters", 1)
    trained = sum(finding.facts.get("trained", 0) for finding in findings)
    what = f"2, 4 and 8 starters of one sweep of {NUMBER_OF_RUNS} runs"
    detail = f"{trained} runs trained, each once"
    yield Row("starters", what, len(findings), wrong(findings), detail, time.monotonic() - began)
    began = time.monotonic()
    killed = {f"killed {turn}": _one_killed(setting, turn, seconds, expected) for turn in range(setting.share(0.05))}
    findings = attempt(killed, setting.folder / "starters-killed", 1)
    left = sum(finding.facts.get("left", 0) for finding in findings)
    what, detail = "three starters, one killed", f"{left} runs were left for the next command"
    yield Row("starters", what, len(findings), wrong(findings), detail, time.monotonic() - began)


def _sweep(store: Path) -> Action:
    names, seeds = ",".join(METHODS), ",".join(map(str, SEEDS))
    words = (f"quantizer={names}", f"seed={seeds}", "init=fp", f"runs_dir={store / 'runs'}")
    return command(("train", "-m", *SHORT, *words))


def _start(count: int, folder: Path) -> list[tuple[int, Path]]:
    """Start sweeps; return pid and folder of each."""
    folders = [folder / f"starter-{number}" for number in range(count)]
    return [(begin(_sweep(folder), own, prepared()), own) for own in folders]


def _beginnings(folders: Sequence[Path]) -> Counter[str]:
    """Return how often each run was begun: a run says where it is when it begins to train."""
    lines = [line for own in folders for line in (own / "log").read_text().splitlines()]
    return Counter(line.partition("  -> ")[2] for line in lines if "  -> " in line)


def _together(count: int, expected: dict) -> Trial:
    def trial(folder: Path) -> Facts:
        started = _start(count, folder)
        for pid, own in started:
            ended = end(pid, own)
            check(ended.code == 0 and not ended.err, f"a starter ends with {ended.code}: {ended.err}")
            no_traceback(own)
        compare(expected, results(folder))
        begun = _beginnings([own for _, own in started])
        check(len(begun) == NUMBER_OF_RUNS and set(begun.values()) == {1}, f"begun more than once: {begun}")
        said = "".join((own / "log").read_text() for _, own in started)
        check("going on from" not in said and "restarts" not in said, "a run was begun twice")
        check(not (folder / "runs" / ".jobs").exists(), "runs/.jobs is left")
        return {"trained": len(begun)}

    return trial


def _one_killed(setting: Setting, turn: int, seconds: float, expected: dict) -> Trial:
    def trial(folder: Path) -> Facts:
        draw, started = setting.draw(f"killed {turn}"), _start(3, folder)
        time.sleep(draw.uniform(0.5, seconds))
        victim = draw.choice(started)
        os.kill(victim[0], signal.SIGKILL)
        for pid, own in started:
            ended = end(pid, own)
            fine = ended.code == 0 or (own == victim[1] and ended.code == -signal.SIGKILL)
            check(fine and not ended.err, f"a starter ends with {ended.code}: {ended.err}")
            no_traceback(own)
        states = [runs.state_of(path) for path in places.list_runs(folder / "runs")]
        check(set(states) <= {"done", "interrupted"} and states.count("interrupted") <= 2, f"states {states}")
        ended = carry_out(_sweep(folder), folder / "again", prepared())
        check(ended.code == 0, f"lost: the next command ends with {ended.code}: {ended.err}")
        compare(expected, results(folder))
        return {"left": NUMBER_OF_RUNS - states.count("done")}

    return trial
