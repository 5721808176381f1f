"""How a network came about, in words: an average of weights, images that were held out, an early end."""

from collections.abc import Mapping
from typing import Any

from qexp.utils.text import is_number, percent


def averaged_rows(ema: float | None) -> list[tuple[str, str]]:
    """Return a row that says that the network is the average of its weights, where `recipe.ema` asked for that."""
    return [("network", f"the moving average of the weights, recipe.ema={ema:g}")] if ema else []


def held_out_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what held-out images say of a run, and whether they ended it early; nothing where there were none."""
    kept = summary.get("held_out")
    values = (
        [kept.get(key) for key in ("images", "top1_hard", "best_top1_hard")] if isinstance(kept, Mapping) else [None]
    )
    if not all(map(is_number, values)):
        return []
    images, top1, best = values
    rows = [("held out", f"{percent(top1)}  last epoch, {images:,.0f} training images; best {percent(best)}")]
    if summary.get("stopped_early") is True:
        rows.append(("stopped early", f"after {epochs_of(summary)} epochs; schedules over all of them were cut short"))
    return rows


def epochs_of(summary: Mapping[str, Any], between: str = " of ") -> str:
    """Return `20`, or `12 of 20` for a run that was stopped early."""
    trained = [summary.get("epochs_trained")] if summary.get("stopped_early") is True else []
    return between.join(map(str, (*trained, summary["epochs"])))
