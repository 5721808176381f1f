"""The composition root: configuration -> objects -> fit -> summary. The only place that knows all of them."""

import time
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from qexp import quantizers, runs
from qexp.assemble import Parts, assemble, build_network, pick_device
from qexp.config import Config, is_float, to_yaml
from qexp.data.batches import Batches
from qexp.engine import checkpoint
from qexp.engine.fit import fit, seed_everything
from qexp.observer import EpochRecord, Metrics, Observer
from qexp.tracking.console import make_reporter
from qexp.tracking.environment import environment
from qexp.tracking.jsonl import JsonLines
from qexp.tracking.tensorboard import TensorBoard
from qexp.training import evaluate_both, make_step, place


class Session:
    """The objects of one run: network, batches and evaluation, on their device."""

    def __init__(self, config: Config, parts: Parts, *, checkpoint_file: Path | None = None):
        """Build everything; with `checkpoint_file` the network begins there."""
        self.config = config
        self.device = pick_device(config.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        seed_everything(config.seed)
        self.data = parts.source.load(runs.data_root(config.data_dir))
        state = checkpoint.load_state(checkpoint_file) if checkpoint_file else None
        self.is_calibrated = state is not None and checkpoint.holds_quantizers(state)
        self.model = place(build_network(config, parts, state, source=str(checkpoint_file)), config, self.device)

    @cached_property
    def train_batches(self) -> Batches:
        """Shuffled and augmented training images."""
        config, recipe = self.config, self.config.recipe
        return self.data.train_batches(
            recipe.batch_size,
            device=self.device,
            seed=config.seed,
            crop=recipe.crop,
            flip=recipe.flip,
            workers=config.workers,
        )

    @cached_property
    def test_batches(self) -> Batches:
        """Test images, in order."""
        size, workers = self.config.recipe.eval_batch_size, self.config.workers
        return self.data.test_batches(size, device=self.device, workers=workers)

    def evaluate(self) -> tuple[Metrics, Metrics]:
        """Return (hard, soft) metrics on the test images."""
        return evaluate_both(self.model, partial(self.test_batches.epoch, 0))

    def train(self, observers: list[Observer]) -> EpochRecord:
        """Calibrate and fit."""
        if not self.is_calibrated:
            quantizers.calibrate(self.model, next(iter(self.train_batches.epoch(0)))[0])
        step = make_step(self.model, self.config.recipe, compiled=self.config.compile)
        return fit(
            self.model,
            self.train_batches,
            step=step,
            anneal=partial(quantizers.anneal, self.model),
            evaluate=self.evaluate,
            epochs=self.config.recipe.epochs,
            eval_interval=self.config.tracking.eval_interval,
            observers=observers,
        )


def train_in(
    path: Path, config: Config, start: Path | None, baseline: float | None, console: Console
) -> dict[str, Any]:
    """Train one run inside its directory and return its summary.

    Args:
        path: the run directory, claimed and empty.
        config: of the run.
        start: the checkpoint to begin with.
        baseline: float top-1, where it is known.
        console: for progress.
    """
    began = time.perf_counter()
    path.joinpath("config.yaml").write_text(to_yaml(config.raw))
    session = Session(config, assemble(config), checkpoint_file=start)
    runs.write_json(path / "env.json", environment(session.device, config.seed))
    checkpoints = checkpoint.Checkpoints(path)
    observers = [checkpoints, JsonLines(path / "metrics.jsonl")]
    if config.tracking.tensorboard:
        observers.append(_tensorboard(path, session))
    steps = config.recipe.epochs * len(session.train_batches)
    observers.append(make_reporter(console, epochs=config.recipe.epochs, steps=steps))
    try:
        last = session.train(observers)
        summary = summarize(session, last, checkpoints, baseline)
        summary["time_seconds"] = round(time.perf_counter() - began, 3)
        for observer in observers:
            observer.finish(summary)
    finally:
        for observer in observers:
            observer.close()
    runs.write_json(path / "summary.json", summary)
    return summary


def _tensorboard(path: Path, session: Session) -> TensorBoard:
    config, model = session.config, session.model
    flat = {
        "dataset": config.dataset.name,
        "model": config.model.name,
        "quantizer": config.quantizer.name,
        "weight_bits": config.weight_bits,
        "activation_bits": config.activation_bits,
        "init": config.init,
        "protocol": config.protocol,
        "seed": config.seed,
        "epochs": config.recipe.epochs,
        "batch_size": config.recipe.batch_size,
        "lr": config.recipe.optimizer.weight.lr,
    }
    return TensorBoard(
        path,
        config_text=to_yaml(config.raw),
        hyperparameters=flat,
        step_interval=config.tracking.step_interval,
        histogram_interval=config.tracking.histogram_interval,
        stats=partial(quantizers.stats, model),
        weights=lambda: {
            name: p.detach() for name, p in model.named_parameters() if name.endswith("weight") and p.dim() > 1
        },
    )


def summarize(
    session: Session, last: EpochRecord, checkpoints: checkpoint.Checkpoints, baseline: float | None
) -> dict[str, Any]:
    """Return what was measured, as data; accuracies in percent, of the last epoch unless named best."""
    config, hard, soft = session.config, last.hard, last.soft
    assert hard is not None and soft is not None, "the last epoch always has an evaluation"  # noqa: PT018
    at_bits, as_float = quantizers.weight_memory_bytes(session.model)
    baseline = hard.top1 if is_float(config.raw) else baseline
    return {
        "key": config.key,
        "dataset": config.dataset.name,
        "model": config.model.name,
        "quantizer": config.quantizer.name,
        "weight_bits": config.weight_bits,
        "activation_bits": config.activation_bits,
        "seed": config.seed,
        "init": config.raw["init"],
        "protocol": config.protocol,
        "epochs": config.recipe.epochs,
        "train_images": session.train_batches.num_images,
        "test_images": hard.images,
        "top1_hard": hard.top1,
        "top5_hard": hard.top5,
        "top1_soft": soft.top1,
        "quantizer_gap": last.gap,
        "train_top1": last.train.top1,
        "train_loss": last.train.loss,
        "test_loss": hard.loss,
        "best_top1_hard": checkpoints.best_top1,
        "best_epoch": checkpoints.best_epoch,
        "eval_interval": config.tracking.eval_interval,
        "float_top1": baseline,
        "difference": None if baseline is None else hard.top1 - baseline,
        "most_weight_levels": max(quantizers.weight_levels(session.model).values(), default=None),
        "weight_kilobytes": at_bits / 1000,
        "float_weight_kilobytes": as_float / 1000,
        "unsettled": [name for name, quantizer in quantizers.quantizers(session.model) if not quantizer.settled()],
        "images_per_second": round(last.images_per_second, 1),
        "device": str(session.device),
    }
