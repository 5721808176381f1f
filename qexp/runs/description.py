"""All that the directory of a run tells, in rows of a name and a value, for a terminal and for a report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qexp.runs.course_rows import averaged_rows, epochs_of, held_out_rows
from qexp.runs.firmness_rows import firmness_rows
from qexp.runs.query import Entry, number, trained_from
from qexp.runs.variation import OptionReader, brief, is_told
from qexp.utils.text import few, percent, unconverged_warning

Rows = list[tuple[str, str]]

_OF_LAYERS = ("quantizer.granularity", "keep_float", "layer_bits")
_PACKAGES = ("torch", "torchvision", "numpy")  # those that take part in the numbers


@dataclass(frozen=True)
class Description:
    """What is known of a run, in rows of a name and a value; nothing in them is escaped.

    Attributes:
        head: a line that says what it is.
        state: how it ended, and why.
        result: what was measured, or how far it came.
        training: how it was trained.
        origin: with what and on what.
    """

    head: str
    state: Rows
    result: Rows
    training: Rows
    origin: Rows


def described(entry: Entry) -> Description:
    """Return what is known of a run."""
    head = f"{entry.label}  {entry.model_label} on {entry.dataset}  seed {entry.seed}"
    return Description(head, _state(entry), _accuracies(entry), _training(entry), _origin(entry))


def _state(entry: Entry) -> Rows:
    status = entry.status
    who = [f"{name} {status[key]}" for name, key in (("pid", "pid"), ("on", "host")) if key in status]
    when = ", ".join(filter(None, (str(status.get("time", "")), " ".join(who))))
    rows = [("state", f"{entry.state}{f'  ({when})' if when else ''}")]
    if message := str(status.get("message") or ""):
        rows.append(("message", message))
    elif entry.state == "interrupted" and status.get("state") == "running":
        rows.append(("message", "its process has ended without a word"))
    if net := _unfinished_float_net(entry):
        rows.append(("not begun", f"its float net came first, and is not done: {net}"))
    if (entry.path / "error.txt").is_file():
        rows.append(("traceback", f"{entry.path}/error.txt"))
    return rows


def _unfinished_float_net(entry: Entry) -> Path | None:
    """Return the float net that an interrupted run of init=fp waited for, None where it had begun itself."""
    if entry.state != "interrupted" or entry.progress is not None or "last.pt" in entry.files:
        return None
    nets = map(Entry, entry.path.absolute().parent.parent.glob(f"fp-*/s{entry.seed}-*"))
    return next((net.path for net in nets if net.state != "done" and trained_from([net], [entry])), None)


def _accuracies(entry: Entry) -> Rows:
    summary = entry.result
    if not summary:
        return _so_far(entry)
    hard, soft, gap = (number(summary, key) for key in ("top1_hard", "top1_soft", "quantizer_gap"))
    images, difference = number(summary, "test_images"), number(summary, "difference")
    is_float = summary.get("quantizer") == "fp"
    rows: Rows = averaged_rows(number(summary, "ema"))
    if hard is not None:
        on = "" if images is None else f", {images:,.0f} test images"
        rows.append(("top-1", f"{percent(hard)}  {'' if is_float else 'hard, '}last epoch{on}"))
    rows += _before_norm(summary)
    rows += _best(summary)
    rows += held_out_rows(summary)
    if not is_float:
        rows += [] if soft is None else [("top-1 soft", percent(soft))]
        rows += [] if gap is None else [("quantizer gap", f"{percent(gap, signed=True)} points  (soft - hard)")]
        rows += firmness_rows(summary.get("firmness"))
        rows += [("float top-1", percent(number(summary, "float_top1")))] if "float_top1" in summary else []
        rows += [] if difference is None else [("difference", f"{percent(difference, signed=True)} points to float")]
    rows += [("bits", entry.bits.line)] if entry.bits else []
    rows += [("codes", str(summary["codes"]))] if summary.get("codes") else []
    if names := _list(summary, "unsettled"):
        rows.append(("WARNING", unconverged_warning(map(str, names))))
    return rows


def _before_norm(summary: Mapping[str, Any]) -> Rows:
    before = _group(summary, "before_norm")
    hard, soft = number(before, "top1_hard"), number(before, "top1_soft")
    also = "" if soft is None else f", soft {percent(soft)}"
    return [] if hard is None else [("before norm", f"{percent(hard)}{also}, before batch norm was estimated again")]


def _best(summary: Mapping[str, Any]) -> Rows:
    best, soft, epoch = (number(summary, key) for key in ("best_top1_hard", "best_top1_soft", "best_epoch"))
    if best is None:
        return []
    also = "" if soft is None else f", soft {percent(soft)}"
    by = "held-out" if summary.get("held_out") else "test"
    where = "" if epoch is None else f" in epoch {epoch:.0f}"
    before = ", before batch norm was estimated again" if summary.get("before_norm") else ""
    return [("best", f"{percent(best)}{also}{where}, chosen by {by} accuracy{before}")]


def _so_far(entry: Entry) -> Rows:
    """Say how far an unfinished run came; its accuracy is no result."""
    if entry.progress is None:
        return []
    top1 = number(_group(entry.last_epoch, "hard"), "top1")
    return [("epochs trained", entry.progress + ("" if top1 is None else f", then at {percent(top1)} hard"))]


def _training(entry: Entry) -> Rows:
    summary, config, recipe = entry.summary, entry.config, _group(entry.config, "recipe")
    weights = _group(summary, "pretrained")
    anew = [str(name) for name in _list(weights, "made_anew")]
    values = {
        "protocol": summary.get("protocol", config.get("protocol")),
        "epochs": epochs_of(summary) if "epochs" in summary else recipe.get("epochs"),
        "batch": recipe.get("batch_size"),
        "start": summary.get("init", config.get("init")),
        "weights": weights.get("weights") and str(weights["weights"]) + (f", {few(anew)} made anew" if anew else ""),
        "learning rate": _group(_group(recipe, "optimizer"), "weight").get("lr"),
        "precision": recipe.get("precision"),
        "deterministic": _shown(summary.get("deterministic", config.get("deterministic"))),
    }
    rows = [(name, str(value)) for name, value in values.items() if value is not None]
    rows += _options(config)
    if (run := entry.environment.get("layer_bits_of")) is not None:
        rows.append(("bits of", str(run)))
    seconds, speed = number(summary, "time_seconds"), number(summary, "time_images_per_second")
    if seconds is not None:
        rows.append(("time", f"{seconds:,.1f} s" + ("" if speed is None else f"  ({speed:,.0f} images/s)")))
    return rows + _resumed(entry)


def _options(config: Mapping[str, Any]) -> Rows:
    """Say which weights have which ranges and bits, and what is not as the files of its method, data and recipe say."""
    options = OptionReader().options(config)  # a float run has none of these
    rows = [(key.rpartition(".")[2], brief(options[key])) for key in _OF_LAYERS if options.get(key)]
    unusual = [f"{key}={brief(value)}" for key, value in options.items() if is_told(options, key)]
    return rows + ([("options", f"{' '.join(unusual)}  (all else as in the YAML files)")] if unusual else [])


def _resumed(entry: Entry) -> Rows:
    """Say from which steps the run went on, and when, where both are recorded."""
    steps = _list(entry.summary, "time_resumed_at_steps")
    sessions = [one for one in _list(entry.environment, "earlier") if isinstance(one, Mapping)]
    times = [str(one.get("time_started", "?")) for one in (*sessions, entry.environment)][1:]
    if steps and len(times) != len(steps):
        return [("resumed at step", ", ".join(map(str, steps)))]
    shown = [f"{step} ({time})" for step, time in zip(steps, times, strict=False)] or times
    return [("resumed at step" if steps else "resumed", ", ".join(shown))] if shown else []


def _origin(entry: Entry) -> Rows:
    """Say with what and on what it was trained."""
    known = entry.environment
    rows: Rows = []
    versions = _group(entry.summary, "versions") or _group(known, "versions")
    first = [f"{name} {known[name]}" for name in ("qexp", "python") if name in known and name not in versions]
    if listed := [*first, *(f"{name} {versions[name]}" for name in ("qexp", "python", *_PACKAGES) if name in versions)]:
        rows.append(("versions", ", ".join(listed)))
    if git := _group(entry.summary, "git") or _group(known, "git"):
        rows.append(("git", _git(git)))
    for name, state in _group(known, "own").items():
        told = [f"version {state['version']}"] if isinstance(state, Mapping) and state.get("version") else []
        digest = state.get("digest") if isinstance(state, Mapping) else None
        rows.append(("own code", ", ".join([str(name), *told, f"code {digest} (of their SHA-256)"])))
    device = entry.summary.get("device", known.get("device"))
    if device is not None:
        details = [known.get("device_name"), known.get("cpu")]
        details += [f"{name} {known[key]}" for name, key in (("CUDA", "cuda"), ("driver", "driver")) if known.get(key)]
        details += [f"threads {known['threads']}"] if "threads" in known else []
        rows.append(("device", ", ".join([str(device), *(str(one) for one in details if one and one != "CPU")])))
    machine = [str(known[key]) for key in ("hostname", "platform") if known.get(key)]
    return rows + ([("machine", ", ".join(machine))] if machine else [])


def _git(git: Mapping[str, Any]) -> str:
    if git.get("changes"):
        return f"{git.get('commit')} and uncommitted changes {git['changes']} (of their SHA-256)"
    if not git.get("dirty"):
        return str(git.get("commit"))
    known = "outside of qexp and conf" if "changes" in git else "that are not identified"
    return f"{git.get('commit')} and uncommitted changes {known}"


def _group(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = tree.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(tree: Mapping[str, Any], key: str) -> list[Any]:
    value = tree.get(key)
    return value if isinstance(value, list) else []


def _shown(value: Any) -> Any:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
