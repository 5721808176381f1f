"""What a run and a sweep say at their end."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from qexp.cli.jobs import JobRecord, where_to_look
from qexp.cli.listing import as_lines, listing
from qexp.cli.text import folded, named_rows
from qexp.config.trust import trust_words
from qexp.experiment.runner import FAILED, RunOutcome
from qexp.runs.course_rows import averaged_rows, epochs_of, held_out_rows
from qexp.runs.firmness_rows import firmness_rows
from qexp.runs.measured_bits import bits_of_layers, measured_bits
from qexp.runs.query import Entry
from qexp.runs.run_values import ListedRun
from qexp.runs.stored_trees import StoredTrees
from qexp.runs.variation import OptionReader
from qexp.utils.errors import Diverged, QexpError
from qexp.utils.printing import mention
from qexp.utils.text import few, method_label, model_label, percent, plural, unconverged_warning


def say_how_it_ended(outcome: RunOutcome, console: Console) -> None:
    """Say in one line how a job of a sweep ended."""
    if outcome.state in FAILED:
        print(
            f"qexp train: {outcome.state}: {outcome.message}  ({where_to_look(outcome)})", file=sys.stderr, flush=True
        )
    else:
        said = f"top-1 {percent(outcome.summary['top1_hard'])}" if outcome.summary else outcome.message
        mention(console, f"{outcome.state}: {said}  {outcome.path}")


def report_run(record: JobRecord) -> int:
    """Print the closing report of a single run and return the exit code."""
    outcome = record.outcome
    if outcome.state == "skipped":
        print(folded(f"already done, nothing to train (overwrite=true repeats it): {outcome.path}", 2))
    if outcome.state == "locked":
        print(f"skipped: {outcome.message}")
    if outcome.summary:
        print(run_report(outcome))
    if outcome.state not in FAILED:
        return 0
    file = where_to_look(outcome)
    details = f"  (see {file})" if file.endswith("error.txt") else ""
    print(f"qexp train: error: {outcome.message}{details}", file=sys.stderr)
    return record.code or (Diverged.exit_code if outcome.state == "diverged" else QexpError.exit_code)


def report_sweep(records: Sequence[JobRecord], jobs: int, words: Sequence[str], overrides: Sequence[str]) -> int:
    """Print the closing report of a sweep and return the exit code.

    Args:
        records: of the jobs that ended.
        jobs: how many there were to be.
        words: of the command, flags included.
        overrides: those of the words that are no flags.
    """
    outcomes = [record.outcome for record in records]
    if outcomes:
        print(f"\n{sweep_table(outcomes)}")
    print(summary_line(records, jobs))
    failed = [record for record in records if record.outcome.state in FAILED]
    if not failed:
        return 3 if len(records) < jobs else 0
    for record in failed:
        print(f"  {record.outcome.state}: {' '.join(record.overrides)}  ({where_to_look(record.outcome)})")
    flags = without(words, [*overrides, *(word for word in words if word in ("-m", "--multirun"))])
    again = ["qexp", "train", *retry_words(words, flags, records), *trust_words()]
    print(f"again, without those that are done: {shlex.join(again)}")
    return 3


def summary_line(records: Sequence[JobRecord], jobs: int | None) -> str:
    """Return `12 jobs: 7 done, 3 skipped, 1 failed, 1 not run`; `jobs` is how many there were to be, where known."""
    states = [record.outcome.state for record in records]
    missing = 0 if jobs is None else max(jobs - len(records), 0)
    counts = {state: states.count(state) for state in dict.fromkeys(states)} | ({"not run": missing} if missing else {})
    listed = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{plural(len(records) + missing, 'job')}: {listed}"


def retry_words(words: Sequence[str], flags: Sequence[str], records: Sequence[JobRecord]) -> list[str]:
    """Return the words of `qexp train` that run those jobs again that failed: alone, or the whole sweep.

    Args:
        words: of the command, flags included.
        flags: of the command, but for -m.
        records: of its jobs.
    """
    failed = [record for record in records if record.outcome.state in FAILED]
    return [*flags, *failed[0].overrides] if len(failed) == 1 else list(words)


def without(words: Sequence[str], removed: Sequence[str]) -> list[str]:
    """Return words without some of them, each taken out once."""
    rest = list(words)
    for word in removed:
        rest.remove(word)
    return rest


def run_report(outcome: RunOutcome) -> str:
    """Return the closing report of one run."""
    summary = outcome.summary or {}
    rows = [*averaged_rows(summary.get("ema")), *_accuracy_rows(summary)]
    rows += held_out_rows(summary)
    if found := measured_bits(summary):
        rows.append(("bits", found.line))
    kilobytes, full = summary["weight_kilobytes"], summary["float_weight_kilobytes"]
    size = f"{kilobytes:,.1f} kB" if kilobytes == full else f"{kilobytes:,.1f} kB, float {full:,.1f} kB"
    rows.append(("weights", size + (f" ({full / kilobytes:.1f}x smaller)" if kilobytes < full else "")))
    rows.append(("time", f"{summary['time_seconds']:.1f} s  ({summary['time_images_per_second']:,.0f} images/s)"))
    rows.append(("run", outcome.path))
    if summary["unsettled"]:
        rows.append(("WARNING", unconverged_warning(summary["unsettled"])))
    protocol = "" if summary["protocol"] == "paper" else f", protocol {summary['protocol']}"
    head = f"{_label(summary)}  {_model(summary)} on {summary['dataset']}  seed {summary['seed']}"
    return named_rows(f"{head}  {_epochs(summary)}{protocol}", rows)


def _epochs(summary: dict[str, Any]) -> str:
    return f"{epochs_of(summary)} epoch{'' if summary['epochs'] == 1 else 's'}"


def _label(summary: dict[str, Any]) -> str:
    if found := measured_bits(summary):
        return found.named(summary["quantizer"])
    bits = summary["weight_bits"], summary["activation_bits"]
    # Of a run from before there were means, some quantized layers may have other bits than most.
    pairs = bits_of_layers(summary).values()
    is_mixed = any(one not in (usual, 32) for pair in pairs for one, usual in zip(pair, bits, strict=True))
    return method_label(summary["quantizer"], *bits, is_mixed)


def _model(summary: dict[str, Any]) -> str:
    return model_label(summary["model"], summary.get("width"))


def _accuracy_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    before = ", before batch norm was estimated again" if summary.get("before_norm") else ""
    chosen = ", by held-out accuracy" if summary.get("held_out") else ""
    best = f"best {percent(summary['best_top1_hard'])} in epoch {summary['best_epoch']}{chosen}{before}"
    hard = percent(summary["top1_hard"])
    if summary["quantizer"] == "fp":
        return [("float top-1", f"{hard}  last epoch, {summary['test_images']:,} test images; {best}")]
    missing = "not run; qexp train quantizer=fp with the same options trains it"
    baseline = missing if summary["float_top1"] is None else percent(summary["float_top1"]) + _origin(summary)
    rows = [
        ("float top-1", baseline),
        ("quantized top-1", f"{hard}  hard, last epoch, {summary['test_images']:,} test images; {best}"),
    ]
    if summary["difference"] is not None:
        rows.append(("difference", f"{percent(summary['difference'], signed=True)} points{_head_start(summary)}"))
    soft = percent(summary["top1_soft"])
    rows.append(("quantizer gap", f"{percent(summary['quantizer_gap'], signed=True)} points  (soft {soft} - hard)"))
    return [*rows, *firmness_rows(summary.get("firmness"))]


def _head_start(summary: dict[str, Any]) -> str:
    """Return how much longer a network was trained than the float net that it is held against, which it began as.

    Not of a start by RUN or FILE, which may itself have been trained for a while since it was that float net.
    """
    if summary["init"] not in ("fp", "torchvision"):
        return ""
    again = ", whose batch norm was not estimated again" if summary.get("before_norm") else ""
    return f"  (after {_epochs(summary)} more than the float net{again})"


def _origin(summary: dict[str, Any]) -> str:
    """Return where the float net comes from, and in what it was trained otherwise."""
    net = summary.get("float_net") or {}
    changes = f", trained with {few(net['changes'])}" if net.get("changes") else ""
    return f"  {net['source']}{changes}" if net.get("source") else ""


def sweep_table(outcomes: Sequence[RunOutcome]) -> str:
    """Return the table that closes a sweep: what varies in it, the results, and how each job ended."""
    reader, trees = OptionReader(), StoredTrees()
    found = [ListedRun(Entry(Path(one.path), trees), reader, one.state) for one in outcomes]
    return as_lines(listing(found, states=True), plural(len(outcomes), "run"))
