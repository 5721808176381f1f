"""The composition root: configuration -> objects -> fit -> summary. The only place that knows all of them."""

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from qexp import files, quantizers, runs
from qexp.assemble import Parts, assemble, build_network, pick_device
from qexp.config import Config, is_float, to_yaml
from qexp.data.batches import Batches
from qexp.engine import checkpoint
from qexp.engine.fit import fit, seed_everything
from qexp.engine.saving import Checkpoints, keep_network
from qexp.errors import QexpError
from qexp.observer import EpochRecord, Metrics, Observer
from qexp.stopping import StopRequest
from qexp.tracking.console import make_reporter
from qexp.tracking.environment import environment
from qexp.tracking.jsonl import JsonLines
from qexp.tracking.tensorboard import FILE as EVENTS
from qexp.tracking.tensorboard import TensorBoard
from qexp.training import determinism, evaluate_both, make_step, place

METRICS = "metrics.jsonl"
# What has to be the same for a run that goes on to be equal, bit for bit, to one that was not interrupted.
SAME_BITS = (
    *("qexp", "python", "versions", "git", "platform", "device", "device_name", "threads"),
    *("deterministic", "compile", "channels_last", "recompute"),
)


class Session:
    """The objects of one run: network, batches and evaluation, on their device."""

    def __init__(
        self, config: Config, parts: Parts, *, checkpoint_file: Path | None = None, stop: StopRequest | None = None
    ):
        """Build everything; with `checkpoint_file` the network begins there, `stop` asks for an early end."""
        self.config, self.stop = config, stop or StopRequest()
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
        """Return (hard, soft) metrics on the test images; raises Interrupted."""
        return evaluate_both(self.model, lambda: self.stop.pausing(self.test_batches.epoch(0)))

    def train(self, observers: list[Observer], keeper: Checkpoints) -> EpochRecord:
        """Calibrate and fit, or go on from where `keeper` has a state; raises Diverged or Interrupted."""
        config = self.config
        if not self.is_calibrated and keeper.found is None:
            quantizers.calibrate(self.model, next(iter(self.train_batches.epoch(0)))[0])
        step = make_step(self.model, config.recipe, compiled=config.compile)
        with self.stop.deferred():
            return fit(
                self.model,
                self.train_batches,
                step=step,
                anneal=partial(quantizers.anneal, self.model),
                evaluate=self.evaluate,
                epochs=config.recipe.epochs,
                eval_interval=config.tracking.eval_interval,
                stuck_after=config.stuck_after,
                observers=observers,
                keeper=keeper,
                check_stop=self.stop.check,
            )


def train_in(
    path: Path, config: Config, start: Path | None, baseline: float | None, console: Console, stop: StopRequest
) -> dict[str, Any]:
    """Train one run inside its directory, from where it was interrupted, and return its summary.

    Args:
        path: the run directory, claimed.
        config: of the run.
        start: the checkpoint to begin with.
        baseline: float top-1, where it is known.
        console: for progress.
        stop: asks for an early end.

    Raises:
        Interrupted: `stop` asked for it; the state is saved.
        QexpError: with one line for the user.
    """
    keeper = Checkpoints(
        path,
        identity=config.identity,
        steps=config.checkpoint.steps,
        seconds=config.checkpoint.seconds,
        warn=partial(console.print, highlight=False, markup=False, soft_wrap=True),
    )
    if keeper.found is None:
        if (path / "config.yaml").exists():
            line = f"{path} ended before its first checkpoint; it starts over"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        runs.clear(path, keep=("status.json",))
        files.write(path / "config.yaml", to_yaml(config.raw).encode())
    with determinism(config.deterministic):
        session = Session(config, assemble(config), checkpoint_file=None if keeper.found else start, stop=stop)
        record_environment(path, session, console)
        return _train(path, session, keeper, baseline, console)


def _train(
    path: Path, session: Session, keeper: Checkpoints, baseline: float | None, console: Console
) -> dict[str, Any]:
    config = session.config
    epochs, per_epoch = config.recipe.epochs, len(session.train_batches)
    if keeper.found:
        done = keeper.found["training"]["done"]
        where = f"step {done:,} of {epochs * per_epoch:,}, epoch {min(done // per_epoch + 1, epochs)} of {epochs}"
        console.print(f"going on from {where}", highlight=False, markup=False, soft_wrap=True)
    for name, size in keeper.files.items():
        if not (path / name).is_file() or (path / name).stat().st_size < size:
            line = f"warning: {path / name} is shorter than its checkpoint says; what it held is lost"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    observers: list[Observer] = []
    try:
        observers.append(JsonLines(path / METRICS, keeper.files.get(METRICS, 0)))
        if config.tracking.tensorboard:
            observers.append(_tensorboard(path, session, keeper.files.get(EVENTS, 0)))
        observers.append(make_reporter(console, epochs=epochs, steps=epochs * per_epoch))
        keeper.observers = tuple(observers)
        last = session.train(observers, keeper)
        summary = summarize(session, last, keeper, baseline, runs.read_json(path / "env.json") or {})
        for observer in observers:
            observer.finish(summary)
            observer.position()  # on the disk before the summary says that all is there
    finally:
        for observer in observers:
            observer.close()
    runs.write_json(path / "summary.json", summary)
    try:
        keep_network(path)
    except QexpError as error:  # the result is whole, and only larger than it has to be
        console.print(f"warning: {error}", highlight=False, markup=False, soft_wrap=True)
    return summary


def record_environment(path: Path, session: Session, console: Console) -> None:
    """Write env.json; of a run that goes on, with the environments before, and a warning where they differ."""
    now = environment(session.device, session.config.seed) | {
        "deterministic": session.config.deterministic,
        "compile": session.config.compile,
        "channels_last": session.config.channels_last,
        "recompute": session.config.recompute,
    }
    before = runs.read_json(path / "env.json")
    if before:
        earlier = before.pop("earlier", [])
        differing = [key for key in SAME_BITS if before.get(key) != now.get(key)]
        if differing:
            changes = ", ".join(f"{key} {before.get(key)} -> {now.get(key)}" for key in differing)
            console.print(
                f"warning: this run began elsewhere ({changes}); it goes on, but not bit for bit",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        now["earlier"] = [*earlier, before]
    runs.write_json(path / "env.json", now)


def _tensorboard(path: Path, session: Session, at: int) -> TensorBoard:
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
        at=at,
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
    session: Session, last: EpochRecord, keeper: Checkpoints, baseline: float | None, env: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what was measured and on what, as data; accuracies in percent, of the last epoch unless named best.

    What is called time_* is all that differs when the same run is done again on the same machine.
    """
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
        "top5_soft": soft.top5,
        "quantizer_gap": last.gap,
        "train_top1": last.train.top1,
        "train_loss": last.train.loss,
        "test_loss": hard.loss,
        "best_epoch": keeper.best_epoch,
        "best_top1_hard": keeper.best_top1,
        "best_top1_soft": keeper.best_soft,
        "eval_interval": config.tracking.eval_interval,
        "float_top1": baseline,
        "difference": None if baseline is None else hard.top1 - baseline,
        "most_weight_levels": max(quantizers.weight_levels(session.model).values(), default=None),
        "weight_kilobytes": at_bits / 1000,
        "float_weight_kilobytes": as_float / 1000,
        "unsettled": [name for name, quantizer in quantizers.quantizers(session.model) if not quantizer.settled()],
        "device": str(session.device),
        "deterministic": config.deterministic,
        **{key: env.get(key) for key in ("device_name", "threads", "qexp", "python", "versions", "git")},
        "time_seconds": round(keeper.time_seconds, 3),
        "time_images_per_second": round(last.time_images_per_second, 1),
        "time_resumed_at_steps": keeper.resumed_at,
    }
