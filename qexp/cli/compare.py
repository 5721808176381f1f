"""`qexp runs compare`: in what two runs differ: configuration, curve, result."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from qexp.cli.listing import Column, drawn
from qexp.config.identity import RUNTIME
from qexp.runs.epoch_records import EpochRecords, epoch_records
from qexp.runs.query import Entry, number
from qexp.runs.run_values import ABSENT, ListedRun, as_data, as_texts
from qexp.runs.variation import OptionReader, is_usual
from qexp.utils.text import is_number, plural, printable

HANDFUL = 6  # epochs of a curve

_RESULTS = {
    "top-1 hard": "top1_hard",
    "top-1 soft": "top1_soft",
    "top-5 hard": "top5_hard",
    "best top-1": "best_top1_hard",
    "float top-1": "float_top1",
    "to float": "difference",
    "quantizer gap": "quantizer_gap",
    "train loss": "train_loss",
    "test loss": "test_loss",
    "bits of weights": "mean_weight_bits",
    "bits of inputs": "mean_activation_bits",
    "weights, kB": "weight_kilobytes",
    "time, s": "time_seconds",
}
_NOT_COMPARED = ("runs_dir", "overwrite", "bits", "tracking", "checkpoint")  # where and how it was logged
_NO_KEY = "(not in its configuration)"


def comparison(first: Entry, second: Entry) -> dict[str, Any]:
    """Return in what two runs differ, as data.

    Returns:
        `runs`: path, state and epochs of each. `config`: dotted key -> both values, of what is part of the identity;
        `runtime`: the same of what is not; both None where a configuration cannot be read. `result`: name in
        summary.json -> both values, None where one has none.
        `curve`: the common epochs, [epoch, hard top-1 of the first, of the second]; `equal_until`: the last epoch up to
        which both were equal, 0 where they differ from the first one on; None without common epochs.
    """
    epochs = [epoch_records(entry.path) for entry in (first, second)]
    common = sorted(epochs[0].keys() & epochs[1].keys())
    results = [entry.result for entry in (first, second)]
    is_known = bool(first.config and second.config)
    return {
        "runs": [
            {"run": str(entry.path), "state": entry.state, "epochs": max(own, default=0)}
            for entry, own in zip((first, second), epochs, strict=True)
        ],
        "config": _differences(first, second, _identity_of) if is_known else None,
        "runtime": _differences(first, second, _runtime_of) if is_known else None,
        "result": {
            key: [number(one, key) for one in results]
            for key in _RESULTS.values()
            if any(key in one for one in results)
        },
        "curve": [[epoch, *(_top1(own[epoch]) for own in epochs)] for epoch in common],
        "equal_until": _equal_until(epochs[0], epochs[1], common) if common else None,
    }


def compare_page(first: Entry, second: Entry) -> str:
    """Return in what two runs differ, for people."""
    found = comparison(first, second)
    blocks = [_heads(first, second), *_warnings(first, second)]
    differing = [*(found["config"] or {}).items(), *(found["runtime"] or {}).items()]
    if found["config"] is None:
        blocks.append(_unreadable(first, second))
    elif not found["config"]:
        blocks.append("the same configuration" + (", but for how it was run" if differing else ""))
    if differing:
        blocks.append(_values(differing))
    if found["result"]:
        blocks.append(_result(found["result"]))
    return "\n\n".join([*blocks, _curve(found)])


def compare_json(first: Entry, second: Entry) -> str:
    """Return in what two runs differ, for programs."""
    return json.dumps(comparison(first, second), indent=2, default=str)


def _heads(first: Entry, second: Entry) -> str:
    lines = []
    for letter, entry in (("A", first), ("B", second)):
        what = f"{entry.label}  {entry.model_label} on {entry.dataset}  seed {entry.seed}"
        lines.append(printable(f"{letter}  {entry.key}  {what}  {entry.state}"))
    return "\n".join(lines)


def _warnings(first: Entry, second: Entry) -> list[str]:
    found = []
    for letter, entry in (("A", first), ("B", second)):
        if entry.state != "done":
            far = f" after epoch {entry.progress}" if entry.progress else ""
            found.append(f"{letter} is {entry.state}{far}: it has no result, and its curve is not whole")
    return ["\n".join(found)] if found else []


# Configuration


def _unreadable(first: Entry, second: Entry) -> str:
    letters = [letter for letter, entry in (("A", first), ("B", second)) if not entry.config]
    return f"the config.yaml of {' and of '.join(letters)} cannot be read, so that options are not compared"


def _identity_of(run: ListedRun) -> Mapping[str, Any]:
    return run.options


def _runtime_of(run: ListedRun) -> Mapping[str, Any]:
    config = run.entry.config
    keys = [key for key in RUNTIME if key in config and key not in (*_NOT_COMPARED, "protocol")]
    return {key: run.value(key) for key in keys}


def _differences(first: Entry, second: Entry, read: Any) -> dict[str, list[Any]]:
    """Return dotted key -> both values, where they differ."""
    reader = OptionReader()
    one, other = (read(ListedRun(entry, reader)) for entry in (first, second))
    keys = list(dict.fromkeys((*one, *other)))
    pairs = {key: [one.get(key, ABSENT), other.get(key, ABSENT)] for key in keys}
    told = {
        key: pair for key, pair in pairs.items() if pair[0] != pair[1] and not _goes_without_saying(key, one, other)
    }
    return {key: [_plain(value) for value in pair] for key, pair in told.items()}


def _goes_without_saying(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one run alone has an option, such as that of its quantizer, and at the usual value."""
    return (key not in one or key not in other) and is_usual(one, key) and is_usual(other, key)


def _plain(value: Any) -> Any:
    return _NO_KEY if value is ABSENT else as_data(value)


def _values(pairs: Sequence[tuple[str, Sequence[Any]]]) -> str:
    columns = [Column("configuration", [printable(key) for key, _ in pairs])]
    rows = [as_texts([ABSENT if value == _NO_KEY else value for value in pair]) for _, pair in pairs]
    columns += [Column(letter, [row[at] for row in rows]) for at, letter in enumerate("AB")]
    return drawn(columns).strip("\n")


# Result and curve


def _result(found: Mapping[str, Sequence[float | None]]) -> str:
    named = {name: found[key] for name, key in _RESULTS.items() if key in found}
    digits = [4 if name.endswith("loss") else 2 for name in named]
    columns = [Column("result", list(named))]
    for at, letter in enumerate("AB"):
        shown = [_figure(pair[at], places) for pair, places in zip(named.values(), digits, strict=True)]
        columns.append(Column(letter, shown, True))
    apart = [None if one is None or other is None else other - one for one, other in named.values()]
    shown = [_figure(value, places, "+") for value, places in zip(apart, digits, strict=True)]
    return drawn([*columns, Column("B - A", shown, True)]).strip("\n")


def _figure(value: float | None, places: int, sign: str = "") -> str:
    return "-" if value is None else f"{round(value, places) + 0.0:{sign},.{places}f}"  # + 0.0: no negative zero


def _top1(record: Mapping[str, Any], side: str = "hard") -> float | None:
    counts = record.get(side)
    return number(counts, "top1") if isinstance(counts, Mapping) else None


def _what_is_compared(record: Mapping[str, Any]) -> tuple[Any, ...]:
    train = record.get("train")
    loss = train.get("loss") if isinstance(train, Mapping) else None
    return loss, _top1(record), record.get("penalty")


def _equal_until(one: EpochRecords, other: EpochRecords, common: Sequence[int]) -> int:
    last = 0
    for epoch in common:
        if _what_is_compared(one[epoch]) != _what_is_compared(other[epoch]):
            break
        last = epoch
    return last


def _curve(found: Mapping[str, Any]) -> str:
    """Return hard top-1 at a handful of epochs that both have, the first and the last among them, and the parting."""
    points = [point for point in found["curve"] if is_number(point[1]) and is_number(point[2])]
    if not points:
        return "no epoch that both have evaluated"
    last = len(points) - 1
    chosen = [points[at] for at in sorted({round(step * last / (HANDFUL - 1)) for step in range(HANDFUL)})]
    columns = [Column("epoch", [str(point[0]) for point in chosen], True)]
    columns += [Column(letter, [f"{point[at]:.2f} %" for point in chosen], True) for at, letter in ((1, "A"), (2, "B"))]
    columns.append(Column("B - A", [f"{point[2] - point[1]:+.2f}" for point in chosen], True))
    return f"{drawn(columns)}\n{_parting(found, points)}"


def _parting(found: Mapping[str, Any], points: Sequence[Sequence[float]]) -> str:
    common, equal = len(found["curve"]), found["equal_until"]
    if equal == found["curve"][-1][0]:
        return f"equal in all of {plural(common, 'common epoch')}: training loss, penalty and hard top-1"
    apart = max(points, key=lambda point: abs(point[2] - point[1]))
    start = f"equal up to epoch {equal}, and apart from then on" if equal else "apart from the first epoch on"
    return f"{start}\nfurthest apart in epoch {apart[0]}: {apart[2] - apart[1]:+.2f} points"
