"""The page of a run, and of any selection of runs, such as a sweep."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qexp.report.page_charts import figures_of
from qexp.report.page_content import Content, Facts, Folded, PageSection, Part
from qexp.report.page_layers import layer_sections
from qexp.report.page_rows import environment_part, means_table, runs_table, told_options
from qexp.report.page_warnings import warned
from qexp.report.page_words import repeating
from qexp.runs.description import described
from qexp.runs.groups import Group
from qexp.runs.query import Entry, number
from qexp.runs.run_values import ListedRun, as_text, listed_runs, what_varies
from qexp.runs.variation import is_told
from qexp.utils.files import read_regular
from qexp.utils.text import few, percent, plural

MOST_TEXT = 2**16  # bytes of a configuration or a traceback on the page
_NOT_SHOWN = ("machine",)  # rows of a description: a page is handed on
_OF_MACHINES = ("runs_dir", "data_dir")
# Options that are told of a selection even where they are usual.
_TOLD: tuple[str, ...] = (
    *("dataset", "model", "model.width", "quantizer", "weight_bits", "activation_bits", "protocol"),
    *("init", "keep_float", "recipe.epochs", "recipe.batch_size", "recipe.optimizer.weight.lr"),
)


@dataclass(frozen=True)
class Origin:
    """Where a page's runs lie and how the page was asked for.

    Attributes:
        root: the run store.
        made: what the foot of the page says: the command that makes it, version, commit, time.
        config_dir: the user's own folder of options, None for none.
    """

    root: Path
    made: Sequence[tuple[str, str]]
    config_dir: str | None = None

    def clean(self, text: str) -> str:
        """Return a text without the places of this machine: paths in the store begin there, others at home."""
        for place, short in _places(self.root):
            text = text.replace(f"{place}/", f"{short}/" if short else "").replace(place, short or "the store")
        return text

    @property
    def source(self) -> list[tuple[str, str]]:
        """The same without the places of this machine."""
        return [(name, self.clean(value)) for name, value in self.made]


def _places(root: Path) -> list[tuple[str, str]]:
    """Return (folder, what stands for it) for the store, the working directory and the home, the longest first."""
    found = {str(root.absolute()): ""}
    for find, short in ((root.resolve, ""), (Path.cwd, "."), (Path.home, "~")):
        with suppress(OSError, RuntimeError):  # there may be none
            found.setdefault(str(find()), short)
    return sorted(((place, short) for place, short in found.items() if len(place) > 1), key=lambda one: -len(one[0]))


def page_of_runs(entries: Sequence[Entry], origin: Origin) -> Content:
    """Return the page of some runs; of one there is more to tell.

    Args:
        entries: at least one.
        origin: of the page.
    """
    runs = listed_runs(entries)
    return _page_of_one(runs[0], origin) if len(runs) == 1 else _page_of_many(runs, origin)


# Many


def _page_of_many(runs: Sequence[ListedRun], origin: Origin) -> Content:
    table, groups = means_table(runs)
    result: list[Part] = [table] if groups else []
    figures = figures_of(runs, groups)
    sections = [
        *([PageSection("Results", result)] if result else []),
        *([PageSection("Figures", figures)] if figures else []),
        PageSection("What was run", [*in_common(runs), repeating(runs, origin.root, origin.config_dir)]),
        PageSection("Runs", [runs_table(runs)]),
        *layer_sections(runs),
        PageSection("Environment", [environment_part(runs)]),
    ]
    title, numbers = _title(runs), _numbers_of_many(runs, groups)
    return Content(title, _subtitle(runs), numbers, warned(runs, origin.clean), sections, origin.source)


def _numbers_of_many(runs: Sequence[ListedRun], groups: Sequence[Group]) -> list[tuple[str, str]]:
    states = [run.state for run in runs]
    found = [("runs", f"{len(runs)}"), *((state, str(states.count(state))) for state in dict.fromkeys(states))]
    quantized = [group for group in groups if group.runs[0].entry.result.get("quantizer") != "fp"]
    if quantized:
        best = max(quantized, key=lambda group: group.mean)
        found.append(("best mean", f"{percent(best.mean)}, {best.runs[0].entry.label}"))
    floats = [top1 for run in runs if (top1 := number(run.entry.result, "float_top1")) is not None]
    if floats:
        low, high = (f"{one:.2f}" for one in (min(floats), max(floats)))
        found.append(("float net", f"{low} %" if low == high else f"{low} to {high} %"))
    return found


def _title(runs: Sequence[ListedRun]) -> str:
    methods = dict.fromkeys(run.entry.method.rpartition("-")[0] for run in runs)
    data = dict.fromkeys(run.entry.dataset for run in runs)
    return f"{few(methods, 5)} on {few(data, 3)}: {plural(len(runs), 'run')}"


def _subtitle(runs: Sequence[ListedRun]) -> str:
    models = dict.fromkeys(run.entry.model_label for run in runs)
    protocols = dict.fromkeys(str(run.options.get("protocol", "?")) for run in runs)
    seeds = dict.fromkeys(run.entry.seed for run in runs)
    return f"{few(models, 4)}, protocol {few(protocols)}, {'seed' if len(seeds) == 1 else 'seeds'} {few(seeds, 8)}"


def in_common(runs: Sequence[ListedRun]) -> list[Part]:
    """Return the options that vary among runs with all their values, and those that all have."""
    found = what_varies(runs)
    names = [*found.names, *told_options(found)]
    varied = [(name, few(dict.fromkeys(as_text(run.value(name)) for run in runs), 12)) for name in names]
    first = runs[0].options
    same = {key: value for key, value in first.items() if all(run.options.get(key) == value for run in runs)}
    told = [key for key in _TOLD if key in same]
    told += [key for key in same if key not in told and all(is_told(run.options, key) for run in runs)]
    parts: list[Part] = [Facts(varied, "Options that vary")] if varied else []
    if told:
        parts.append(Facts([(key, as_text(same[key])) for key in told], "Options in common"))
    rest = "\n".join(f"{key}={as_text(value)}" for key, value in same.items())
    return [*parts, Folded(f"all {plural(len(same), 'option')} in common", rest)] if rest else parts


# One


def _page_of_one(run: ListedRun, origin: Origin) -> Content:
    entry, told = run.entry, described(run.entry)
    rows = [("run", entry.name), ("state", entry.state), *_messages(run, origin)]
    rows = [*rows, *((name, origin.clean(value)) for name, value in told.result if name != "WARNING")]
    training = [(name, origin.clean(value)) for name, value in told.training]
    figures = figures_of([run], [])
    sections = [
        PageSection("Result", [Facts(rows)]),
        *([PageSection("Figures", figures)] if figures else []),
        PageSection(
            "What was run", [Facts(training), repeating([run], origin.root, origin.config_dir), *_folded(entry, origin)]
        ),
        *layer_sections([run]),
        PageSection("Environment", [environment_part([run])]),
    ]
    title = f"{entry.label}, {entry.model_label} on {entry.dataset}, seed {entry.seed}"
    subtitle = f"run {entry.key}, {entry.state}" + (f", {entry.status['time']}" if entry.status.get("time") else "")
    return Content(title, subtitle, _key_numbers(entry), warned([run], origin.clean), sections, origin.source)


def _messages(run: ListedRun, origin: Origin) -> list[tuple[str, str]]:
    message = str(run.entry.status.get("message") or "")
    return [("message", origin.clean(message))] if message else []


def _key_numbers(entry: Entry) -> list[tuple[str, str]]:
    result, is_float = entry.result, entry.result.get("quantizer") == "fp"
    found = [("top-1, hard", percent(number(result, "top1_hard")))] if "top1_hard" in result else []
    if not is_float and "float_top1" in result:
        found.append(("float net", percent(number(result, "float_top1"))))
        if (points := number(result, "difference")) is not None:
            found.append(("to float", f"{percent(points, signed=True)} points"))
        if (gap := number(result, "quantizer_gap")) is not None:
            found.append(("soft − hard", f"{percent(gap, signed=True)} points"))
    if (kilobytes := number(result, "weight_kilobytes")) is not None:
        whole = number(result, "float_weight_kilobytes")
        smaller = f", {whole / kilobytes:.1f}x smaller" if whole and kilobytes and whole > kilobytes else ""
        found.append(("weights", f"{kilobytes:,.1f} kB{smaller}"))
    return found or [("state", entry.state)]


def _folded(entry: Entry, origin: Origin) -> list[Part]:
    parts: list[Part] = []
    for title, name in (("the whole configuration", "config.yaml"), ("the traceback", "error.txt")):
        try:
            text = read_regular(entry.path / name, MOST_TEXT).decode(errors="replace")
        except OSError:
            continue
        lines = [line for line in text.split("\n") if not line.startswith(tuple(f"{key}:" for key in _OF_MACHINES))]
        parts.append(Folded(f"{title} ({name})", origin.clean("\n".join(lines)).strip("\n")))
    return parts
