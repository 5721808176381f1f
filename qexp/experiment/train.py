"""The composition root: configuration -> objects -> fit -> summary. The only place that knows all of them."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from qexp import quantizers, runs
from qexp.config.config import Config, to_yaml
from qexp.data.batches import Batches
from qexp.engine import weights
from qexp.engine.checkpointer import Checkpoints, keep_network
from qexp.engine.loop import fit, seed_everything
from qexp.experiment.build import Parts, assemble, build_network, pick_device
from qexp.experiment.summary import record_environment, summarize
from qexp.experiment.training import determinism, evaluate_both, make_step, place
from qexp.tracking.console import make_reporter
from qexp.tracking.jsonl import JsonLines
from qexp.tracking.tensorboard import FILE as EVENTS
from qexp.tracking.tensorboard import TensorBoard
from qexp.utils import atomic
from qexp.utils.callback import EpochRecord, Metrics, Observer
from qexp.utils.errors import QexpError
from qexp.utils.signals import StopRequest

METRICS = "metrics.jsonl"


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
        state = weights.load_state(checkpoint_file) if checkpoint_file else None
        self.is_calibrated = state is not None and weights.holds_quantizers(state)
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
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    often = config.checkpoint
    keeper = Checkpoints(path, identity=config.identity, steps=often.steps, seconds=often.seconds, warn=say)
    if keeper.found is None:
        if (path / "config.yaml").exists():
            say(f"{path} ended before its first checkpoint; it starts over")
        runs.clear(path, keep=("status.json",))
        atomic.write(path / "config.yaml", to_yaml(config.raw).encode())
    with determinism(config.deterministic), ExitStack() as closing:
        session = Session(config, assemble(config), checkpoint_file=None if keeper.found else start, stop=stop)
        env = record_environment(path, config, session.device, say)
        observers = _observers(path, session, keeper, console, closing, say)
        last = session.train(observers, keeper)
        images = session.train_batches.num_images
        summary = summarize(session.model, config, last, keeper, train_images=images, baseline=baseline, env=env)
        for observer in observers:
            observer.finish(summary)
            observer.position()  # on the disk before the summary says that all is there
    runs.write_json(path / "summary.json", summary)
    try:
        keep_network(path)
    except QexpError as error:  # the result is whole, and only larger than it has to be
        say(f"warning: {error}")
    return summary


def _observers(
    path: Path,
    session: Session,
    keeper: Checkpoints,
    console: Console,
    closing: ExitStack,
    say: Callable[[str], None],
) -> list[Observer]:
    """Return what watches a training, each to be closed by `closing`; says where it goes on, and what is lost."""
    config, sizes = session.config, keeper.files
    epochs, per_epoch = config.recipe.epochs, len(session.train_batches)
    if keeper.found:
        done = keeper.found["training"]["done"]
        say(
            f"going on from step {done} of {epochs * per_epoch}, epoch {min(done // per_epoch + 1, epochs)} of {epochs}"
        )
    for name, size in sizes.items():
        if not (path / name).is_file() or (path / name).stat().st_size < size:
            say(f"warning: {path / name} is shorter than its checkpoint says; what it held is lost")
    makers: list[Callable[[], Observer]] = [lambda: JsonLines(path / METRICS, sizes.get(METRICS, 0))]
    if config.tracking.tensorboard:
        makers.append(lambda: _tensorboard(path, session, sizes.get(EVENTS, 0)))
    makers.append(lambda: make_reporter(console, epochs=epochs, steps=epochs * per_epoch))
    observers = []
    for make in makers:
        observers.append(make())
        closing.callback(observers[-1].close)
    keeper.observers = tuple(observers)
    return observers


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
