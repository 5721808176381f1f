"""A finished run whose summary.json is lost or damaged: made again from its checkpoint and log, not trained again."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qexp import quantizers, runs
from qexp.config.config import Config
from qexp.config.places import data_root
from qexp.data.batches import count_batches
from qexp.engine.checkpointer import BEST, LAST, option_differences, read_checkpoint
from qexp.engine.early_stop import EarlyStop
from qexp.experiment.build import Parts, build_covered
from qexp.experiment.float_net import FloatNet
from qexp.experiment.pretrained_start import RECORD
from qexp.experiment.summary import summarize
from qexp.utils.callback import EpochRecord, Metrics
from qexp.utils.errors import QexpError, UsageError
from qexp.utils.text import is_number
from qexp.utils.types import Progress

AFTER_NORM = 0  # in the place of an epoch: the record after batch norm was estimated again


@dataclass(frozen=True)
class _Course:
    """What a log tells of a training, where a summary takes it from the checkpointer."""

    best_epoch: int
    best_top1: float
    best_score: float
    best_soft: float
    time_seconds: float
    resumed_at: list[int]


def was_finished(path: Path, config: Config) -> bool:
    """Whether the checkpoint in a run directory is that of this run at its end, whole and without a state to resume."""
    try:
        content = read_checkpoint(path / LAST)
    except UsageError:
        return False
    is_of_this_run = not option_differences(config.identity, content["run"])
    records, epoch = _records(path / "metrics.jsonl"), content.get("epoch")
    if "training" in content or type(epoch) is not int or not is_of_this_run:
        return False
    # Where the log does not reach, what may have ended early counts as finished: else its network would be lost.
    is_untold = config.recipe.patience > 0 and epoch > max(records, default=0)
    return is_untold or epoch == _last_epoch(config, records)


def _last_epoch(config: Config, records: Mapping[int, EpochRecord]) -> int:
    """Return the epoch that a run ends with: that of its recipe, or an earlier one by what its log tells."""
    known = EarlyStop(config.recipe.patience)
    for epoch in sorted(records.keys() - {AFTER_NORM}):
        known = known.after(records[epoch].held_out, epoch)
        if known.ends(epoch):
            return epoch
    return config.recipe.epochs


def recovered_summary(path: Path, config: Config, parts: Parts, float_net: FloatNet) -> dict[str, Any]:
    """Return the summary of a finished run; what is called time_* is as far as the log tells.

    Args:
        path: the run directory, whose checkpoint says that it was finished.
        config: of the run.
        parts: of the run.
        float_net: that it is held against.

    Raises:
        QexpError: the log does not tell how the last epoch went.
    """
    records = _records(path / "metrics.jsonl")
    end = _last_epoch(config, records)
    after_norm = records.pop(AFTER_NORM, None)
    images = parts.source.prepare(data_root(config.data_dir), download=False)[0] - config.recipe.holdout
    state = read_checkpoint(path / LAST)["model"]
    model, coverage = build_covered(config, parts, state, source=str(path / LAST))
    is_estimated = config.recipe.norm_batches and quantizers.has_running_statistics(model)
    last = after_norm if is_estimated else records.get(end)
    if last is None or last.hard is None or last.soft is None:
        raise QexpError(
            f"its summary.json is lost, and metrics.jsonl does not tell what its last epoch gave: {path}; qexp eval "
            "measures its network again, overwrite=true trains it again"
        )
    per_epoch, epochs = count_batches(images, config.recipe.batch_size, drop_single=True), config.recipe.epochs
    quantizers.anneal(model, Progress(end * per_epoch, epochs * per_epoch, end - 1, epochs))
    env = runs.read_json(path / "env.json") or {}
    return summarize(
        model,
        config,
        last,
        _course(records, _epoch_of_best(path)),
        train_images=images,
        float_net=float_net,
        env=env,
        coverage=coverage,
        pretrained=runs.read_json(path / RECORD),
    )


def _records(log: Path) -> dict[int, EpochRecord]:
    """Return the records of a log by their epochs, or AFTER_NORM; lines that are none are left out."""
    found = {}
    with suppress(OSError), log.open("rb") as file:
        for line in file:
            with suppress(Exception):  # whatever stands there
                record = _record(json.loads(line))
                found[record.epoch if record.before_norm is None else AFTER_NORM] = record
    return found


def _record(values: Mapping[str, Any]) -> EpochRecord:
    """Return a record; raises whatever Python does of values that are none."""
    measured = {key: values[key] for key in ("train", "hard", "soft")} | {"held_out": values.get("held_out")}
    metrics = {key: own and Metrics(**own) for key, own in measured.items()}
    record = EpochRecord(**{key: value for key, value in values.items() if key != "gap"} | metrics)
    numbers = [record.epoch, record.time_seconds, record.time_images_per_second]
    for one in metrics.values():
        numbers += [one.loss, one.top1, one.top5, one.images] if one else []
    for group in (record.oscillation, record.before_norm):
        numbers += (group or {}).values()
    if not all(map(is_number, numbers)):
        raise ValueError("no numbers")
    return record


def _epoch_of_best(path: Path) -> int | None:
    with suppress(UsageError):
        epoch = read_checkpoint(path / BEST).get("epoch")
        return epoch if type(epoch) is int else None
    return None


def _course(records: Mapping[int, EpochRecord], known: int | None) -> _Course:
    """Return the best epoch, the known one or else the first with the highest accuracy, and the time of all epochs."""
    best, top1, score, soft = 0, -1.0, -1.0, -1.0
    for epoch in [known] if known is not None and known in records else sorted(records):
        hard, own_soft, held_out = records[epoch].hard, records[epoch].soft, records[epoch].held_out
        if hard and own_soft and (held_out or hard).top1 > score:
            best, top1, score, soft = epoch, hard.top1, (held_out or hard).top1, own_soft.top1
    return _Course(best, top1, score, soft, sum(record.time_seconds for record in records.values()), [])
