"""`qexp eval`: evaluate a run's checkpoint again, or a file that a paper's authors published."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from qexp import runs
from qexp.cli.closing import label, percent
from qexp.cli.parser import Parser
from qexp.config.compose import COMPOSITION_ERRORS, compose_job, composing, explain, group_problem, parse_overrides
from qexp.config.config import RUNTIME, Config, load_yaml, parse_config, with_younger_options
from qexp.config.schema import UNFIT, Invalid, Problem, one_line, suggest
from qexp.utils.errors import UsageError

if TYPE_CHECKING:  # torch takes seconds to import, and mistakes shall not wait for it
    from qexp.experiment.train import Session

CHECKPOINTS = ("last", "best")
LONGEST_WORD = 4096  # of a path on Linux
FORMATS = ("daq",)  # each has its conf/eval_NAME.yaml
CHANGEABLE = ("dataset", "device", "threads", "workers", "data_dir", "recipe.eval_batch_size")
CHANGEABLE_OF_A_RUN = (*CHANGEABLE, "runs_dir")
CHANGEABLE_OF_A_FILE = (*CHANGEABLE, "bits", "weight_bits", "activation_bits")
USAGE = """\
qexp eval RUN [key=value ...] [--json]
       qexp eval checkpoint=FILE format=daq [key=value ...] [--json]"""
EXAMPLES = """\
a run: its last (or best) checkpoint on its test images, soft and hard
  qexp eval ihlhmgdn
  qexp eval RUN checkpoint=best device=cpu dataset.test_size=1000

a file in the layout of other people's code; format=daq: the ResNet-20 that the DAQ authors published, on CIFAR-10 with
their normalisation. The file tells what is quantized, but not to how many bits: 1 unless you say otherwise
  qexp eval checkpoint=FILE format=daq
  qexp eval checkpoint=FILE format=daq bits=2 data_dir=DIR

keys for both: dataset=NAME, dataset.*, device, threads, data_dir, recipe.eval_batch_size
"""


@dataclass(frozen=True)
class Request:
    """What the words of a command ask for."""

    run: str | None
    checkpoint: str | None
    format: str | None
    overrides: tuple[str, ...]


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Evaluate and print; return the exit code."""
    description = "Evaluate a run again, or a network that a paper's authors published."
    parser = Parser("qexp eval", description, usage=USAGE, epilog=EXAMPLES)
    parser.add_argument("words", nargs="*", metavar="RUN", help="a run directory, or the beginning of a run's hash")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse(words)
    request = understand(arguments.words)
    try:
        result, text = evaluate_run(request) if request.run is not None else evaluate_file(request)
    except Invalid as error:
        raise UsageError("; ".join(map(str, error.problems))) from error
    print(json.dumps(result, indent=2) if arguments.json else text)
    return 0


def understand(words: Sequence[str]) -> Request:
    """Return what is asked for.

    Raises:
        UsageError: neither a run nor a file with its format, or both.
    """
    for word in words:
        if len(word) > LONGEST_WORD or UNFIT.search(word):
            raise UsageError(f"{one_line(word)}: is too long, or holds control characters such as a line break")
    has_run = bool(words) and ("=" not in words[0] or _holds_run(words[0]))
    named: dict[str, str] = {}
    overrides = []
    for word in words[has_run:]:
        key, _, value = word.partition("=")
        if key in ("checkpoint", "format"):
            named[key] = value  # as it stands: a path may hold what Hydra's grammar takes for something else
        else:
            overrides.append(word)
    request = Request(words[0] if has_run else None, named.get("checkpoint"), named.get("format"), tuple(overrides))
    if problem := _contradiction(request):
        raise UsageError(problem)
    return request


def _holds_run(word: str) -> bool:
    try:
        return (Path(word) / "config.yaml").is_file()
    except OSError:  # no name of a file
        return False


def _contradiction(request: Request) -> str | None:
    run, checkpoint, format_ = request.run, request.checkpoint, request.format
    as_file = "qexp eval checkpoint=FILE format=daq"
    if format_ is not None and format_ not in FORMATS:
        return f"format={format_}: no such format{suggest(format_, FORMATS)}; there is {', '.join(FORMATS)}"
    if format_ is not None and run is not None:
        return f"format={format_}: is for a file and goes without the run '{run}': {as_file}"
    if format_ is not None and checkpoint is None:
        return f"format={format_}: which file? {as_file}"
    if format_ is None and run is None:
        given = f"checkpoint={checkpoint}: " if checkpoint else ""
        return f"{given}name a run (qexp eval RUN), or a file and its format ({as_file})"
    if run is not None and checkpoint not in (None, *CHECKPOINTS):
        other = f"; a file goes with its format and without a run: {as_file}" if Path(checkpoint).is_file() else ""
        return f"checkpoint={checkpoint}: must be last or best{suggest(checkpoint, CHECKPOINTS)}{other}"
    return None


def evaluate_run(request: Request) -> tuple[dict[str, Any], str]:
    """Return the result for a run's checkpoint, as data and as text; raise UsageError or Invalid."""
    name = request.checkpoint or "last"
    with composing():
        overrides = _checked(request.overrides, CHANGEABLE_OF_A_RUN)
        store = next((str(o.value()) for o in overrides if o.key_or_group == "runs_dir"), None)
        path = _find_run(store, str(request.run))
        config = _recorded_config(path, overrides)
    from qexp.experiment.build import assemble, check_evaluation
    from qexp.experiment.train import Session

    parts = assemble(config)
    check_evaluation(config, parts)
    session = Session(config, parts, checkpoint_file=path / f"{name}.pt")
    recorded = runs.read_summary(path) or {}
    result = {
        "run": str(path),
        "checkpoint": name,
        **_measured(session),
        "recorded_top1_hard": recorded.get("top1_hard" if name == "last" else "best_top1_hard"),
    }
    head = f"{label(recorded)}  " if recorded else ""
    rows = [*_rows(result), ("recorded top-1", percent(result["recorded_top1_hard"]))]
    return result, _text(f"{head}{name} checkpoint of {path}", rows)


def _find_run(store: str | None, text: str) -> Path:
    """Return the directory of a run; raise UsageError."""
    try:
        if text:
            return runs.find_run(runs.store_root(store), text)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"no run '{one_line(text)}': {error}") from error
    raise UsageError("no run '': name its directory, or the beginning of its hash (see qexp runs)")


def evaluate_file(request: Request) -> tuple[dict[str, Any], str]:
    """Return the result for a published file, as data and as text; raise UsageError or Invalid."""
    with composing():
        _checked(request.overrides, CHANGEABLE_OF_A_FILE)
        from qexp.experiment import published

        file = published.read_daq(Path(str(request.checkpoint)).expanduser())
        job = compose_job((*file.overrides, *request.overrides), f"eval_{request.format}")
    if job.config is None:
        raise Invalid(list(job.problems))
    config = job.config
    session, translation = published.open_session(config, file)
    result = {
        "file": str(file.path),
        "format": request.format,
        "quantizer": config.quantizer.name,
        "weight_bits": config.weight_bits,
        "activation_bits": config.activation_bits,
        **_measured(session),
        "mean": config.dataset.options["mean"],
        "std": config.dataset.options["std"],
        "tensors": len(file.tensors),
        "unused_tensors": translation.unused,
    }
    head = f"{label(result)}  {file.path} (format {request.format})"
    return result, _text(head, [*_rows(result), *_file_rows(result)])


def _file_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    mean, std = (" ".join(f"{value:g}" for value in result[key]) for key in ("mean", "std"))
    unused = ", ".join(f"{kind} ({count})" for kind, count in result["unused_tensors"].items())
    return [
        ("normalisation", f"mean {mean}, std {std}"),
        ("tensors", f"{result['tensors']}, all accounted for; not used by the network: {unused}"),
    ]


def _checked(words: Sequence[str], changeable: Sequence[str]) -> list[Override]:
    """Return the words as overrides; raise Invalid with every one that cannot be applied."""
    overrides, problems = parse_overrides(words)
    problems += [problem for override in overrides if (problem := _problem(override, changeable))]
    if problems:
        raise Invalid(problems)
    return overrides


def _problem(override: Override, changeable: Sequence[str]) -> Problem | None:
    line, key = str(override.input_line), override.key_or_group
    if key not in changeable and not key.startswith("dataset."):
        listed = ", ".join(("dataset", "dataset.*", "checkpoint", *changeable[1:]))
        hint = suggest(key, (*changeable, "checkpoint", "format")) or f"; only {listed} can be given"
        return Problem(line, f"cannot be changed for an evaluation{hint}")
    if override.is_sweep_override():
        return Problem(line, "names several values; evaluate them one by one")
    return group_problem(override)


def _recorded_config(path: Path, overrides: Sequence[Override]) -> Config:
    """Return the configuration of a run with overrides applied; raise UsageError or Invalid."""
    values = {override.key_or_group: override.value() for override in overrides}
    try:
        defaults: Any = OmegaConf.to_container(compose("train"), resolve=True)
        recorded = with_younger_options(_record(path / "config.yaml"))
        raw = {key: defaults[key] for key in RUNTIME} | recorded  # some options may be younger than the record
        if "dataset" in values:
            raw["dataset"] = dict(compose("train", overrides=[f"dataset={values.pop('dataset')}"])["dataset"])
        tree = OmegaConf.create(raw)
        for key, value in values.items():
            OmegaConf.update(tree, key, value, force_add=True)
        raw = OmegaConf.to_container(tree, resolve=True)  # type: ignore[assignment]
    except (*COMPOSITION_ERRORS, AssertionError) as error:
        raise Invalid([Problem(*explain(error))]) from error
    return parse_config(raw)


def _record(path: Path) -> dict[str, Any]:
    """Return the configuration that a run left; raise UsageError if that is no configuration."""
    try:
        raw = load_yaml(path)
        if isinstance(raw["recipe"], dict) and isinstance(raw["quantizer"], dict):
            return raw
    except (OSError, KeyError, TypeError, ValueError, RecursionError, YAMLError, OmegaConfBaseException) as error:
        raise UsageError(
            f"{path}: is not the record of a run ({one_line(str(error).partition(chr(10))[0])})"
        ) from error
    raise UsageError(f"{path}: is not the record of a run")


def _measured(session: "Session") -> dict[str, Any]:
    hard, soft = session.evaluate()
    return {
        "dataset": session.config.dataset.name,
        "test_images": hard.images,
        "correct": hard.correct,
        "top1_hard": hard.top1,
        "top5_hard": hard.top5,
        "top1_soft": soft.top1,
        "quantizer_gap": soft.top1 - hard.top1,
        "test_loss": hard.loss,
    }


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    images = f"{result['test_images']:,}"
    return [
        ("top-1 hard", f"{percent(result['top1_hard'])}  of {images} images ({result['dataset']})"),
        ("right answers", f"{result['correct']:,} of {images}"),
        ("top-5 hard", percent(result["top5_hard"])),
        ("top-1 soft", percent(result["top1_soft"])),
        ("quantizer gap", f"{percent(result['quantizer_gap'], signed=True)} points"),
    ]


def _text(head: str, rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join([head, *(f"  {name:<17}{value}" for name, value in rows)])
