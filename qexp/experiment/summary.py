"""What a run leaves on record: summary.json says what was measured, env.json on what."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from qexp import quantizers, runs
from qexp.config.config import Config
from qexp.experiment.environment import environment
from qexp.experiment.float_net import FloatNet
from qexp.experiment.other_data import data_place
from qexp.experiment.own_code import own_code, told_change
from qexp.utils.callback import EpochRecord

# What has to be the same for a run that resumes to be equal, bit for bit, to one that was not interrupted.
SAME_BITS = (
    *("qexp", "python", "versions", "git", "platform", "cpu", "cpu_capability", "device", "device_name", "threads"),
    *("cuda", "cudnn", "deterministic", "compile", "channels_last", "recompute"),
)


def record_environment(
    path: Path, config: Config, device: torch.device, warn: Callable[[str], None]
) -> Mapping[str, Any]:
    """Write and return env.json: the environment now, and under `earlier` those in which the run was trained before.

    `warn` is told in one line where they differ in what may change the last bits of a result.
    """
    now = environment(device, config.seed) | {
        "deterministic": config.deterministic,
        "compile": config.compile,
        "channels_last": config.channels_last,
        "recompute": config.recompute,
        "data_place": data_place(config),
    }
    if config.widths_of is not None:
        now["layer_bits_of"] = config.widths_of
    if own := own_code(config):
        now["own"] = own
    before = runs.read_json(path / "env.json")
    if before:
        earlier = before.pop("earlier", [])
        ours, theirs = (dict(_leaves({key: env.get(key) for key in SAME_BITS})) for env in (now, before))
        changes = [f"{key} {theirs.get(key)} -> {ours.get(key)}" for key in ours if ours[key] != theirs.get(key)]
        if changed := told_change(before.get("own"), own):
            warn(f"warning: {changed.replace('trained', 'begun')}; its result is of both")
        if changes:
            warn(f"warning: this run began elsewhere ({', '.join(changes)}); the last bits of its result may differ")
        now["earlier"] = [*earlier, before]
    runs.write_json(path / "env.json", now)
    return now


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class Course(Protocol):
    """How a training went: its best epoch, by its score on held-out images if any, and how long it took."""

    @property
    def best_epoch(self) -> int: ...
    @property
    def best_top1(self) -> float: ...
    @property
    def best_score(self) -> float: ...
    @property
    def best_soft(self) -> float: ...
    @property
    def time_seconds(self) -> float: ...
    @property
    def resumed_at(self) -> list[int]: ...


def summarize(
    model: nn.Module,
    config: Config,
    last: EpochRecord,
    course: Course,
    *,
    train_images: int,
    float_net: FloatNet,
    env: Mapping[str, Any],
    coverage: quantizers.Coverage,
    firmness: Mapping[str, Any] | None = None,
    pretrained: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what was measured and on what, as data; accuracies in percent, of the last epoch unless named best.

    What is called time_* is all that differs when the same run is done again on the same machine.

    Args:
        model: as it was trained.
        config: of the run.
        last: the record of the last epoch, with its evaluation.
        course: of its training.
        train_images: how many there are.
        float_net: that it is held against.
        env: the environment.
        coverage: what of the network is quantized, with the bits that it began with.
        firmness: of the network, where it was measured.
        pretrained: weights of a library, or the user's own, that its network began with.
    """
    return {
        **_computed(config, train_images),
        **({"pretrained": dict(pretrained)} if pretrained else {}),
        **_measured(last, course, config.tracking.eval_interval),
        "held_out": _held_out(last, course),
        **_compared(last, float_net, is_float=config.is_float),
        **_network(model),
        **present_bits(model, config, coverage),
        "firmness": firmness,
        "deterministic": config.deterministic,
        **{key: env.get(key) for key in ("device", "device_name", "threads", "qexp", "python", "versions", "git")},
        "time_seconds": round(course.time_seconds, 3),
        "time_images_per_second": round(last.time_images_per_second, 1),
        "time_resumed_at_steps": course.resumed_at,
    }


def present_bits(model: nn.Module, config: Config, coverage: quantizers.Coverage) -> dict[str, Any]:
    """Return the bits that the layers of a network have now, and their means where they need not be all the same.

    Args:
        model: the network.
        config: of its run.
        coverage: what of it is quantized.
    """
    if config.is_float:
        return {"layers": None}
    now = quantizers.present_coverage(model, coverage)
    found: dict[str, Any] = {"layers": now.as_data()}
    if config.layer_bits or quantizers.learns_bits(model):
        found["mean_weight_bits"], found["mean_activation_bits"] = now.mean_bits
    return found


def _computed(config: Config, train_images: int) -> dict[str, Any]:
    return {
        "key": config.key,
        "dataset": config.dataset.name,
        "model": config.model.name,
        "width": config.width,
        "quantizer": config.quantizer.name,
        "weight_bits": config.weight_bits,
        "activation_bits": config.activation_bits,
        "seed": config.seed,
        "init": config.init,
        "protocol": config.protocol,
        "epochs": config.recipe.epochs,
        "ema": config.recipe.ema,
        "train_images": train_images,
    }


def _held_out(last: EpochRecord, course: Course) -> dict[str, Any] | None:
    """Return what held-out images say of the last epoch, and of the best one, which they chose."""
    if last.held_out is None:
        return None
    return {
        "images": last.held_out.images,
        "top1_hard": last.held_out.top1,
        "loss": last.held_out.loss,
        "best_top1_hard": course.best_score,
    }


def _measured(last: EpochRecord, course: Course, eval_interval: int) -> dict[str, Any]:
    hard, soft = last.hard, last.soft
    assert hard is not None and soft is not None, "the last epoch always has an evaluation"  # noqa: PT018
    return {
        "epochs_trained": last.epoch,
        "stopped_early": last.epoch < last.epochs,
        "test_images": hard.images,
        "top1_hard": hard.top1,
        "top5_hard": hard.top5,
        "top1_soft": soft.top1,
        "top5_soft": soft.top5,
        "quantizer_gap": last.gap,
        "before_norm": last.before_norm,
        "oscillation": last.oscillation,
        "train_top1": last.train.top1,
        "train_loss": last.train.loss,
        "test_loss": hard.loss,
        "best_epoch": course.best_epoch,
        "best_top1_hard": course.best_top1,
        "best_top1_soft": course.best_soft,
        "eval_interval": eval_interval,
    }


def _compared(last: EpochRecord, float_net: FloatNet, *, is_float: bool) -> dict[str, Any]:
    assert last.hard is not None
    top1 = last.hard.top1
    baseline = top1 if is_float else float_net.top1
    return {
        "float_top1": baseline,
        "float_net": None if is_float or baseline is None else float_net.as_data(),
        "difference": None if baseline is None else top1 - baseline,
    }


def _network(model: nn.Module) -> dict[str, Any]:
    at_bits, as_float = quantizers.weight_memory_bytes(model)
    return {
        "codes": quantizers.codes_digest(quantizers.weight_codes(model)),
        "most_weight_levels": max(quantizers.weight_levels(model).values(), default=None),
        "weight_kilobytes": at_bits / 1000,
        "float_weight_kilobytes": as_float / 1000,
        "unsettled": [name for name, quantizer in quantizers.named_quantizers(model) if not quantizer.converged()],
    }
