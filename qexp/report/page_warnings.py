"""What a reviewer has to know of runs before their numbers are believed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from qexp.report.page_content import Warned
from qexp.runs.course_rows import epochs_of
from qexp.runs.query import Entry, number
from qexp.runs.run_values import ListedRun
from qexp.utils.text import NOT_CONVERGED, few, plural

UNFINISHED = ("interrupted", "running")
FAR = 0.5  # points between the best epoch and the last, or hard and soft, from which on it is told
FIRM = 0.3  # points that rounding may move an accuracy without being told
MOST_NAMED = 8  # runs of a warning

Clean = Callable[[str], str]


def warned(runs: Sequence[ListedRun], clean: Clean) -> list[Warned]:
    """Return what is to be said of runs, the heaviest first.

    Args:
        runs: of the page.
        clean: takes paths of this machine out of a message.
    """
    kinds = (_ended_badly(runs, clean), _unfinished(runs), _results(runs), _mixed(runs), _recorded(runs))
    return list(chain.from_iterable(kinds))


def _ended_badly(runs: Sequence[ListedRun], clean: Clean) -> Iterator[Warned]:
    found: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if run.state in ("failed", "diverged", "damaged"):
            message = str(run.entry.status.get("message") or "") or "no word of why"
            if run.state == "damaged":
                message = "its state or its result cannot be read"
            found.setdefault((run.state, clean(message)), []).append(run.entry.key)
    yield from (Warned(state, message, keys[:MOST_NAMED]) for (state, message), keys in found.items())


def _unfinished(runs: Sequence[ListedRun]) -> Iterator[Warned]:
    for state in UNFINISHED:
        if own := [run.entry for run in runs if run.state == state]:
            far = [f"{one.key} at {one.progress}" if one.progress else f"{one.key} not begun" for one in own]
            yield Warned(state, f"{plural(len(own), 'run')} without a result, in no mean: {few(far, MOST_NAMED)}")


def _results(runs: Sequence[ListedRun]) -> Iterator[Warned]:
    done = [run.entry for run in runs if run.entry.result]
    yield from _about(
        done, _is_unconverged, "unconverged", f"quantizers did not end at the lowest bit-width; {NOT_CONVERGED}"
    )
    said = f"the best epoch is more than {FAR} points above the last; what is reported is the last"
    yield from _about(done, _is_past_its_best, "best and last", said)
    said = f"hard and soft accuracy differ by more than {FAR} points; what is reported is hard"
    yield from _about(done, _has_a_gap, "soft and hard", said)
    said = f"rounding alone moves the accuracy by more than {FIRM} points: weights lie on thresholds (firmness)"
    yield from _about(done, _hangs_on_rounding, "not firm", said)
    for one in done:
        if one.result.get("stopped_early") is True:
            said = f"after {epochs_of(one.result)} epochs, before its schedules had ended"
            yield Warned("stopped early", said, [one.key])
    nets: dict[str, list[str]] = {}
    for one in done:
        net = one.result.get("float_net")
        changes = net.get("changes") if isinstance(net, Mapping) else None
        if isinstance(changes, list) and changes:
            nets.setdefault(few(map(str, changes)), []).append(one.key)
    yield from (Warned("float net", f"was trained otherwise: {how}", keys[:MOST_NAMED]) for how, keys in nets.items())


def _about(done: Sequence[Entry], holds: Callable[[Entry], bool], word: str, text: str) -> Iterator[Warned]:
    if keys := [one.key for one in done if holds(one)]:
        count = "" if len(done) == 1 else f"{plural(len(keys), 'run')}: "
        yield Warned(word, f"{count}{text}", keys[:MOST_NAMED])


def _is_unconverged(entry: Entry) -> bool:
    return bool(entry.result.get("unsettled"))


def _is_past_its_best(entry: Entry) -> bool:
    best, last = number(entry.result, "best_top1_hard"), number(entry.result, "top1_hard")
    return best is not None and last is not None and best - last > FAR


def _has_a_gap(entry: Entry) -> bool:
    gap = number(entry.result, "quantizer_gap")
    return gap is not None and abs(gap) > FAR


def _hangs_on_rounding(entry: Entry) -> bool:
    found = entry.result.get("firmness")
    spread = number(found, "spread") if isinstance(found, Mapping) else None
    return spread is not None and spread > FIRM


def _mixed(runs: Sequence[ListedRun]) -> Iterator[Warned]:
    """Say in what runs that stand side by side differ besides what their rows are called by."""
    done = [run.entry for run in runs if run.entry.result]
    for word, key, what in (
        ("protocols", "protocol", "were trained under several protocols"),
        ("epochs", "epochs", "were trained for different numbers of epochs"),
        ("training images", "train_images", "saw different numbers of training images"),
        ("test images", "test_images", "were tested on different numbers of images"),
    ):
        by_data: dict[str, dict[Any, int]] = {}
        for one in done:
            counts = by_data.setdefault(one.dataset, {})
            counts[one.result.get(key)] = counts.get(one.result.get(key), 0) + 1
        for data, counts in by_data.items():
            if len(counts) > 1:
                told = [f"{count} with {value}" for value, count in counts.items()]
                yield Warned(f"mixed {word}", f"runs on {data} {what}: {few(told, 6)}; they do not compare")
    for protocol in dict.fromkeys(str(one.result.get("protocol", "paper")) for one in done):
        if protocol != "paper":
            yield Warned(f"protocol {protocol}", "shorter than the recipe: these numbers compare with each other only")


def _recorded(runs: Sequence[ListedRun]) -> Iterator[Warned]:
    """Say what the records of the runs tell of their code."""
    kept = [run.entry for run in runs if run.entry.environment]
    commits: dict[str, list[str]] = {}
    for one in kept:
        git = one.environment.get("git")
        commits.setdefault(str(git.get("commit"))[:10] if isinstance(git, Mapping) else "none recorded", []).append(
            one.key
        )
    if len(commits) > 1:
        told = [f"{plural(len(keys), 'run')} with {commit}" for commit, keys in commits.items()]
        yield Warned("several commits", f"the runs are of different versions of qexp: {few(told, 6)}")
    yield from _about(kept, _has_changes, "changed code", "trained with changes of qexp that no commit holds")
    yield from _about(
        kept, _moved, "resumed elsewhere", "resumed with other versions or on another device than it began"
    )
    digests: dict[str, set[str]] = {}
    for one in kept:
        for name, state in _own(one).items():
            digests.setdefault(str(name), set()).add(str(state.get("digest")) if isinstance(state, Mapping) else "?")
    for name, found in digests.items():
        if len(found) > 1:
            yield Warned("own code", f"{name} was changed between these runs: {len(found)} versions of it")


def _own(entry: Entry) -> Mapping[str, Any]:
    found = entry.environment.get("own")
    return found if isinstance(found, Mapping) else {}


def _has_changes(entry: Entry) -> bool:
    git = entry.environment.get("git")
    if not isinstance(git, Mapping):
        return False
    return bool(git.get("changes") or (git.get("dirty") and "changes" not in git))


def _moved(entry: Entry) -> bool:
    earlier = entry.environment.get("earlier")
    sessions = [one for one in earlier if isinstance(one, Mapping)] if isinstance(earlier, list) else []
    keys = ("qexp", "versions", "git", "device", "device_name", "cpu", "threads")
    return any(one.get(key) != entry.environment.get(key) for one in sessions for key in keys)
