"""How firm an accuracy is, in words: the same for an evaluation, at the end of a run and on its page."""

from collections.abc import Mapping
from typing import Any

from qexp.runs.query import number
from qexp.utils.text import percent, plural

Near = tuple[float, float]  # weights within 1e-6 and 1e-5 of a threshold


def firmness_rows(found: Any, *, of_layers: bool = False) -> list[tuple[str, str]]:
    """Return what a summary or an evaluation tells under `firmness`; nothing where it tells nothing that can be read.

    Args:
        found: as it was measured, or as it stands in a file.
        of_layers: with the counts of all weights, and of the layer that has the most near a threshold.
    """
    if not isinstance(found, Mapping) or (near := _near(found)) is None:
        return []
    rows = [("firmness", _firmness(found, near))]
    if again := _outcome(found.get("reestimated")):
        shown, changed = again
        rows.append(("re-estimated", f"{shown}  (batch norm estimated again for each draw; {changed})"))
    if of_layers:
        rows.append(("near thresholds", _counts(found, near)))
    return rows


def _near(tree: Mapping[str, Any]) -> Near | None:
    first, second = (number(tree, key) for key in ("within_1e-6", "within_1e-5"))
    return None if first is None or second is None else (first, second)


def _firmness(found: Mapping[str, Any], near: Near) -> str:
    outcome, draws = _outcome(found.get("drawn")), number(found, "draws")
    if outcome is None or draws is None:
        return f"no weight within 1e-6 of a threshold, {near[1]:,.0f} within 1e-5; no draws made, spread 0"
    shown, changed = outcome
    weights = plural(round(near[0]), "weight")
    return f"{shown}  ({weights} within 1e-6 of a threshold, {plural(round(draws), 'draw')}; {changed})"


def _outcome(tree: Any) -> tuple[str, str] | None:
    """Return the accuracies of some draws, and the share of predictions that change."""
    if not isinstance(tree, Mapping):
        return None
    smallest, largest, mean, changed = (number(tree, key) for key in ("smallest", "largest", "mean", "changed"))
    if smallest is None or largest is None or mean is None or changed is None:
        return None
    return f"{smallest:.2f} to {percent(largest)}, mean {percent(mean)}", f"{changed:.1f} % of predictions change"


def _counts(found: Mapping[str, Any], near: Near) -> str:
    shown = f"{near[0]:,.0f} within 1e-6, {near[1]:,.0f} within 1e-5"
    layers = found["layers"]
    most = max(layers, key=lambda name: (layers[name]["within_1e-6"], layers[name]["within_1e-5"]))
    worst = layers[most]
    told = f"{worst['within_1e-6']:,} and {worst['within_1e-5']:,} of {worst['weights']:,}"
    return f"{shown}, of {found['weights']:,} weights; most in {most}: {told}"
