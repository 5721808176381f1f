"""`qexp plot bits RUNS`: accuracy against bits, size or bit operations."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from qexp.figures import Chart, Interval, Measured, MethodLine, Subject, accuracy_chart
from qexp.report.catalogue import Request
from qexp.report.series import commits_note, groups_of, selected_runs, series_of, series_over_bits, subject_of
from qexp.runs.measured_bits import MEANS, bits_of_layers
from qexp.runs.query import Entry, number
from qexp.utils.errors import UsageError
from qexp.utils.text import plural, printable

COSTS = {
    "bits": "bits of a weight, mean over quantized weights",
    "size": "size of all parameters, kB",
    "bops": "bit operations for one image, 10⁹",
}
_FLOAT = 32
_OPERATIONS = "Bit operations: multiply-accumulates times bits of the weight times bits of the input, 32 where float."

Cost = Callable[[Entry], float | None]


def make(request: Request) -> Chart:
    """Return the chart; raise UsageError."""
    x, interval = request.choice("x"), request.choice("interval")
    selected = selected_runs(request)
    done = [entry for entry in selected if number(entry.result, "top1_hard") is not None]
    quantized = [entry for entry in done if not _is_float(entry)]
    if not quantized:
        what = "is float" if done else f"has a result (one is {selected[0].state})"
        raise UsageError(f"nothing to draw: of {plural(len(selected), 'run')} {'each' if done else 'none'} {what}")
    costs: dict[str, Cost] = {"bits": _bits, "size": _size, "bops": _Operations()}
    cost = costs[x]
    known = {entry.path: own for entry in quantized if (own := cost(entry)) is not None and own > 0}
    drawn = [entry for entry in quantized if entry.path in known]
    if not drawn:
        raise UsageError(f"x={x}: no summary.json of these {plural(len(quantized), 'run')} tells it")
    floats = [entry for entry in done if _is_float(entry)]
    subjects = [
        _subject([entry for entry in drawn if subject_of([entry]) == title], floats, known)
        for title in dict.fromkeys(subject_of([entry]) for entry in drawn)
    ]
    left_out = len(selected) - len(drawn) - len(floats)
    notes = [f"Left out, without a result or its {x}: {plural(left_out, 'run')}."] if left_out else []
    notes += [_OPERATIONS] if x == "bops" else []
    return accuracy_chart(
        f"Accuracy against {x if x != 'bops' else 'bit operations'}",
        subjects,
        COSTS[x],
        interval=cast(Interval, interval),
        caption=[*notes, *commits_note(drawn)],
    )


def _is_float(entry: Entry) -> bool:
    return entry.method.startswith("fp-")


def _top1(entry: Entry) -> float:
    return cast(float, number(entry.result, "top1_hard"))


def _subject(entries: Sequence[Entry], floats: Sequence[Entry], known: Mapping[Path, float]) -> Subject:
    """Return a network on a data set: its quantized runs, and the float runs beside them.

    Args:
        entries: of that subject.
        floats: float runs of any.
        known: run -> what it costs.
    """
    lines = []
    for series in series_over_bits(entries):
        groups = [
            [Measured(known[run.entry.path], _top1(run.entry), _note(run.entry)) for run in group]
            for group in groups_of(series)
        ]
        lines.append(MethodLine(series.label, groups))
    title = subject_of(entries[:1])
    own = [entry for entry in floats if subject_of([entry]) == title]
    return Subject(title, lines, _of_floats(own) if own else _recorded_floats(entries))


def _note(entry: Entry) -> str:
    return printable(f"{entry.label}, seed {entry.seed}, {entry.key}")


def _of_floats(entries: Sequence[Entry]) -> dict[str, list[float]]:
    """Return label -> top-1 of float runs, where they differ in the seed alone."""
    found = series_of(entries)
    return {
        "float" if len(found) == 1 else f"float: {series.label}": [_top1(run.entry) for run in series.runs]
        for series in found
    }


def _recorded_floats(entries: Sequence[Entry]) -> dict[str, list[float]]:
    """Return top-1 of the float nets that quantized runs are held against, as their summaries tell it."""
    found = {(entry.seed, top1) for entry in entries if (top1 := number(entry.result, "float_top1")) is not None}
    return {"float": [top1 for _, top1 in sorted(found)]} if found else {}


# What a run costs


def _bits(entry: Entry) -> float | None:
    mean = number(entry.result, MEANS[0])
    return number(entry.result, "weight_bits") if mean is None else mean


def _size(entry: Entry) -> float | None:
    return number(entry.result, "weight_kilobytes")


class _Operations:
    """Counts the bit operations of runs; a network that many runs have is made once."""

    def __init__(self) -> None:
        self._known: dict[str, Mapping[str, int]] = {}

    def __call__(self, entry: Entry) -> float | None:
        bits = bits_of_layers(entry.result)
        if not bits:
            return None
        key = repr([entry.config.get(section) for section in ("dataset", "model")])
        if key not in self._known:
            from qexp.experiment.stored_network import multiplications, stored_config

            self._known[key] = multiplications(stored_config(entry.path, f"qexp plot bits {printable(entry.key)}"))
        counts = self._known[key]
        return sum(count * _product(bits.get(name, (_FLOAT, _FLOAT))) for name, count in counts.items()) / 1e9


def _product(bits: tuple[int, int]) -> int:
    return bits[0] * bits[1]
