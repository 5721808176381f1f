"""The float net that a quantized run is held against: the one that its training started from, and its accuracy."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qexp import runs
from qexp.config.config import Config, float_parent_of
from qexp.config.identity import OF_HARD, identity, with_younger_options
from qexp.config.yaml_files import load_yaml
from qexp.utils.text import is_number

LAST = "last.pt"
START = "start.json"  # in a run's directory: what is known of the float net that it started from


class FloatNet(NamedTuple):
    """A float net.

    Attributes:
        top1: its accuracy on the test images of the run, in percent; None where it is not known.
        source: where it comes from: `run abcdefgh`, `FILE`, `torchvision`; None where there is none.
        changes: options in which its data or recipe differ from the run's, `recipe.epochs 300` each.
    """

    top1: float | None = None
    source: str | None = None
    changes: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """Return it as it stands in summary.json."""
        return {"source": self.source, "changes": list(self.changes)}


def of_parent(config: Config, summary: Mapping[str, Any]) -> FloatNet:
    """Return the float net that `init=fp` has trained."""
    parent = float_parent_of(config)
    return FloatNet(summary["top1_hard"], f"run {parent.key}", differences(config, parent.identity))


def known_float_net(config: Config) -> FloatNet:
    """Return the float net that `init=fp` started from; for `init=scratch` that of the same recipe, where there is one.

    A run from random weights can be held against it, though it did not start from it.
    """
    if config.is_float or config.init not in ("fp", "scratch"):
        return FloatNet()
    where = runs.run_directory(float_parent_of(config))
    found = runs.read_result(where) if runs.state_of(where) == "done" else None
    return of_parent(config, found) if found else FloatNet()


def of_checkpoint(config: Config, file: Path, evaluate: Callable[[], float | None]) -> FloatNet:
    """Return the float net that `init=RUN`, `init=FILE` or `init=torchvision` names.

    Args:
        config: of the run.
        file: the checkpoint.
        evaluate: returns the accuracy of its network on the run's test images, None for a quantized one.
    """
    if file.name == LAST and (found := _of_run(config, file.parent)) is not None:
        return found
    name = "torchvision" if config.init == "torchvision" else str(file)
    top1 = evaluate()
    return FloatNet() if top1 is None else FloatNet(top1, name, _differences_of_file(config, file))


def _differences_of_file(config: Config, file: Path) -> tuple[str, ...]:
    """Return in what the float run that a file lies in was trained otherwise; nothing where it lies in none."""
    try:
        theirs = identity(with_younger_options(load_yaml(file.parent / "config.yaml")))
        return differences(config, theirs) if theirs["quantizer"]["name"] == "fp" else ()
    except Exception:  # of the file, of YAML, of OmegaConf, or of a tree that lacks something
        return ()


def _of_run(config: Config, path: Path) -> FloatNet | None:
    """Return the float net of a run, itself or the one it started from; None where its test images were others."""
    summary = runs.read_result(path)
    try:
        theirs = identity(with_younger_options(load_yaml(path / "config.yaml")))
    except Exception:  # of the file, of YAML, of OmegaConf
        return None
    if not summary or _test_images(theirs) != _test_images(config.identity):
        return None
    if summary.get("quantizer") == "fp":
        return FloatNet(summary["top1_hard"], f"run {summary['key']}", differences(config, theirs))
    known = summary.get("float_net")
    if not isinstance(known, Mapping) or not is_number(summary.get("float_top1")):
        return FloatNet()
    changes = tuple(map(str, known.get("changes", ())))
    return FloatNet(summary["float_top1"], f"{known.get('source')}, by way of run {summary['key']}", changes)


def _test_images(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree["dataset"].items() if key != "train_size"}


def differences(config: Config, theirs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return in what data, recipe and seed of a float run differ from those of a run, `recipe.epochs 300` each."""
    ours, others = (dict(_leaves(_compared(tree))) for tree in (config.identity, theirs))
    return tuple(f"{key} {others.get(key, 'unset')}" for key in {**ours, **others} if ours.get(key) != others.get(key))


def _compared(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an identity that a float net hangs on."""
    recipe = {key: value for key, value in tree["recipe"].items() if key not in OF_HARD}
    optimizer = tree["recipe"].get("optimizer", {})
    kept = {role: optimizer[role] for role in ("weight", "norm") if role in optimizer}  # the roles of a float net
    return {"dataset": tree["dataset"], "seed": tree["seed"], "recipe": {**recipe, "optimizer": kept}}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found


def recorded_float_net(path: Path) -> FloatNet | None:
    """Return what a run's directory tells of the float net it started from; None where it tells nothing."""
    found = runs.read_json(path / START)
    if not isinstance(found, Mapping) or not (found.get("top1") is None or is_number(found["top1"])):
        return None
    source = found.get("source")
    return FloatNet(
        found.get("top1"), None if source is None else str(source), tuple(map(str, found.get("changes", ())))
    )


def record_float_net(path: Path, found: FloatNet) -> None:
    """Keep it, so that it is not evaluated again when the run resumes."""
    runs.write_json(path / START, found._asdict() | {"changes": list(found.changes)})
