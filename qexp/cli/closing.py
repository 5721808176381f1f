"""What a run and a sweep say at their end."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from qexp.experiment.runner import Outcome


def percent(value: float | None, *, signed: bool = False) -> str:
    """Return a percentage or a difference with two digits, or that it was not run."""
    if value is None:
        return "not run"
    return f"{value:+.2f}" if signed else f"{value:.2f} %"


def label(summary: dict[str, Any]) -> str:
    """Return `daq W2A2`."""
    return f"{summary['quantizer']} W{summary['weight_bits']}A{summary['activation_bits']}"


def run_report(outcome: Outcome) -> str:
    """Return the closing report of one run."""
    summary = outcome.summary or {}
    rows = _accuracy_rows(summary)
    kilobytes, full = summary["weight_kilobytes"], summary["float_weight_kilobytes"]
    size = f"{kilobytes:,.1f} kB" if kilobytes == full else f"{kilobytes:,.1f} kB, float {full:,.1f} kB"
    rows.append(("weights", size + (f" ({full / kilobytes:.1f}x smaller)" if kilobytes < full else "")))
    rows.append(("time", f"{summary['time_seconds']:.1f} s  ({summary['time_images_per_second']:,.0f} images/s)"))
    rows.append(("run", outcome.path))
    head = f"{label(summary)}  {summary['model']} on {summary['dataset']}  seed {summary['seed']}"
    head += f"  {summary['epochs']} epochs" + (
        "" if summary["protocol"] == "paper" else f", protocol {summary['protocol']}"
    )
    lines = [head, *(f"  {name:<17}{value}" for name, value in rows)]
    if summary["unsettled"]:
        lines.append(f"  WARNING: {_unsettled(summary['unsettled'])}")
    return "\n".join(lines)


def _accuracy_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    best = f"best {percent(summary['best_top1_hard'])} in epoch {summary['best_epoch']}"
    hard = percent(summary["top1_hard"])
    if summary["quantizer"] == "fp":
        return [("float top-1", f"{hard}  last epoch, {summary['test_images']:,} test images; {best}")]
    missing = "not run; qexp train quantizer=fp with the same options trains it"
    baseline = missing if summary["float_top1"] is None else percent(summary["float_top1"])
    rows = [
        ("float top-1", baseline),
        ("quantized top-1", f"{hard}  hard, last epoch, {summary['test_images']:,} test images; {best}"),
    ]
    if summary["difference"] is not None:
        rows.append(("difference", f"{percent(summary['difference'], signed=True)} points"))
    soft = percent(summary["top1_soft"])
    return [*rows, ("quantizer gap", f"{percent(summary['quantizer_gap'], signed=True)} points  (soft {soft} - hard)")]


def _unsettled(names: Sequence[str]) -> str:
    return (
        f"attention of {len(names)} quantizers did not end at the lowest bit-width ({', '.join(names[:3])}"
        f"{', ...' if len(names) > 3 else ''}); the hard accuracy is of a network that training did not converge to"
    )


def sweep_table(outcomes: Sequence[Outcome]) -> Table:
    """Return the table that closes a sweep."""
    table = Table(
        box=box.SIMPLE_HEAD, title=f"{len(outcomes)} run{'' if len(outcomes) == 1 else 's'}", title_justify="left"
    )
    for name in ("dataset", "model", "quantizer", "seed"):
        table.add_column(name)
    for name in ("float", "top-1", "difference", "gap", "kB", "time"):
        table.add_column(name, justify="right")
    table.add_column("state")
    table.add_column("run", overflow="fold")
    for outcome in outcomes:
        table.add_row(*_sweep_row(outcome))
    return table


def _sweep_row(outcome: Outcome) -> list[str]:
    *_, dataset, model, method, run = outcome.path.split("/")
    summary = outcome.summary
    if summary is None:
        seed = run.partition("-")[0].lstrip("s")
        return [dataset, model, method, seed, *["-"] * 6, outcome.state, run.partition("-")[2]]
    return [
        dataset,
        model,
        label(summary) + ("*" if summary["unsettled"] else ""),
        str(summary["seed"]),
        percent(summary["float_top1"]),
        percent(summary["top1_hard"]),
        "-" if summary["difference"] is None else percent(summary["difference"], signed=True),
        percent(summary["quantizer_gap"], signed=True),
        f"{summary['weight_kilobytes']:,.1f}",
        f"{summary['time_seconds']:.0f} s",
        outcome.state,
        run.partition("-")[2],
    ]
