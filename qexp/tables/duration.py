"""How long runs will take, from a speed that was measured: by finished runs like them, or by a few steps now."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from qexp import quantizers, runs
from qexp.config.config import Config
from qexp.config.places import data_root, store_root
from qexp.config.yaml_files import load_yaml
from qexp.engine.loop import fit
from qexp.experiment.build import assemble, build_network, build_source, make_step
from qexp.experiment.device import pick_device, place
from qexp.experiment.evaluate import evaluate_both
from qexp.experiment.threads import set_threads
from qexp.utils.callback import Metrics
from qexp.utils.text import model_label

MEASURED_SECONDS = 1.0  # of training steps, about; what comes before and after takes as long again
MOST_STEPS = 100  # that are measured
STEP_SECONDS = 0.5  # at most, without a GPU; a step that takes longer is measured with fewer images
SMALL_BATCH = 16  # at most; without a GPU, the speed hardly depends on the batch
SMALL_PIXELS = 200_000  # of a small batch, at most: 3 images of ImageNet


@dataclass(frozen=True)
class Speed:
    """Training speed in images per second, and seconds per evaluated test image, soft and hard together."""

    images_per_second: float
    evaluation_seconds: float
    origin: str


@dataclass(frozen=True)
class Estimate:
    """Runs that share a speed, and how long they take one after another."""

    what: str
    count: int
    seconds: float
    speed: Speed


def estimates(configs: Sequence[Config], tell: Callable[[str], None] = lambda line: None) -> list[Estimate]:
    """Return how long the runs of `configs` take, by dataset, network and kind of quantizer.

    Args:
        configs: of the runs.
        tell: is told `measuring 3 of 8: ste of weights, resnet18 on cifar10` before each measurement, which takes
            seconds; networks and methods on images of the same size are measured once.
    """
    kinds: dict[str, list[Config]] = {}
    for config in configs:
        kinds.setdefault(_kind(config), []).append(config)
    speeds = {kind: recorded(alike[0]) for kind, alike in kinds.items()}
    works = {kind: _work(kinds[kind][0]) for kind, speed in speeds.items() if speed is None}
    found: dict[str, Speed] = {}
    for kind, work in works.items():
        if work not in found:
            tell(f"measuring {len(found) + 1} of {len(set(works.values()))}: {_what(kinds[kind][0])}")
            found[work] = measured(kinds[kind][0])
    listed = []
    for kind, alike in kinds.items():
        speed, images = speeds[kind] or found[works[kind]], _image_counts(alike[0])
        seconds = sum(run_seconds(config, speed, *images) for config in alike)
        listed.append(Estimate(_what(alike[0]), len(alike), seconds, speed))
    return listed


def absent_data(configs: Sequence[Config]) -> list[str]:
    """Return which data sets of `configs` are not where they are looked for, one line each."""
    sources = {(config.data_dir, repr(config.dataset)): config for config in configs}
    found = (build_source(config).absent(data_root(config.data_dir)) for config in sources.values())
    return list(dict.fromkeys(line for line in found if line))


def _kind(config: Config) -> str:
    """Return what the time of a run depends on, roughly."""
    return repr((config.dataset, config.model, config.quantizer.name, _weights_only(config.activation_bits)))


def _work(config: Config) -> str:
    """Return what the speed of training depends on, roughly: data sets whose images have one size are alike."""
    source, recipe = build_source(config), config.recipe
    images = source.image_size, source.channels, recipe.batch_size, recipe.precision, config.device
    return repr((images, config.model, config.quantizer.name, _weights_only(config.activation_bits)))


def _weights_only(activation_bits: int) -> bool:
    return activation_bits == quantizers.FLOAT_BITS


def _what(config: Config) -> str:
    sides = " of weights" if _weights_only(config.activation_bits) else " of weights and activations"
    method = config.quantizer.name + ("" if config.quantizer.name == "fp" else sides)
    return f"{method}, {model_label(config.model.name, config.width)} on {config.dataset.name}"


def _image_counts(config: Config) -> tuple[int, int]:
    """Return the numbers of training and test images; the official ones where the data are not there."""
    source = build_source(config)
    train, test = source.counts(data_root(config.data_dir), download=False)
    return source.train_size or train, source.test_size or test


def run_seconds(config: Config, speed: Speed, train_images: int, test_images: int) -> float:
    """Return how long one run takes: its epochs, and its evaluations."""
    epochs = config.recipe.epochs
    evaluations = math.ceil(epochs / config.tracking.eval_interval)
    return epochs * train_images / speed.images_per_second + evaluations * test_images * speed.evaluation_seconds


def recorded(config: Config) -> Speed | None:
    """Return the speed of the latest finished run of the same kind on the same kind of device, None without one."""
    device = pick_device(config.device).type
    places = store_root(config.runs_dir) / config.dataset.name / config.model.name
    paths = places.glob(f"{config.quantizer.name}-w*a*/*/summary.json")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
        summary = runs.read_summary(path.parent)
        if (
            summary
            and str(summary.get("device")).partition(":")[0] == device
            and _is_alike(config, path.parent, summary)
        ):
            return _speed_of(summary, str(path.parent))
    return None


def _is_alike(config: Config, path: Path, summary: dict) -> bool:
    sides = {_weights_only(bits) for bits in (summary["activation_bits"], config.activation_bits)}
    if len(sides) > 1 or runs.state_of(path) != "done":
        return False
    return bool(load_yaml(path / "config.yaml")["model"] == config.tree["model"])


def _speed_of(summary: dict, origin: str) -> Speed:
    """Return training speed, and what is left of the run's time shared out over the test images evaluated."""
    epochs = summary.get("epochs_trained", summary["epochs"])
    evaluated = math.ceil(epochs / summary["eval_interval"]) * summary["test_images"]
    trained = epochs * summary["train_images"] / summary["time_images_per_second"]
    rest = max(summary["time_seconds"] - trained, 0.0) / evaluated
    return Speed(summary["time_images_per_second"], rest, f"as in {origin}")


@dataclass(frozen=True)
class _SameBatch:
    """One batch, several times: `most` times, or as often as it begins within `seconds`."""

    images: Tensor
    labels: Tensor
    most: int = MOST_STEPS
    seconds: float = MEASURED_SECONDS

    def __len__(self) -> int:
        return self.most

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        begun = time.perf_counter()
        for at in range(start, self.most):
            if at > start and time.perf_counter() - begun > self.seconds:
                return
            yield self.images, self.labels


def measured(config: Config) -> Speed:
    """Return the speed of a few training steps and an evaluation on random images; takes about 3 s, or a few steps."""
    device, parts = pick_device(config.device), assemble(config)
    set_threads(config, parts)
    model = place(build_network(config, parts), config, device)
    source, recipe = parts.source, config.recipe
    small = max(2, min(SMALL_BATCH, SMALL_PIXELS // source.image_size**2))
    size = recipe.batch_size if device.type == "cuda" else min(recipe.batch_size, small)
    images = torch.randn(size, source.channels, source.image_size, source.image_size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.zeros(size, dtype=torch.long, device=device)
    least = size if device.type == "cuda" else min(size, 2)
    quantizers.calibrate(model, images[:least])
    train = partial(
        fit,
        model,
        step=make_step(model, recipe),
        anneal=partial(quantizers.anneal, model),
        evaluate=lambda: (Metrics(0.0, 0.0, 0.0, 0),) * 2,
        epochs=1,
    )

    def speed(size: int, steps: int = MOST_STEPS) -> float:
        return train(_SameBatch(images[:size], labels[:size], steps)).time_images_per_second

    speed(least, 1)  # warms up
    found = speed(least, 1)
    if (most := min(size, int(STEP_SECONDS * found))) > least or found * MEASURED_SECONDS > least:
        size = max(least, most)
        found = speed(size)
    else:
        size = least
    evaluation = _evaluation_seconds(model, images[:size], labels[:size])
    return Speed(found, evaluation, f"measured now on {size} random images at a time")


def _evaluation_seconds(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return seconds per image of one evaluation, hard, and soft where it differs."""
    batches, seconds = [(images, labels)], math.inf
    for _ in range(2):  # the first warms up; where that is nothing beside the work, it is all
        started = time.perf_counter()
        evaluate_both(model, lambda: batches)
        seconds = time.perf_counter() - started
        if seconds > STEP_SECONDS:
            break
    return seconds / len(images)
