"""`qexp eval`: evaluate a run's checkpoint again."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from qexp import runs
from qexp.compose import choices, composing, group_section, parse_overrides
from qexp.config import load_yaml, parse_config
from qexp.errors import UsageError
from qexp.report import label, percent
from qexp.schema import Invalid, suggest

CHANGEABLE = ("device", "threads", "data_dir", "runs_dir", "recipe.eval_batch_size")
CHECKPOINTS = ("last", "best")


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Evaluate and print; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="qexp eval",
        description="Evaluate the last (or best) checkpoint of a run on its test images, soft and hard.",
        epilog="examples: qexp eval khogaopo    qexp eval RUN checkpoint=best device=cpu",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory, or the beginning of a run's hash (qexp runs)")
    parser.add_argument("overrides", nargs="*", help="key=value; also dataset=NAME and checkpoint=last|best")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_intermixed_args(words)
    tree, checkpoint = _configuration(arguments.run, arguments.overrides)
    try:
        config = parse_config(tree["raw"])
        from qexp.assemble import assemble
        from qexp.experiment import Session

        session = Session(config, assemble(config), checkpoint_file=tree["path"] / f"{checkpoint}.pt")
    except Invalid as error:
        raise UsageError("; ".join(map(str, error.problems))) from error
    hard, soft = session.evaluate()
    recorded = runs.read_json(tree["path"] / "summary.json") or {}
    result: dict[str, Any] = {
        "run": str(tree["path"]),
        "checkpoint": checkpoint,
        "dataset": config.dataset.name,
        "test_images": hard.images,
        "top1_hard": hard.top1,
        "top5_hard": hard.top5,
        "top1_soft": soft.top1,
        "quantizer_gap": soft.top1 - hard.top1,
        "test_loss": hard.loss,
        "recorded_top1_hard": recorded.get("top1_hard" if checkpoint == "last" else "best_top1_hard"),
    }
    print(json.dumps(result, indent=2) if arguments.json else _text(result, recorded))
    return 0


def _text(result: dict[str, Any], recorded: dict[str, Any]) -> str:
    head = f"{label(recorded)}  " if recorded else ""
    lines = [
        f"{head}{result['checkpoint']} checkpoint of {result['run']}",
        f"  top-1 hard       {percent(result['top1_hard'])}  of {result['test_images']:,} images ({result['dataset']})",
        f"  top-5 hard       {percent(result['top5_hard'])}",
        f"  top-1 soft       {percent(result['top1_soft'])}",
        f"  quantizer gap    {percent(result['quantizer_gap'], signed=True)} points",
        f"  recorded top-1   {percent(result['recorded_top1_hard'])}",
    ]
    return "\n".join(lines)


def _configuration(run: str, words: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Return ({path, raw tree}, name of the checkpoint) with all overrides applied.

    Raises:
        UsageError: what cannot be applied.
    """
    checkpoint, changes = "last", []
    with composing():
        overrides, problems = parse_overrides(words)
        if problems:
            raise UsageError("; ".join(map(str, problems)))
        sections: dict[str, Any] = {}
        for override in overrides:
            if override.is_sweep_override():
                raise UsageError(f"{override.input_line}: names several values; evaluate them one by one")
            key, value = override.key_or_group, override.value()
            if key == "checkpoint":
                checkpoint = str(value)
            elif key == "dataset":
                if value not in choices("dataset"):
                    raise UsageError(f"dataset={value}: no such dataset; there are {', '.join(choices('dataset'))}")
                sections["dataset"] = group_section("dataset", str(value))
            elif key not in CHANGEABLE and not key.startswith("dataset."):
                listed = ", ".join(("dataset", "dataset.*", "checkpoint", *CHANGEABLE))
                hint = suggest(key, ("dataset", "checkpoint", *CHANGEABLE)) or f"; only {listed} can be given"
                raise UsageError(f"{override.input_line}: cannot be changed for an evaluation{hint}")
            else:
                changes.append((key, value))
    if checkpoint not in CHECKPOINTS:
        raise UsageError(f"checkpoint={checkpoint}: must be last or best{suggest(checkpoint, CHECKPOINTS)}")
    store = next((str(value) for key, value in changes if key == "runs_dir"), None)
    path = runs.find_run(runs.store_root(store), run)
    tree = OmegaConf.create(load_yaml(path / "config.yaml") | {key: dict(value) for key, value in sections.items()})
    assert isinstance(tree, DictConfig)
    for key, value in changes:
        OmegaConf.update(tree, key, value, force_add=True)
    return {"path": path, "raw": OmegaConf.to_container(tree, resolve=True)}, checkpoint
