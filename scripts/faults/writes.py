"""kill -9 at calls of the system that change files: before one, after it, and in the middle of a write.

Moments drawn by the clock nearly always fall into computing. Here a command is carried out once to list its calls
(preload.py), and then killed at one of them: half of the time at any, else at one of a kind, and then on a file, that
are drawn first, so that the rename of a checkpoint is hit as often as the hundreds of writes of a log.
"""

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import preload
from cases import ALONE, WITH_PARENT, Case, Reference, Setting, compare, finish, prepared, results, wrong
from disk import contents, usable
from preload import Call, Death
from rows import Row
from trials import Facts, Trial, Wrong, attempt, carry_out, check, no_traceback

from qexp.runs import query
from qexp.tracking import EVENT_FILE
from support.crashes import command, result

KILLED = -signal.SIGKILL
AGAIN = (Case("daq"), Case("ste", True))  # a second time, over the finished run
REMOVED = (Case("ste", True), Case("dqa", True))  # beside a float net, which stays
RESULT = ("best.pt", "metrics.jsonl", "summary.json", "events")  # of a run that says it is done; last.pt may be larger
# What a process calls only where it resumes a run: logs are cut, and the best network is the one that the state knows.
RESUMING = (
    ("truncate", "metrics.jsonl"),
    ("truncate", EVENT_FILE),
    ("rename", "best-previous.pt"),
    ("rename", "best.pt"),
    ("unlink", "best.pt"),
)


@dataclass(frozen=True)
class Scene:
    """A command that is killed: "train" in an empty store; "overwrite" or "rm" where its run is done."""

    case: Case
    act: str = "train"

    @property
    def more(self) -> tuple[str, ...]:
        """The words of training it that are not in every command."""
        return ("overwrite=true",) if self.act == "overwrite" else ()

    def words(self, expected: Reference) -> tuple[str, ...]:
        """Return the words of the command."""
        if self.act == "rm":
            return ("runs", "rm", _own(expected).rpartition("-")[2], "--yes")
        return self.case.words(*self.more)


@dataclass
class Rehearsals:
    """What commands call of the system when they are left alone, each found out when it is asked for first."""

    setting: Setting
    known: dict[Scene, list[Call]] = field(default_factory=dict)

    def of(self, scene: Scene) -> list[Call]:
        """Return the calls of a command.

        Raises:
            Wrong: its end is not that without the library, or files hold more or less than the library saw.
        """
        if scene not in self.known:
            folder = self.folder(scene)
            folder.mkdir(parents=True)
            self.known[scene] = self._rehearse(scene, folder)
        return self.known[scene]

    def folder(self, scene: Scene) -> Path:
        """Return where a command is rehearsed."""
        return self.setting.folder / "rehearsals" / f"{scene.act} {scene.case.name} {scene.case.with_parent}"

    def set_up(self, scene: Scene, folder: Path) -> None:
        """Put into a folder what is there before the command."""
        if scene.act != "train":
            finished = Scene(scene.case)
            self.of(finished)
            shutil.copytree(self.folder(finished) / "runs", folder / "runs")

    def _rehearse(self, scene: Scene, folder: Path) -> list[Call]:
        expected = self.setting.references.of(scene.case)
        self.set_up(scene, folder)
        calls = _carry_out(scene, expected, folder, Death()).calls
        if scene.act != "rm":
            compare(expected.results, results(folder))
        if scene.act == "train":
            found = {str(path.resolve()): len(content) for path, content in contents(folder / "runs").items()}
            check(preload.sizes(calls) == found, f"{scene}: the library saw other bytes than those of {found}")
        return calls


@dataclass(frozen=True)
class Carried:
    """How a command with the library in it ended, and its calls."""

    code: int
    calls: list[Call]

    @property
    def death(self) -> Call | None:
        """The call that it died of."""
        return self.calls[-1] if self.code == KILLED else None


def _carry_out(scene: Scene, expected: Reference, folder: Path, death: Death) -> Carried:
    notes = folder / "calls"
    ended = carry_out(command(scene.words(expected)), folder, prepared(death.prepare(folder / "runs", notes)))
    carried = Carried(ended.code, preload.calls(notes))
    check(ended.code in ((0, KILLED) if death.number else (0,)), f"{scene}, {death}: {ended}")
    check(carried.death is None or carried.death.died != "", f"{scene}, {death}: killed by something else")
    return carried


def rows(setting: Setting) -> Iterator[Row]:
    """Kill trainings, trainings over finished runs, and removals."""
    if not preload.is_loaded():
        yield Row("writes", "kill -9 at calls that change files: not run, needs gcc", 0)
        return
    rehearsals, few = Rehearsals(setting), max(1, round(0.15 * setting.points))
    trains = [Scene(_case(setting, number)) for number in range(max(1, setting.points - 2 * few))]
    parents = sum(scene.case.with_parent for scene in trains)
    kinds = len({scene.case.name for scene in trains})
    what = f"kill -9 at a call that changes files, up to three in a row, over {len(trains)} runs of {kinds} kinds"
    yield _row(rehearsals, f"{what} ({parents} with float net)", trains)
    again = [Scene(AGAIN[number % len(AGAIN)], "overwrite") for number in range(few)]
    yield _row(rehearsals, f"the same, of overwrite=true over {few} finished runs", again)
    removed = [Scene(REMOVED[number % len(REMOVED)], "rm") for number in range(few)]
    yield _row(rehearsals, f"kill -9 at a call of qexp runs rm, of {few} runs", removed)


def _case(setting: Setting, number: int) -> Case:
    return setting.draw(f"writes {number}").choice(WITH_PARENT if number % 4 == 1 else ALONE)


def _row(rehearsals: Rehearsals, what: str, scenes: Sequence[Scene]) -> Row:
    setting = rehearsals.setting
    setting.references.prepare([*dict.fromkeys(scene.case for scene in scenes)], setting.jobs)
    began, trials = time.monotonic(), {}
    for number, scene in enumerate(scenes):
        rehearsals.of(scene)
        name = f"{scene.act} {number}"
        trials[name] = (_removal if scene.act == "rm" else _training)(rehearsals, scene, name)
    findings = attempt(trials, setting.folder / f"writes-{scenes[0].act}", setting.jobs)
    deaths = [death for finding in findings for death in finding.facts.get("deaths", ())]
    shells = sum(finding.facts.get("shell", False) for finding in findings)
    detail = _told(deaths) + (f"; {shells} left a folder without a run" if shells else "")
    return Row("writes", what, len(deaths), wrong(findings), detail, time.monotonic() - began)


def _told(deaths: Sequence[Call]) -> str:
    """Return in words what was hit, and when."""
    kinds, moments = Counter(call.kind for call in deaths), Counter(call.died for call in deaths)
    hit = ", ".join(f"{kinds[kind]} {kind}" for kind in preload.KINDS if kinds[kind])
    return f"{hit}; {moments['before']} before, {moments['middle']} in the middle, {moments['after']} after"


def _drawn(draw: random.Random, calls: Sequence[Call], made: Sequence[Call] = ()) -> Death:
    """Draw a call that changed something, after those that earlier processes of the run made.

    Args:
        draw: the generator.
        calls: of the command when it is left alone.
        made: by processes that were killed; the next one repeats some of them, so that it reaches most of what is left.
    """
    kinds, file = preload.KINDS, ""
    if draw.random() < 0.5:
        places = [(call.kind, Path(call.path).name) for call in calls if call.result >= 0]
        places += RESUMING if made else ()
        kinds = (draw.choice(sorted({kind for kind, _ in places})),)
        file = draw.choice(sorted({name for kind, name in places if kind in kinds}))
    fitting = [call for call in calls if _fits(call, kinds, file)]
    numbers = [number for number, call in enumerate(fitting, 1) if call.result >= 0]
    if made:
        left = len(fitting) - sum(_fits(call, kinds, file) for call in made)
        numbers = list(range(1, max(1, left) + 1))
    number = draw.choice(numbers)
    is_write = "write" in kinds if made else fitting[number - 1].kind == "write"
    moment = draw.choice(("before", "middle", "after") if is_write else ("before", "after"))
    return Death(kinds, file, number, moment, draw.random())


def _fits(call: Call, kinds: Sequence[str], file: str) -> bool:
    return call.kind in kinds and file in ("", Path(call.path).name)


def _training(rehearsals: Rehearsals, scene: Scene, name: str) -> Trial:
    calls, setting = rehearsals.of(scene), rehearsals.setting
    expected = setting.references.of(scene.case)

    def trial(folder: Path) -> Facts:
        draw, made, deaths, told = setting.draw(name), [], [], []
        rehearsals.set_up(scene, folder)
        try:
            for _ in range(draw.choice((1, 1, 2, 3))):
                death = _drawn(draw, calls, made)
                carried = _carry_out(scene, expected, folder, death)
                told.append(f"{death} -> {carried.death}")
                if carried.death is None:
                    break
                made += carried.calls
                deaths.append(carried.death)
                _look(folder, expected)
            finish(scene.case, folder, expected, *scene.more)
            no_traceback(folder)
            _nothing_left(folder / "runs", expected)
        except Exception as error:
            raise Wrong(f"{scene}, {told}: {error!r}") from error
        return {"deaths": deaths}

    return trial


def _look(folder: Path, expected: Reference) -> None:
    """Raise Wrong unless a store can be listed, and what says that it is done is whole."""
    store = folder / "runs"
    usable(store, folder)
    for entry in query.entries(store):
        if entry.state == "done":
            compare({entry.name: expected.results[entry.name]}, {entry.name: result(entry.path)}, RESULT)


def _nothing_left(store: Path, expected: Reference) -> None:
    """Raise Wrong where a store holds files that are not of its runs."""
    others = {str(path.relative_to(store).parent) for path in contents(store)} - expected.results.keys()
    check(not others, f"files are left in {others}")


def _own(expected: Reference) -> str:
    """Return the run that a command is of, and not its float net."""
    (own,) = (name for name in expected.results if "/fp-" not in name)
    return own


def _removal(rehearsals: Rehearsals, scene: Scene, name: str) -> Trial:
    calls, setting = rehearsals.of(scene), rehearsals.setting
    expected = setting.references.of(scene.case)

    def trial(folder: Path) -> Facts:
        draw, store = setting.draw(name), folder / "runs"
        run = store / _own(expected)
        rehearsals.set_up(scene, folder)
        before, death = contents(store), _drawn(draw, calls)
        try:
            carried = _carry_out(scene, expected, folder, death)
            check(carried.death is not None, "was not killed")
            _look(folder, expected)
            is_listed = _is_listed(store, before, run)
            is_shell = run.exists() and not is_listed
            if is_listed and draw.random() < 0.5:
                _carry_out(scene, expected, folder, Death())
                check(not run.exists(), "the same command leaves something")
            finish(scene.case, folder, expected)
            no_traceback(folder)
            _nothing_left(store, expected)
        except Exception as error:
            raise Wrong(f"{scene}, {death}: {error!r}") from error
        return {"deaths": [carried.death], "shell": is_shell}

    return trial


def _is_listed(store: Path, before: dict[Path, bytes], run: Path) -> bool:
    """Return whether a run that was to be removed is still listed; raise Wrong where more, or less, than it is gone."""
    found = contents(store)
    check(
        {path: content for path, content in found.items() if path.parent != run}
        == {path: content for path, content in before.items() if path.parent != run},
        "other runs have changed",
    )
    left = {path.name for path in found if path.parent == run}
    is_listed = run in [entry.path for entry in query.entries(store)]
    check(is_listed or left <= {"lock"}, f"not listed, and holds {left}")
    return is_listed
