"""The layers of runs as tables: bits, size, how far quantized weights are from the float ones, why some are float."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qexp.report.page_content import Cell, PageSection, PageTable, Part
from qexp.report.page_rows import figure_cell, tree_at
from qexp.runs.epoch_records import layer_reports
from qexp.runs.measured_bits import bits_of_layers
from qexp.runs.query import Entry, number
from qexp.runs.run_values import ListedRun
from qexp.utils.errors import UsageError
from qexp.utils.text import few, plural

FLOAT = 32
MOST_TABLES = 6  # of layers on a page
MOST_ERRORS = 6  # runs in one of them
HINTS = {
    "kB": "of the weights alone, at their bits",
    "error": "root of sum (w - Q(w))^2 / sum w^2, hard, after the last epoch",
    "changed, %": "of weights whose level is another than after the epoch before",
    "turned back, %": "of weights whose level changed against their last change",
    "per step, %": "of weights whose level changed in a step, mean of the last 10 steps",
}
_REPORTED = {
    "error": ("error", 4),
    "changed, %": ("changed", 2),
    "turned back, %": ("turned_back", 2),
    "per step, %": ("changed_per_step", 2),
}


def layer_sections(runs: Sequence[ListedRun]) -> list[PageSection]:
    """Return the layers of finished runs: of those of a selection that have the same, once, and folded."""
    alike: dict[str, list[Entry]] = {}
    for entry in (run.entry for run in runs):
        if bits := bits_of_layers(entry.result):
            alike.setdefault(f"{entry.model_label} {entry.dataset} {sorted(bits.items())}", []).append(entry)
    counts = weight_counts(runs[0].entry) if len(runs) == 1 and alike else {}  # of many runs it would take long
    parts: list[Part] = []
    for entries in list(alike.values())[:MOST_TABLES]:
        table = layers_table(entries, counts)
        title = f"{plural(len(table.rows), 'layer')} of {entries[0].label}: {few([entry.key for entry in entries], 6)}"
        parts.append(table if len(runs) == 1 else replace(table, fold=title))
    return [PageSection("Layers", parts)] if parts else []


def weight_counts(entry: Entry) -> Mapping[str, int]:
    """Return layer -> how many weights it has, from the checkpoint of a run; nothing where that cannot be opened."""
    from qexp.experiment.stored_network import stored_network  # imports torch

    try:
        found = stored_network(entry.path, f"qexp report {entry.key}")
    except UsageError:
        return {}
    return {layer.name: layer.weights for layer in found.coverage.layers}


def layers_table(entries: Sequence[Entry], counts: Mapping[str, int]) -> PageTable:
    """Return the layers of runs whose layers have the same bits: of one what it measured, of several their errors.

    Args:
        entries: at least one; the first tells why layers are float.
        counts: layer -> weights, where that is known.
    """
    first, *others = entries
    bits = bits_of_layers(first.result)
    reasons = tree_at(tree_at(first.result, "layers"), "float")
    if others:
        columns = {f"error of {one.key}": (_last_report(one), "error", 4) for one in entries[:MOST_ERRORS]}
    else:
        columns = {header: (_last_report(first), *own) for header, own in _REPORTED.items()}
    shown = {
        header: (values, key, places)
        for header, (values, key, places) in columns.items()
        if any(number(values, f"{name}/weight/{key}") is not None for name in bits)
    }
    rows = []
    for name, pair in bits.items():
        count = counts.get(name)
        size = [] if count is None else [Cell(f"{count:,}", count), figure_cell(count * pair[0] / 8000, 1)]
        rows.append(
            [
                Cell(name or "(the model)"),
                *(Cell("float" if side == FLOAT else str(side), side) for side in pair),
                *(size or [figure_cell(None)] * 2 * bool(counts)),
                *(figure_cell(number(own, f"{name}/weight/{key}"), places) for own, key, places in shown.values()),
                Cell(str(reasons.get(name, "")), tone="soft"),
            ]
        )
    sizes = ["weights", "kB"] if counts else []
    headers = ["layer", "weight bits", "input bits", *sizes, *shown, "why float"]
    hints = HINTS | {header: HINTS["error"] for header in shown if header.startswith("error")}
    return PageTable("layers", headers, rows, hints)


def _last_report(entry: Entry) -> Mapping[str, Any]:
    reports = layer_reports(entry.path)
    return reports[max(reports)] if reports else {}
