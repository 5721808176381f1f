"""Batch-norm re-estimation: the statistics of the network as it is when hard, averaged over training images.

Running statistics follow the network while its codes change, and at the end belong to none of them: Nagel et al.,
"Overcoming Oscillations in Quantization-Aware Training", ICML 2022 (arXiv 2203.11086).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from torch import Tensor, nn

from qexp import quantizers
from qexp.engine.checkpointer import replace_network
from qexp.engine.metrics import without_tf32
from qexp.experiment.evaluate import evaluate_session
from qexp.experiment.session import Session
from qexp.utils.callback import Callback, EpochRecord
from qexp.utils.errors import Diverged


def with_new_norms(session: Session, last: EpochRecord, path: Path, callbacks: Sequence[Callback]) -> EpochRecord:
    """Estimate batch norm again, if the recipe says so; return the last record, then evaluated again.

    What comes of it hangs on weights, ranges and the seed, and not on the statistics before: a run that is killed
    meanwhile, or after it, does it again.

    Args:
        session: with the trained network.
        last: the record of the last epoch.
        path: the run directory, whose last.pt gets the new network.
        callbacks: are told.

    Raises:
        Interrupted: the state before is saved.
        Diverged: the loss is not finite with the new statistics.
    """
    recipe = session.config.recipe
    if not recipe.norm_batches or not quantizers.has_running_statistics(session.model):
        return last
    estimate_norms(session.model, session.stop.pausing(_batches_after(session, recipe.epochs, recipe.norm_batches)))
    hard, soft = evaluate_session(session)
    if not math.isfinite(hard.loss):
        raise Diverged(f"diverged when batch norm was estimated again: the test loss is {hard.loss:g}")
    assert last.hard is not None and last.soft is not None, "the last epoch always has an evaluation"  # noqa: PT018
    before = {"top1_hard": last.hard.top1, "top1_soft": last.soft.top1}
    record = replace(last, hard=hard, soft=soft, before_norm=before)
    for callback in callbacks:
        callback.after_norm(record)
    replace_network(path, session.model, hard.top1)
    return record


def _batches_after(session: Session, epoch: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield so many batches of training images, from the beginning of an epoch on."""
    while count > 0:
        for batch in islice(session.train_batches.epoch(epoch), count):
            count -= 1
            yield batch
        epoch += 1


def estimate_norms(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Set the running statistics of all batch norms to their plain averages over batches that the hard network sees.

    Args:
        model: images to logits.
        batches: images (N, C, H, W) and labels, which play no part.
    """
    was_training = model.training
    try:
        with without_tf32(), quantizers.hard_evaluation(model.eval()):
            quantizers.reestimate_norms(model, (images for images, _ in batches))
    finally:
        model.train(was_training)
