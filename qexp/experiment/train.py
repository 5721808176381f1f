"""One training inside its run directory: callbacks, checkpointer, fit, summary."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from torch.nn.modules.batchnorm import _BatchNorm

from qexp import quantizers, runs
from qexp.config.config import Config
from qexp.config.yaml_files import to_yaml
from qexp.engine import weights
from qexp.engine.checkpointer import Checkpointer, strip_training_state
from qexp.engine.divergence import unsettled_norms
from qexp.engine.early_stop import EarlyStop
from qexp.engine.loop import fit
from qexp.experiment.build import Parts, make_step
from qexp.experiment.code_check import code_warning
from qexp.experiment.device import determinism
from qexp.experiment.evaluate import evaluate_held_out, evaluate_session, evaluate_start
from qexp.experiment.firmness import session_firmness
from qexp.experiment.float_net import FloatNet, of_checkpoint, record_float_net, recorded_float_net
from qexp.experiment.meters import calibrated_meter, layer_report
from qexp.experiment.own_functions import own_schedule
from qexp.experiment.pictures import run_pictures
from qexp.experiment.pretrained_start import RECORD, PretrainedStart, pretrained_start
from qexp.experiment.reestimation import with_new_norms
from qexp.experiment.session import Session
from qexp.experiment.summary import record_environment, summarize
from qexp.experiment.threads import considerate_waits
from qexp.runs.epoch_records import LAYERS
from qexp.runs.variation import OptionReader, brief, options_of_methods
from qexp.tracking import EVENT_FILE, JsonLines, LayerLines, TensorBoard, make_progress
from qexp.utils import atomic
from qexp.utils.callback import Callback, EpochRecord
from qexp.utils.errors import QexpError
from qexp.utils.printing import mention, say
from qexp.utils.signals import StopRequest
from qexp.utils.text import plural

METRICS = "metrics.jsonl"


def train(
    path: Path,
    config: Config,
    parts: Parts,
    *,
    start: Path | None,
    float_net: FloatNet | None,
    console: Console,
    stop: StopRequest,
) -> dict[str, Any]:
    """Train one run inside its directory, from where it was interrupted, and return its summary.

    Args:
        path: the run directory, claimed.
        config: of the run.
        parts: of the run.
        start: the checkpoint to begin with.
        float_net: that it is held against; None for that of `start`, which is evaluated where it is not known.
        console: for progress.
        stop: asks for an early end.

    Raises:
        Interrupted: `stop` asked for it; the state is saved.
        QexpError: with one line for the user.
    """
    tell = partial(say, console)
    checkpointer = _checkpointer(path, config, tell)
    if is_new := checkpointer.found is None:
        _start_directory(path, config, tell)
    with determinism(config.deterministic), ExitStack() as closing:
        pretrained = _pretrained(path, config, parts, tell) if is_new and start is None else None
        session = Session(config, parts, checkpoint_file=start if is_new else None, pretrained=pretrained, stop=stop)
        closing.enter_context(considerate_waits())
        env = record_environment(path, config, session.device, tell)
        if not config.is_float:
            mention(console, session.coverage.line(), once=True)
        found = float_net or _float_net(path, session, start, tell)
        _say_how_it_begins(path, session, checkpointer, start, tell)
        meter = calibrated_meter(session, tell, is_new=is_new)
        callbacks = _callbacks(path, session, checkpointer, meter, console, closing)
        ready = _prepared_fit(session, callbacks, checkpointer, meter)
        with session.stop.deferred():
            last = with_new_norms(session, _said(ready(), session, tell), path, callbacks)
            firmness = session_firmness(session) if config.firmness else None
        summary = summarize(
            session.model,
            config,
            last,
            checkpointer,
            train_images=session.train_batches.num_images,
            float_net=found,
            env=env,
            coverage=session.coverage,
            firmness=firmness,
            pretrained=runs.read_json(path / RECORD),
        )
        for callback in callbacks:
            callback.finish(summary)
            callback.position()  # on the disk before the summary says that all is there
    runs.write_json(path / "summary.json", summary)
    try:
        strip_training_state(path)
    except QexpError as error:  # the result is whole, and only larger than it has to be
        tell(f"warning: {error}")
    return summary


def _pretrained(path: Path, config: Config, parts: Parts, tell: Callable[[str], None]) -> PretrainedStart | None:
    """Return the weights that the float network begins with, said and recorded; None for random ones."""
    if (found := pretrained_start(config, parts)) is not None:
        tell(found.line(parts.source.classes))
        runs.write_json(path / RECORD, found.as_data())
    return found


def _said(last: EpochRecord, session: Session, tell: Callable[[str], None]) -> EpochRecord:
    """Return the last record of a training; say where it ended early, and where batch norm may have spoiled it."""
    recipe = session.config.recipe
    if last.epoch < last.epochs:
        tell(f"stopped early: {plural(recipe.patience, 'epoch')} without a better held-out accuracy")
    assert last.hard is not None, "the last epoch always has an evaluation"
    found = unsettled_norms(last.train.top1, last.hard.top1, session.parts.source.classes)
    if found and not recipe.norm_batches and any(isinstance(one, _BatchNorm) for one in session.model.modules()):
        tell(found)
    return last


def _float_net(path: Path, session: Session, start: Path | None, tell: Callable[[str], None]) -> FloatNet:
    """Return the float net that a run started from, evaluated in the first of its processes if need be."""
    if (known := recorded_float_net(path)) is not None or start is None:
        return known or FloatNet()
    found = of_checkpoint(session.config, start, partial(evaluate_start, session, start))
    if found.top1 is not None:
        tell(f"starts from a float net of top-1 {found.top1:.2f} %: {found.source}")
    record_float_net(path, found)
    return found


def _checkpointer(path: Path, config: Config, tell: Callable[[str], None]) -> Checkpointer:
    often = config.checkpoint
    return Checkpointer(
        path,
        identity=config.identity,
        steps=often.steps,
        seconds=often.seconds,
        codes=quantizers.packed_codes,
        bits=quantizers.learned_bits,
        warn=tell,
    )


def _start_directory(path: Path, config: Config, tell: Callable[[str], None]) -> None:
    """Begin a run with its config.yaml alone."""
    if (path / "env.json").exists():  # its config.yaml is written before its float net is trained
        tell(f"{path} ended before its first checkpoint; it restarts")
    runs.clear(path, keep=("status.json",))
    atomic.write(path / "config.yaml", to_yaml(config.tree).encode())


def _prepared_fit(
    session: Session, callbacks: list[Callback], checkpointer: Checkpointer, meter: quantizers.OscillationMeter
) -> Callable[[], EpochRecord]:
    """Return `fit` with all its arguments."""
    config, model = session.config, session.model
    return partial(
        fit,
        model,
        session.mixed_batches,
        step=make_step(model, config.recipe, compiled=config.compile, own_schedule=own_schedule(config)),
        anneal=partial(quantizers.anneal, model),
        evaluate=partial(evaluate_session, session),
        held_out=partial(evaluate_held_out, session) if config.recipe.holdout else None,
        epochs=config.recipe.epochs,
        patience=config.recipe.patience,
        eval_interval=config.tracking.eval_interval,
        stuck_after=config.stuck_after,
        oscillation=meter,
        callbacks=callbacks,
        checkpointer=checkpointer,
        check_stop=session.stop.check,
    )


def _say_how_it_begins(
    path: Path, session: Session, checkpointer: Checkpointer, start: Path | None, tell: Callable[[str], None]
) -> None:
    _say_what_is_resumed(path, session, checkpointer, tell)
    _check_codes(path, session, checkpointer, start, tell)


def _say_what_is_resumed(path: Path, session: Session, checkpointer: Checkpointer, tell: Callable[[str], None]) -> None:
    """Say where a run resumes, and which of its logs are shorter than they were."""
    epochs, per_epoch = session.config.recipe.epochs, len(session.train_batches)
    if checkpointer.found:
        training = checkpointer.found["training"]
        done, ended = training["done"], training["epochs"]
        if EarlyStop(session.config.recipe.patience, *training.get("best_held_out", ())).ends(ended):
            tell(f"training had stopped early, after epoch {ended} of {epochs}; what comes after it is done now")
        else:
            epoch = min(done // per_epoch + 1, epochs)
            tell(f"resuming at step {done} of {epochs * per_epoch}, epoch {epoch} of {epochs}")
    for name, size in checkpointer.files.items():
        if not (path / name).is_file() or (path / name).stat().st_size < size:
            tell(f"warning: {path / name} is shorter than its checkpoint says; what it held is lost")


def _check_codes(
    path: Path, session: Session, checkpointer: Checkpointer, start: Path | None, tell: Callable[[str], None]
) -> None:
    """Say whether the network that training goes on from, or begins with, has other codes than its checkpoint says."""
    source, recorded = start, session.recorded_codes
    if checkpointer.found:
        source, recorded = path, weights.recorded_codes(checkpointer.found)
        weights.load_into(session.model, checkpointer.found["model"], str(path))
    if (session.is_calibrated or checkpointer.found) and (warning := code_warning(session.model, recorded, source)):
        tell(warning)


def _callbacks(
    path: Path,
    session: Session,
    checkpointer: Checkpointer,
    meter: quantizers.OscillationMeter,
    console: Console,
    closing: ExitStack,
) -> list[Callback]:
    """Return what watches a training, each to be closed by `closing`."""
    config, sizes = session.config, checkpointer.files
    callbacks: list[Callback] = []

    def add(one: Callback) -> None:
        callbacks.append(one)
        closing.callback(one.close)

    add(JsonLines(path / METRICS, sizes.get(METRICS, 0)))
    layers: LayerLines | None = None
    if not config.is_float:
        report, is_begun = partial(layer_report, session.model, meter), checkpointer.found is not None
        add(layers := LayerLines(path / LAYERS, sizes.get(LAYERS, 0), report=report, is_begun=is_begun))
    if config.tracking.tensorboard:
        add(_tensorboard(path, session, sizes.get(EVENT_FILE, 0), lambda: layers.values if layers else {}, console))
    epochs, per_epoch = config.recipe.epochs, len(session.train_batches)
    add(make_progress(console, path=path, epochs=epochs, steps=epochs * per_epoch))
    checkpointer.callbacks = tuple(callbacks)
    return callbacks


def _in_cells(options: Mapping[str, Any]) -> dict[str, int | float | str]:
    return {key: value if isinstance(value, int | float) else brief(value) for key, value in options.items()}


def _tensorboard(
    path: Path, session: Session, at: int, stats: Callable[[], Mapping[str, float]], console: Console
) -> TensorBoard:
    config, model = session.config, session.model
    flat = {key: value for key, value in OptionReader().options(config.tree).items() if value is not None}
    flat |= {
        "epochs": config.recipe.epochs,  # under their short names, as in the runs before
        "batch_size": config.recipe.batch_size,
        "lr": config.recipe.optimizer.weight.lr,
        **({} if config.width is None else {"width": config.width}),
    }
    return TensorBoard(
        path,
        at=at,
        config_text=to_yaml(config.tree),
        hyperparameters=_in_cells(flat),
        columns=_in_cells(options_of_methods()),
        step_interval=config.tracking.step_interval,
        histogram_interval=config.tracking.histogram_interval,
        stats=stats,
        weights=lambda: {
            name: p.detach() for name, p in model.named_parameters() if name.endswith("weight") and p.dim() > 1
        },
        pictures=partial(run_pictures, model, path, partial(say, console)) if config.tracking.figures else dict,
    )
