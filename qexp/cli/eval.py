"""`qexp eval`: evaluate a run's checkpoint again, or a file that a paper's authors published."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from qexp.cli.parser import Parser
from qexp.cli.text import named_rows, with_bar
from qexp.config.compose import Composer, composing
from qexp.config.config import Config, recorded_config
from qexp.config.explain import COMPOSITION_ERRORS, explain
from qexp.config.identity import RUNTIME, with_younger_options
from qexp.config.places import find_run, store_root
from qexp.config.schema import Invalid, Problem
from qexp.config.yaml_files import load_yaml
from qexp.experiment.own_code import check_trust
from qexp.runs.course_rows import averaged_rows
from qexp.runs.firmness_rows import firmness_rows
from qexp.runs.measured_bits import measured_bits
from qexp.utils.errors import UsageError
from qexp.utils.files import is_file
from qexp.utils.text import UNFIT, differing_codes, one_line, percent, suggest

CHECKPOINTS = ("last", "best")
LONGEST_WORD = 4096  # of a path on Linux
FORMATS = ("daq",)  # each has its conf/eval_NAME.yaml
CHANGEABLE = ("dataset", "device", "threads", "workers", "data_dir", "recipe.eval_batch_size")
CHANGEABLE_OF_A_RUN = (*CHANGEABLE, "runs_dir")
CHANGEABLE_OF_A_FILE = (*CHANGEABLE, "bits", "weight_bits", "activation_bits")
USAGE = """\
qexp eval RUN [key=value ...] [--firmness] [--json]
       qexp eval checkpoint=FILE format=daq [key=value ...] [--json]"""
EXAMPLES = """\
a run: its last (or best) checkpoint on its test images, soft and hard
  qexp eval ihlhmgdn
  qexp eval RUN checkpoint=best device=cpu dataset.test_size=1000
  qexp eval RUN --firmness     how much of it hangs on rounding: 12 more evaluations, if weights lie on thresholds

a file in the layout of other people's code; format=daq: the ResNet-20 that the DAQ authors published, on CIFAR-10 with
their normalisation. The file tells what is quantized, but not to how many bits: 1 unless you say otherwise. Firmness
is always measured
  qexp eval checkpoint=FILE format=daq
  qexp eval checkpoint=FILE format=daq bits=2 data_dir=DIR

keys for both: dataset=NAME, dataset.*, device, threads, data_dir, recipe.eval_batch_size
"""

_SHOWN = partial(with_bar, title="weights on thresholds take sides")


@dataclass(frozen=True)
class EvalRequest:
    """What the words of a command ask for."""

    run: str | None
    checkpoint: str | None
    format: str | None
    overrides: tuple[str, ...]
    words: tuple[str, ...]


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Evaluate and print; return the exit code."""
    description = "Evaluate a run again, or a network that a paper's authors published."
    parser = Parser("qexp eval", description, usage=USAGE, epilog=EXAMPLES)
    parser.add_argument("words", nargs="*", metavar="RUN", help="a run directory, or the beginning of a run's hash")
    parser.add_argument("--firmness", action="store_true", help="weights on a threshold take their side by coin")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--config-dir", metavar="DIR", help="a folder of YAML files of your own, with what lies beside it"
    )
    arguments = parser.parse(words)
    if arguments.config_dir == "":
        raise UsageError("--config-dir: names nothing")
    request = understand(arguments.words)
    try:
        if request.run is not None:
            result, text = run_result(request, firmness=arguments.firmness, config_dir=arguments.config_dir)
        else:
            result, text = file_result(request)
    except Invalid as error:
        raise UsageError("; ".join(map(str, error.problems))) from error
    print(json.dumps(result, indent=2) if arguments.json else text)
    return 0


def understand(words: Sequence[str]) -> EvalRequest:
    """Return what is asked for.

    Raises:
        UsageError: neither a run nor a file with its format, or both.
    """
    for word in words:
        if len(word) > LONGEST_WORD or UNFIT.search(word):
            raise UsageError(f"{one_line(word)}: is too long, or holds control characters such as a line break")
    has_run = bool(words) and ("=" not in words[0] or is_file(Path(words[0]) / "config.yaml"))
    named: dict[str, str] = {}
    overrides = []
    for word in words[has_run:]:
        key, _, value = word.partition("=")
        if key in ("checkpoint", "format"):
            named[key] = value  # as it stands: a path may hold what Hydra's grammar takes for something else
        else:
            overrides.append(word)
    run, checkpoint, format_ = words[0] if has_run else None, named.get("checkpoint"), named.get("format")
    request = EvalRequest(run, checkpoint, format_, tuple(overrides), tuple(words))
    if problem := _contradiction(request):
        raise UsageError(problem)
    return request


def _contradiction(request: EvalRequest) -> str | None:
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
        other = f"; a file goes with its format and without a run: {as_file}" if is_file(checkpoint) else ""
        return f"checkpoint={checkpoint}: must be last or best{suggest(checkpoint, CHECKPOINTS)}{other}"
    return None


def run_result(request: EvalRequest, *, firmness: bool, config_dir: str | None = None) -> tuple[dict[str, Any], str]:
    """Return the result for a run's checkpoint, as data and as text; raise UsageError or Invalid."""
    name = request.checkpoint or "last"
    with composing(config_dir) as composer:
        overrides = _checked(composer, request.overrides, CHANGEABLE_OF_A_RUN)
        store = next((str(o.value()) for o in overrides if o.key_or_group == "runs_dir"), None)
        path = _find_run(store, str(request.run))
        config = _recorded(composer, path, overrides)
    flags = [] if config_dir is None else ["--config-dir", config_dir]
    check_trust(config, path, shlex.join(["qexp", "eval", *flags, *request.words]))
    from qexp.experiment import evaluate  # imports torch

    result = evaluate.evaluate_run(config, path, name, firmness=firmness, each=_SHOWN)
    head = f"{_label(config, result)}  {name} checkpoint of {path}"
    rows = [
        *averaged_rows(config.recipe.ema),
        *_rows(result),
        ("recorded top-1", percent(result["recorded_top1_hard"])),
    ]
    if "code_changed" in result:
        rows.append(("WARNING", result["code_changed"]))
    return result, named_rows(head, rows)


def _label(config: Config, result: dict[str, Any]) -> str:
    """Return what was evaluated: with the bits that its layers have, where they need not all be as configured."""
    found = measured_bits(result)
    return config.label if found is None else f"{found.named(config.quantizer.name)}  {config.subject}"


def _find_run(store: str | None, text: str) -> Path:
    """Return the directory of a run; raise UsageError."""
    try:
        if text:
            return find_run(store_root(store), text)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"no run '{one_line(text)}': {error}") from error
    raise UsageError("no run '': name its directory, or the beginning of its hash (see qexp runs)")


def file_result(request: EvalRequest) -> tuple[dict[str, Any], str]:
    """Return the result for a published file, as data and as text; raise UsageError or Invalid."""
    with composing(config_name=f"eval_{request.format}") as composer:
        _checked(composer, request.overrides, CHANGEABLE_OF_A_FILE)
        from qexp.experiment import evaluate  # imports torch
        from qexp.experiment.daq_files import read_daq

        file = read_daq(Path(str(request.checkpoint)).expanduser())
        config = evaluate.published_config(composer, file, request.overrides)
    result = evaluate.evaluate_published(config, file, each=_SHOWN)
    head = f"{config.label}  {file.path} (format {request.format})"
    return result, named_rows(head, [*_rows(result), *_file_rows(result)])


def _file_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    mean, std = (" ".join(f"{value:g}" for value in result[key]) for key in ("mean", "std"))
    unused = ", ".join(f"{kind} ({count})" for kind, count in result["unused_tensors"].items())
    return [
        ("normalisation", f"mean {mean}, std {std}"),
        ("tensors", f"{result['tensors']}, all accounted for; not used by the network: {unused}"),
    ]


def _checked(composer: Composer, words: Sequence[str], changeable: Sequence[str]) -> list[Override]:
    """Return the words as overrides; raise Invalid with every one that cannot be applied."""
    overrides, problems = composer.parse(words)
    problems += [found for one in overrides if (found := _problem(one, changeable) or composer.problem_of(one))]
    if problems:
        raise Invalid(problems)
    return overrides


def _problem(override: Override, changeable: Sequence[str]) -> Problem | None:
    """Return why an override cannot be one of an evaluation."""
    line, key = str(override.input_line), override.key_or_group
    if key not in changeable and not key.startswith("dataset."):
        listed = ", ".join(("dataset", "dataset.*", "checkpoint", *changeable[1:]))
        hint = suggest(key, (*changeable, "checkpoint", "format")) or f"; only {listed} can be given"
        return Problem(line, f"cannot be changed for an evaluation{hint}")
    if override.is_sweep_override():
        return Problem(line, "names several values; evaluate them one by one")
    return None


def _recorded(composer: Composer, path: Path, overrides: Sequence[Override]) -> Config:
    """Return the configuration of a run with overrides applied; raise UsageError or Invalid."""
    values = {override.key_or_group: override.value() for override in overrides}
    try:
        tree = with_younger_options(_record(path / "config.yaml"))
        defaults = composer.job(()).tree
        tree = {key: defaults[key] for key in RUNTIME} | tree  # some options may be younger than the record
        if "dataset" in values:
            tree["dataset"] = composer.job((f"dataset={values.pop('dataset')}",)).tree["dataset"]
        changed = OmegaConf.create(tree)
        for key, value in values.items():
            OmegaConf.update(changed, key, value, force_add=True)
        tree = OmegaConf.to_container(changed, resolve=True)  # type: ignore[assignment]
    except (*COMPOSITION_ERRORS, AssertionError) as error:
        raise Invalid([Problem(*explain(error))]) from error
    return recorded_config(tree)


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


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    images = f"{result['test_images']:,}"
    return [
        ("top-1 hard", f"{percent(result['top1_hard'])}  of {images} images ({result['dataset']})"),
        ("right answers", f"{result['correct']:,} of {images}"),
        ("top-5 hard", percent(result["top5_hard"])),
        ("top-1 soft", percent(result["top1_soft"])),
        ("quantizer gap", f"{percent(result['quantizer_gap'], signed=True)} points"),
        *([("bits", found.line)] if (found := measured_bits(result)) else []),
        *_code_rows(result),
        *firmness_rows(result.get("firmness"), of_layers=True),
    ]


def _code_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Say what the codes of the weights are, and whether they are those that the checkpoint records."""
    digest, differing = result["codes"], result["codes_that_differ"]
    if digest is None:
        return []
    if differing:
        return [("codes", digest), ("WARNING", differing_codes(differing, "the checkpoint"))]
    return [("codes", f"{digest}  ({'as recorded' if differing is not None else 'not recorded'})")]
