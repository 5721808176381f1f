"""What a training costs beside its steps: the loop with its observers, the input, the evaluation."""

import io
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measure import Row, interleaved, ratio
from networks import DEVICE, Trainee, batch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from qexp import quantizers
from qexp.data.images import Images
from qexp.data.loader import Loader
from qexp.engine.checkpointer import Checkpointer
from qexp.engine.loop import fit
from qexp.experiment.evaluate import evaluate_hard
from qexp.tracking.console import make_progress
from qexp.tracking.jsonl import JsonLines
from qexp.tracking.tensorboard import TensorBoard
from qexp.utils.callback import Metrics

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def random_images(count: int) -> Images:
    """Return CIFAR-sized images."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Images(pixels, generator.integers(0, 10, count))


def loader(images: Images, size: int) -> Loader:
    """Return training batches as a run makes them."""
    options = {"mean": MEAN, "std": STD, "batch_size": size, "device": DEVICE}
    return Loader(images, **options, crop=4, flip=True, shuffle=True, drop_last=True)


def overhead(repeats: int, size: int = 128, steps: int = 10) -> Iterator[Row]:
    """Yield images/s of an epoch of `fit` with a run's observers (no histograms), over a bare loop's on one batch."""
    for words in (("model=resnet20", "quantizer=fp"), ("model=resnet20", "quantizer=daq", "bits=2")):
        trainee = Trainee(*words, size=size)
        batches = loader(random_images(size * steps), size)
        model, config = trainee.model, trainee.config
        with tempfile.TemporaryDirectory() as folder:
            observers = [
                JsonLines(Path(folder) / "metrics.jsonl"),
                TensorBoard(
                    Path(folder),
                    config_text="",
                    hyperparameters={},
                    step_interval=config.tracking.step_interval,
                    histogram_interval=config.tracking.histogram_interval,
                    stats=partial(quantizers.stats, model),
                    weights=dict,
                ),
                make_progress(Console(file=io.StringIO()), path=Path(), epochs=1, steps=steps),
            ]
            nothing = Metrics(0.0, 0.0, 0.0, 1)
            epoch = partial(
                fit,
                model,
                batches,
                step=trainee.step,
                anneal=partial(quantizers.anneal, model),
                evaluate=lambda: (nothing, nothing),  # noqa: B023
                epochs=1,
                callbacks=observers,
            )

            def run(epoch: partial = epoch, folder: str = folder) -> None:
                epoch(
                    checkpointer=Checkpointer(Path(tempfile.mkdtemp(dir=folder)), identity={})
                )  # begins, restores nothing

            times = interleaved({"run": run, "bare": lambda: [trainee() for _ in range(steps)]}, repeats)  # noqa: B023
            for observer in observers:
                observer.close()
        value, detail = ratio(times, "bare", "run")
        yield Row("engine", f"images/s of fit / bare loop, {' '.join(words)}", value, 0.95, True, detail)


class Transformed(Dataset):
    """Images through torchvision's v2 transforms, one by one."""

    def __init__(self, images: Images):
        self.pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.from_numpy(images.labels)
        self.transform = v2.Compose([
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.transform(self.pixels[index]), self.labels[index]


def inputs(repeats: int, count: int = 10_000, size: int = 128) -> Iterator[Row]:
    """Yield images/s of the device-resident crop, flip and normalisation over torchvision's in two workers."""
    images = random_images(count)
    ours = loader(images, size)
    theirs = DataLoader(Transformed(images), size, shuffle=True, num_workers=2, persistent_workers=True, drop_last=True)

    def consume_theirs() -> None:
        for pixels, labels in theirs:
            pixels.to(DEVICE, memory_format=torch.channels_last), labels.to(DEVICE)

    actions = {"qexp": lambda: [None for _ in ours.epoch(0)], "torchvision": consume_theirs}
    times = interleaved(actions, repeats, warmup=1)
    value, detail = ratio(times, "torchvision", "qexp")
    speed = len(ours) * size / sorted(times["qexp"])[len(times["qexp"]) // 2]
    yield Row(
        "input", "images/s of qexp / v2 transforms, 2 workers", value, 5, True, f"{speed:,.0f} images/s; {detail}"
    )


def evaluation(repeats: int, size: int = 250, batches: int = 4) -> Iterator[Row]:
    """Yield the times of a hard evaluation over the float network's."""
    words = {"float": ("quantizer=fp",)} | {
        f"{name} W2A2": (f"quantizer={name}", "bits=2") for name in ("ste", "br", "dqa", "daq")
    }
    networks = {name: Trainee(*own, size=16).model for name, own in words.items()}
    data = [batch(size)] * batches

    actions = {name: partial(evaluate_hard, model, data) for name, model in networks.items()}
    times = interleaved(actions, repeats, warmup=1)
    for name in list(words)[1:]:
        value, detail = ratio(times, name, "float")
        yield Row("evaluation", f"{name} hard / float, batch {size}", value, 1.2, detail=detail)
