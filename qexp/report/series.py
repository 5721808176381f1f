"""The runs that a figure is of: selected as `qexp runs` does, and gathered into what differs in the seed alone."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from qexp.figures.courses import Measure, Series
from qexp.report.catalogue import Request
from qexp.runs.epoch_records import epoch_records
from qexp.runs.groups import without_copies
from qexp.runs.measured_bits import mean_of
from qexp.runs.query import Entry, find, select
from qexp.runs.run_names import known_options, short_names
from qexp.runs.run_values import ListedRun, listed_runs
from qexp.runs.variation import Options
from qexp.utils.errors import UsageError
from qexp.utils.text import few, plural, printable

MOST_LETTERS = 56  # of a label
BITS = ("weight_bits", "activation_bits", "layer_bits", "quantizer.default_bits")  # options


@dataclass(frozen=True)
class RunSeries:
    """Runs that differ in the seed alone.

    Attributes:
        label: what they are called beside the others of a figure; no two have the same.
        runs: at least one.
    """

    label: str
    runs: tuple[ListedRun, ...]

    @property
    def is_float(self) -> bool:
        """Whether nothing in them is quantized."""
        return self.runs[0].entry.method.startswith("fp-")


def selected_runs(request: Request) -> list[Entry]:
    """Return the runs that a request names, at least one, each once; raise UsageError."""
    found, every = select(request.root, request.words)
    if not every:
        raise UsageError(f"no runs in {request.root}; --runs-dir names another store")
    if not found:
        raise UsageError(f"no run in {request.root} fits all of {few(map(printable, request.words))}")
    return without_copies(found)


def selected_run(request: Request) -> Entry:
    """Return the one run that a request names: its directory, the beginning of its hash, or filters that it alone fits.

    Raises:
        UsageError: no run, or several.
    """
    if len(request.words) == 1 and "=" not in request.words[0]:
        return find(request.root, request.words[0])
    if not request.words:
        raise UsageError("which run? name its directory, or the beginning of its hash (qexp runs lists them)")
    found = selected_runs(request)
    if len(found) > 1:
        raise UsageError(f"one run is drawn, and these are {len(found):,}: {few([entry.key for entry in found])}")
    return found[0]


def series_of(entries: Sequence[Entry]) -> list[RunSeries]:
    """Return runs gathered into series that differ in the seed alone, in the order of the store.

    Two runs of one seed that would be in one series differ in something that no option tells; each is a series then.

    Args:
        entries: of the store.
    """
    together = _gathered(listed_runs(entries), lambda options: frozenset(_but(options, ("seed",))))
    groups = [own for one in together for own in _with_own_seeds(one)]
    names = _names(groups, [_label(own) for own in groups])
    return _named([f"{name}{seeds}" for name, seeds in zip(names, _seeds_told(groups), strict=True)], groups)


def series_over_bits(entries: Sequence[Entry]) -> list[RunSeries]:
    """Return runs gathered into series that differ in bits and seed alone, called by their method: `daq`, `daq A32`.

    Where weights and inputs have the same bits, that goes without saying; each other width of inputs is a series.

    Args:
        entries: of the store.
    """

    def kept(options: Options) -> Hashable:
        return frozenset(_but(options, ("seed", *BITS))), _inputs(options)

    groups = _gathered(listed_runs(entries), kept)
    labels = [f"{_method(own[0].entry)}{_inputs(_options(own[0]))}" for own in groups]
    return _named(_names(groups, labels), groups)


def groups_of(series: RunSeries) -> list[list[ListedRun]]:
    """Return the runs of a series over bits in groups that differ in the seed alone."""
    return _gathered(series.runs, lambda options: frozenset(_but(options, ("seed",))))


def _but(options: Options, names: Collection[str]) -> Iterator[tuple[str, Hashable]]:
    return (item for item in options.items() if item[0] not in names)


def _options(run: ListedRun) -> Options:
    return known_options(run.entry, run.options)


def _inputs(options: Options) -> str:
    """Return ` A32` where inputs have other bits than weights."""
    weight, inputs = (options.get(name) for name in ("weight_bits", "activation_bits"))
    return "" if inputs in (weight, None) else f" A{inputs}"


def _method(entry: Entry) -> str:
    return entry.method.rpartition("-")[0] or entry.method


def _gathered(runs: Sequence[ListedRun], key: Callable[[Options], Hashable]) -> list[list[ListedRun]]:
    members: dict[Hashable, list[ListedRun]] = {}
    for run in runs:
        members.setdefault(key(_options(run)), []).append(run)
    return list(members.values())


def _label(runs: Sequence[ListedRun]) -> str:
    """Return `daq W2A2`, with the mean of the bits where layers learn theirs."""
    bits = mean_of([run.entry.bits for run in runs if run.entry.bits])
    return bits.named(_method(runs[0].entry)) if bits else runs[0].entry.label


def _names(groups: Sequence[Sequence[ListedRun]], labels: Sequence[str]) -> list[str]:
    """Return labels with what else varies among the first run of each group; the seed is told elsewhere."""
    firsts = [_options(own[0]) for own in groups]
    found = zip(short_names(firsts, labels), firsts, strict=True)
    return [name.removesuffix(f" seed {options['seed']}") for name, options in found]


def _named(names: Sequence[str], groups: Sequence[Sequence[ListedRun]]) -> list[RunSeries]:
    return [RunSeries(label, tuple(own)) for label, own in zip(_unlike(names, groups), groups, strict=True)]


def _with_own_seeds(runs: list[ListedRun]) -> list[list[ListedRun]]:
    seeds = {run.entry.seed for run in runs}
    return [runs] if len(seeds) == len(runs) else [[run] for run in runs]


def _seeds_told(groups: Sequence[Sequence[ListedRun]]) -> list[str]:
    """Return what of its seeds is told of each series: nothing where all have the same."""
    seeds = [tuple(run.entry.seed for run in own) for own in groups]
    if len(set(seeds)) == 1:
        return [""] * len(groups)
    return [f", seed {own[0]}" if len(own) == 1 else f", {len(own)} seeds" for own in seeds]


def _unlike(labels: Sequence[str], groups: Sequence[Sequence[ListedRun]]) -> list[str]:
    """Return labels that are short, can be drawn, and differ: with a hash, at last a number, where they would not."""
    found = [_short(printable(label)) for label in labels]
    for mark in (lambda at: _short(printable(groups[at][0].entry.key), 16), lambda at: f"({at + 1})"):
        counts = Counter(found)
        found = [f"{label} {mark(at)}" if counts[label] > 1 else label for at, label in enumerate(found)]
    return found


def _short(text: str, most: int = MOST_LETTERS) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most - 10]}... {sha256(text.encode()).hexdigest()[:6]}"


# What is said of runs


def subject_of(entries: Sequence[Entry]) -> str:
    """Return what runs have in common, for a title: `resnet18 x0.25 on digits`; empty where nothing is."""
    models, data = ({printable(text(entry)) for entry in entries} for text in (_model, lambda entry: entry.dataset))
    parts = [next(iter(models)) if len(models) == 1 else plural(len(models), "network")]
    parts.append(f"on {next(iter(data))}" if len(data) == 1 else f"on {plural(len(data), 'data set')}")
    return _short(" ".join(parts))


def _model(entry: Entry) -> str:
    return entry.model_label


def name_of(entry: Entry) -> str:
    """Return what a run is, for a title: `daq W2A2, resnet18 x0.25 on digits, seed 0, ihlhmgdn`."""
    head = _short(printable(f"{entry.label}, {entry.model_label} on {entry.dataset}"))
    return f"{head}, {_short(printable(f'seed {entry.seed}, {entry.key}'), 32)}"


def commits_note(entries: Sequence[Entry]) -> list[str]:
    """Return the line that says with which commits of qexp runs were trained; no line where that is not known."""
    found = dict.fromkeys(commit for entry in entries if (commit := _commit(entry)))
    return [f"Trained with commit{'s' * (len(found) > 1)} {few(found, 3)} of qexp."] if found else []


def _commit(entry: Entry) -> str | None:
    git = entry.environment.get("git")
    commit = git.get("commit") if isinstance(git, dict) else None
    return printable(commit[:9]) if isinstance(commit, str) and commit else None


# Their courses


@dataclass(frozen=True)
class Courses:
    """The trainings of some runs, and what is to be said of them.

    Attributes:
        title: what they have in common.
        series: with their records.
        caption: what was left out, with which commits they were trained.
    """

    title: str
    series: list[Series]
    caption: list[str]


def courses_of(request: Request, measured: Measure, what: str, *, with_float: bool = True) -> Courses:
    """Return the courses of the runs that a request names.

    Args:
        request: names the runs.
        measured: what is drawn of each epoch; a run that nowhere has it is left out.
        what: the same in words, for a message.
        with_float: whether float runs have it.

    Raises:
        UsageError: no run has it.
    """
    selected = selected_runs(request)
    entries = [entry for entry in selected if with_float or not entry.method.startswith("fp-")]
    records = {entry.path: epoch_records(entry.path) for entry in entries}
    having = [entry for entry in entries if any(measured(one) is not None for one in records[entry.path].values())]
    if not having:
        which = f"run {printable(selected[0].key)}" if len(selected) == 1 else f"these {len(selected):,} runs"
        why = "" if entries else ", float as they are" if len(selected) > 1 else ", which is float"
        raise UsageError(f"no {what} are recorded of {which}{why}")
    series = [Series(own.label, [records[run.entry.path] for run in own.runs]) for own in series_of(having)]
    missing = len(selected) - len(having)
    left_out = [f"Left out, without {what}: {plural(missing, 'run')}."] if missing else []
    alone = f"{series[0].label}, " if len(series) == 1 else ""  # there is no legend then
    return Courses(f"{alone}{subject_of(having)}", series, [*left_out, *commits_note(having)])
