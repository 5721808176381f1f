"""The tables of a report: means over seeds, every run, the machines."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from qexp.report.page_content import Cell, Facts, Lines, PageTable, Tone
from qexp.runs.course_rows import epochs_of
from qexp.runs.groups import Group, grouped, mixture_notes
from qexp.runs.query import Entry, number
from qexp.runs.run_values import ABSENT, ListedRun, as_texts, what_varies
from qexp.runs.variation import Variation
from qexp.utils.text import is_number, plural, time_span

_TONES: Mapping[str, Tone] = {"failed": "bad", "diverged": "bad", "damaged": "bad", "done": "soft"}
_CALLED = {"model.width": "width", "weight_bits": "bits", "activation_bits": "bits"}
HINTS = {
    "top-1": "hard evaluation after the last epoch, in percent of the test images",
    "mean": "of hard top-1 after the last epoch, in percent",
    "std": "sample standard deviation, over n - 1",
    "n": "finished runs; * when they differ in more than the seed",
    "range": "the smallest and the largest of the runs",
    "best": "top-1 of the best epoch, which test images chose unless some were held out: no result",
    "float": "top-1 of the float net",
    "to float": "points above the float net",
    "gap": "soft minus hard accuracy, in points",
    "kB": "of all weights at their bits, and their ranges",
}


def figure_cell(value: float | None, places: int = 2, *, signed: bool = False) -> Cell:
    """Return a number as a cell; a dash for none."""
    if value is None or not is_number(value):
        return Cell("–", tone="soft")
    rounded = round(value, places) + 0.0  # no negative zero
    return Cell(f"{rounded:{'+' * signed},.{places}f}", float(value))


def identifying(runs: Sequence[ListedRun]) -> list[str]:
    """Return the names by which the rows of means are called: the method and its bits, and what else varies."""
    found = what_varies(runs)
    named = [_CALLED.get(name, name) if name != "model.width" else name for name in found.names if name != "seed"]
    first = [name for name in named if name not in ("quantizer", "bits")]
    options = told_options(found)
    return list(dict.fromkeys([*first, "quantizer", "bits", *options]))


def told_options(found: Variation) -> list[str]:
    """Return the options that vary, without the fingerprint of data that have another name as well."""
    return [name for name in found.options if name != "dataset.digest" or "dataset" not in found.names]


def means_table(runs: Sequence[ListedRun]) -> tuple[PageTable, list[Group]]:
    """Return the means over seeds, one row for all runs that are called alike, and the groups behind the rows."""
    names = identifying(runs)
    groups, notes = grouped(runs, names)
    headers = [
        *(_CALLED.get(name, name) for name in names),
        "mean",
        "std",
        "n",
        "range",
        "float",
        "to float",
        "gap",
        "kB",
    ]
    rows = []
    for group in groups:
        own = [run.entry.result for run in group.runs]
        spread = f"{min(group.top1):.2f} to {max(group.top1):.2f}" if len(group.top1) > 1 else "–"
        ours = [
            value if isinstance(value, int | float) and not isinstance(value, bool) else None for value in group.values
        ]
        rows.append(
            [
                *(Cell(text, value) for text, value in zip(group.cells, ours, strict=True)),
                figure_cell(group.mean),
                figure_cell(group.std),
                Cell(f"{len(group.top1)}{'*' * group.is_mixed}", len(group.top1)),
                Cell(spread, tone="soft"),
                figure_cell(_mean(own, "float_top1")),
                figure_cell(_difference(own), signed=True),
                figure_cell(_mean(own, "quantizer_gap"), signed=True),
                figure_cell(_mean(own, "weight_kilobytes"), 1),
            ]
        )
    if groups and all(len(group.top1) == 1 for group in groups):
        notes = [*notes, "one run a row: what another seed would give is not known"]
    said = [f"{note[0].upper()}{note[1:]}." for note in [*notes, *mixture_notes(groups, marked=True)] if groups]
    return PageTable("rows", headers, rows, HINTS, said), groups


def _sorted_by(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _mean(results: Sequence[Mapping[str, Any]], key: str) -> float | None:
    found = [value for one in results if (value := number(one, key)) is not None]
    return fmean(found) if found else None


def _difference(results: Sequence[Mapping[str, Any]]) -> float | None:
    return _mean([one for one in results if one.get("quantizer") != "fp"], "difference")


def runs_table(runs: Sequence[ListedRun]) -> PageTable:
    """Return every run with what identifies it, what was measured, and its state."""
    found = what_varies(runs)
    named = [name for name in found.names if name not in ("quantizer", "weight_bits", "activation_bits", "seed")]
    columns: list[tuple[str, list[Cell]]] = [("run", [Cell(run.entry.key) for run in runs])]
    columns += [(_CALLED.get(name, name), _values(runs, name)) for name in named]
    columns.append(("method", [Cell(run.entry.label + "*" * bool(run.entry.result.get("unsettled"))) for run in runs]))
    columns.append(("seed", _values(runs, "seed")))
    columns += [(name, _values(runs, name)) for name in told_options(found)]
    columns += [(name, [cell(run.entry) for run in runs]) for name, cell in _MEASURED.items()]
    columns.append(("state", [Cell(run.state, tone=_TONES.get(run.state, "")) for run in runs]))
    headers = [name for name, _ in columns]
    notes = ["* quantizers that did not converge."] if any(run.entry.result.get("unsettled") for run in runs) else []
    for key, others in found.along.items():
        notes.append(f"With {key} there differ {plural(len(others), 'option')} more: {', '.join(others)}.")
    return PageTable(
        "runs", headers, [list(row) for row in zip(*(cells for _, cells in columns), strict=True)], HINTS, notes
    )


def _values(runs: Sequence[ListedRun], name: str) -> list[Cell]:
    values = [run.value(name) for run in runs]
    is_numeric = all(is_number(value) or value is ABSENT or value is None for value in values)
    cells = zip(as_texts(values), values, strict=True)
    return [Cell(text, _sorted_by(value) if is_numeric else None) for text, value in cells]


def _measured(key: str, places: int = 2, *, signed: bool = False) -> Callable[[Entry], Cell]:
    return lambda entry: figure_cell(number(entry.result, key), places, signed=signed)


def _quantized(key: str) -> Callable[[Entry], Cell]:
    own = _measured(key, signed=True)
    return lambda entry: Cell("–", tone="soft") if entry.result.get("quantizer") == "fp" else own(entry)


def _epochs(entry: Entry) -> Cell:
    if "epochs" in entry.result:
        return Cell(epochs_of(entry.result, "/"), number(entry.result, "epochs"))
    return Cell(entry.progress or "–", number(entry.last_epoch, "epoch"), "soft")


def _time(entry: Entry) -> Cell:
    seconds = number(entry.result, "time_seconds")
    return Cell("–", tone="soft") if seconds is None else Cell(time_span(seconds), seconds)


_MEASURED: dict[str, Callable[[Entry], Cell]] = {
    "top-1": _measured("top1_hard"),
    "best": _measured("best_top1_hard"),
    "float": _measured("float_top1"),
    "to float": _quantized("difference"),
    "gap": _quantized("quantizer_gap"),
    "kB": _measured("weight_kilobytes", 1),
    "epochs": _epochs,
    "time": _time,
}


# Machines


def environment_part(runs: Sequence[ListedRun]) -> PageTable | Facts | Lines:
    """Return with what and on what runs were trained: facts where it is one for all, else a table."""
    counts: dict[tuple[tuple[str, str], ...], int] = {}
    for run in runs:
        place = tuple(_environment(run.entry).items())
        counts[place] = counts.get(place, 0) + 1
    known = [(dict(place), count) for place, count in counts.items() if place]
    if not known:
        return Lines(["No run recorded its environment."])
    if len(known) == 1:
        return Facts(list(known[0][0].items()))
    names = dict.fromkeys(name for place, _ in known for name in place)
    rows = [[Cell(str(count), count), *(Cell(place.get(name, "–")) for name in names)] for place, count in known]
    return PageTable("environments", ["runs", *names], rows)


def _environment(entry: Entry) -> dict[str, str]:
    """Return what env.json and summary.json say, without the name of the machine."""
    kept = entry.environment
    versions = tree_at(kept, "versions")
    found: dict[str, str] = {name: str(kept[name]) for name in ("qexp", "python") if name in kept}
    found |= {name: str(versions[name]) for name in ("torch", "torchvision", "numpy") if name in versions}
    if isinstance(git := kept.get("git"), Mapping):
        changes = git.get("changes")
        found["commit"] = f"{git.get('commit')}{f' and changes {changes}' if changes else ''}"
    device = [str(kept.get("device", "")), *(str(kept[key]) for key in ("device_name", "cpu") if kept.get(key))]
    found["device"] = ", ".join(one for one in device if one and one != "CPU")
    found |= {name: str(kept[name]) for name in ("cuda", "cudnn", "driver", "threads", "platform") if kept.get(name)}
    if variables := tree_at(kept, "variables"):
        found["variables"] = ", ".join(f"{name}={value}" for name, value in variables.items())
    if own := tree_at(kept, "own"):
        told = {str(name): tree_at(own, name) for name in own}
        found["own code"] = ", ".join(
            " ".join(filter(None, (name, str(state.get("version") or ""), f"code {state.get('digest', '?')}")))
            for name, state in told.items()
        )
    return found if kept else {}


def tree_at(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return what a tree has at a key, nothing where that is no tree."""
    found = tree.get(key)
    return found if isinstance(found, Mapping) else {}
