"""Evaluate a network, hard and soft: under training, of a finished run, or of a file that authors published."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qexp import quantizers, runs
from qexp.config.compose import Composer
from qexp.config.config import Config
from qexp.config.schema import Invalid
from qexp.engine import weights
from qexp.engine.metrics import measure_accuracy
from qexp.experiment.build import assemble, build_network, load_float
from qexp.experiment.code_check import codes_as_data
from qexp.experiment.daq_files import DaqFile, Translation, translate
from qexp.experiment.device import place
from qexp.experiment.firmness import Each, session_firmness
from qexp.experiment.own_code import changed_code
from qexp.experiment.preflight import check_evaluation
from qexp.experiment.session import Session
from qexp.experiment.summary import present_bits
from qexp.experiment.threads import considerate_waits
from qexp.utils.callback import Metrics


def evaluate_hard(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Metrics:
    """Return metrics of the quantized network; weights are quantized once."""
    return measure_accuracy(model, batches, partial(quantizers.hard_evaluation, model))


def evaluate_both(model: nn.Module, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> tuple[Metrics, Metrics]:
    """Return (hard, soft) metrics; they are one object where the method has no soft form."""
    hard = evaluate_hard(model, batches())
    if not quantizers.has_soft_form(model):
        return hard, hard
    with quantizers.evaluation(model, "soft"):
        return hard, measure_accuracy(model, batches(), partial(quantizers.cached_weights, model))


def evaluate_session(session: Session) -> tuple[Metrics, Metrics]:
    """Return (hard, soft) metrics on the test images of a session; raises Interrupted."""
    return evaluate_both(session.model, lambda: session.stop.pausing(session.test_batches.epoch(0)))


def evaluate_start(session: Session, file: Path) -> float | None:
    """Return top-1 on the test images, in percent, of the float network in a file; None where it is quantized."""
    state = weights.load_network(file).state
    if weights.holds_quantizers(state):
        return None
    config, model = session.config, load_float(session.parts, state, str(file))
    return evaluate_hard(place(model, config, session.device), session.stop.pausing(session.test_batches.epoch(0))).top1


def evaluate_held_out(session: Session) -> Metrics:
    """Return hard metrics on the images that a session holds out of training; raises Interrupted."""
    return evaluate_hard(session.model, session.stop.pausing(session.held_out_batches.epoch(0)))


def evaluate_run(
    config: Config, path: Path, checkpoint: str, *, firmness: bool = False, each: Each = iter
) -> dict[str, Any]:
    """Return what a checkpoint of a run gives on the test images, soft and hard.

    Args:
        config: of the run, with the changes for this evaluation.
        path: the run directory.
        checkpoint: `last` or `best`.
        firmness: measure that as well.
        each: yields what is to be evaluated for it, and may show how far that is.

    Raises:
        UsageError: the checkpoint does not fit, or there are no images.
        Invalid: options that do not fit.
    """
    parts = assemble(config)
    check_evaluation(config, parts)
    session = Session(config, parts, checkpoint_file=path / f"{checkpoint}.pt")
    recorded = runs.read_summary(path) or {}
    return {
        "run": str(path),
        "checkpoint": checkpoint,
        **_configured(config),
        **_measured(session, each if firmness else None),
        **({"code_changed": changed} if (changed := changed_code(path, config)) else {}),
        "recorded_top1_hard": recorded.get("top1_hard" if checkpoint == "last" else "best_top1_hard"),
    }


def published_config(composer: Composer, file: DaqFile, words: Sequence[str]) -> Config:
    """Return the configuration of a published network, by what its file tells and `words`; raise Invalid."""
    job = composer.job((*file.overrides, *words))
    if job.config is None:
        raise Invalid(list(job.problems))
    return job.config


def evaluate_published(config: Config, file: DaqFile, *, each: Each = iter) -> dict[str, Any]:
    """Return what a published network gives on the test images, and how firm that is; raise as `evaluate_run`."""
    session, translation = open_published(config, file)
    return {
        "file": str(file.path),
        "format": "daq",
        **_configured(config),
        **_measured(session, each),
        "mean": config.dataset.options["mean"],
        "std": config.dataset.options["std"],
        "tensors": len(file.tensors),
        "unused_tensors": translation.unused,
    }


def open_published(config: Config, file: DaqFile) -> tuple[Session, Translation]:
    """Return the network of a file with the images to evaluate it on.

    Args:
        config: of the authors' network.
        file: as read.

    Raises:
        UsageError: the file does not fit, or there are no images.
        Invalid: options that do not fit.
    """
    file.check_bits(config.weight_bits, config.activation_bits)
    parts = assemble(config)
    check_evaluation(config, parts)
    with torch.device("meta"):
        own = build_network(config, parts).state_dict()
    translation = translate(file, own)  # before the images, which may have to be downloaded
    session = Session(config, parts)
    weights.load_into(session.model, translation.state, str(file.path))
    return session, translation


def _configured(config: Config) -> dict[str, Any]:
    return {
        "quantizer": config.quantizer.name,
        "weight_bits": config.weight_bits,
        "activation_bits": config.activation_bits,
    }


def _measured(session: Session, each: Each | None) -> dict[str, Any]:
    with considerate_waits():
        hard, soft = evaluate_session(session)
        found = {} if each is None else {"firmness": session_firmness(session, each)}
    return {
        **codes_as_data(session.model, session.recorded_codes),
        **present_bits(session.model, session.config, session.coverage),
        "dataset": session.config.dataset.name,
        "test_images": hard.images,
        "correct": hard.correct,
        "top1_hard": hard.top1,
        "top5_hard": hard.top5,
        "top1_soft": soft.top1,
        "quantizer_gap": soft.top1 - hard.top1,
        "test_loss": hard.loss,
        **found,
    }
