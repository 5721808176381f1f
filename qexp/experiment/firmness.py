"""Firmness: how much of an accuracy hangs on the rounding of weights that lie on a threshold.

Which side such a weight takes is decided by the last bit of its arithmetic. So each takes it by coin, several times,
and what the accuracies and predictions of the draws have in common is what the training gave. Once more with batch-norm
statistics estimated for the codes of each draw: those of the training fit other codes (Nagel et al., ICML 2022).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from qexp.engine.metrics import measure_accuracy
from qexp.experiment.session import Session
from qexp.quantizers import (
    NearestThreshold,
    crowds,
    drawn_codes,
    hard_evaluation,
    has_running_statistics,
    kept_norms,
    nearest_thresholds,
    reestimate_norms,
)

DRAWN = 1e-6  # steps from a threshold: the weights within them take their sides by coin
DRAWS = 5
NORM_BATCHES = 10  # training batches that statistics are averaged over

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
Codes = Mapping[str, Tensor]
Each = Callable[[Sequence[Any]], Iterable[Any]]
Outcome = tuple[float, Tensor]  # top-1 in percent, and the predicted classes


def session_firmness(session: Session, each: Each = iter) -> dict[str, Any] | None:
    """Return the firmness of the network of a session on its test images; raises Interrupted.

    Args:
        session: with its images.
        each: yields what is to be evaluated, and may show how far that is.
    """
    stop = session.stop
    return measure_firmness(
        session.model,
        lambda: stop.pausing(session.test_batches.epoch(0)),
        lambda: stop.pausing(islice(session.train_batches.epoch(0), NORM_BATCHES)),
        each=each,
    )


def measure_firmness(
    model: nn.Module, test: Batches, train: Batches, *, draws: int = DRAWS, seed: int = 0, each: Each = iter
) -> dict[str, Any] | None:
    """Return what `qexp eval --firmness` tells, as data; None where no weights are quantized. `model` stays as it is.

    Accuracies and `changed`, the share of predictions that differ from those of the network as it is (mean over the
    draws), are in percent, `spread` is in points: largest minus smallest top-1, that of the network as it is included.
    No draws are made, and the spread is 0, where no weight is within DRAWN.

    Args:
        model: with its quantizers.
        test: images and labels to measure accuracy on, each time it is called.
        train: a few training batches, for batch-norm statistics.
        draws: how often the weights take their sides.
        seed: of the coins.
        each: yields what is to be evaluated, and may show how far that is.
    """
    layers = nearest_thresholds(model)
    if not layers:
        return None
    counts = {name: _counts([near]) for name, near in layers.items()}
    found = {**_counts(list(layers.values())), "layers": counts, "seed": seed}
    own = drawn_codes(layers, DRAWN, None)
    if not own:
        return {**found, "draws": 0, "spread": 0.0, "drawn": None, "reestimated": None}
    coins = torch.Generator().manual_seed(seed)
    drawn = [drawn_codes(layers, DRAWN, coins) for _ in range(draws)]
    estimates = [None, train] if has_running_statistics(model) else [None]
    jobs = [(codes, batches) for batches in estimates for codes in (own, *drawn)]
    outcomes = [_evaluated(model, test, codes, batches) for codes, batches in each(jobs)]
    as_trained, again = _statistics(outcomes[: draws + 1]), outcomes[draws + 1 :]
    reestimated = _statistics(again) if again else None
    return {**found, "draws": draws, "spread": as_trained["spread"], "drawn": as_trained, "reestimated": reestimated}


def _counts(layers: Sequence[NearestThreshold]) -> dict[str, int]:
    return {"weights": sum(layer.codes.numel() for layer in layers), **crowds(layers)}


def _statistics(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what the draws gave; the first outcome is that of the network as it is."""
    (undrawn, predicted), *drawn = outcomes
    top1 = [accuracy for accuracy, _ in drawn]
    changed = [100 * int((predictions != predicted).sum()) / len(predicted) for _, predictions in drawn]
    return {
        "top1_hard": undrawn,
        "mean": fmean(top1),
        "smallest": min(top1),
        "largest": max(top1),
        "changed": fmean(changed),
        "spread": max(undrawn, *top1) - min(undrawn, *top1),
        "top1": top1,
    }


def _evaluated(model: nn.Module, test: Batches, codes: Codes, train: Batches | None) -> Outcome:
    predictions: list[Tensor] = []
    metrics = measure_accuracy(
        model, test(), partial(_with_codes, model, codes, train), lambda logits: predictions.append(logits.argmax(1))
    )
    return metrics.top1, torch.cat(predictions)


@contextmanager
def _with_codes(model: nn.Module, codes: Codes, train: Batches | None) -> Iterator[None]:
    with kept_norms(model), hard_evaluation(model, codes):
        if train is not None:
            reestimate_norms(model, (images for images, _ in train()))
        yield
