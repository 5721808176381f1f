"""Counts that stay on the device until they are read once."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qexp.utils.callback import Metrics


class Tally:
    """Sums of loss, penalty, and top-1 and top-5 hits over batches."""

    def __init__(self, device: torch.device):
        # Double precision: a float32 sum over 1.3 million images loses hits. MPS has no doubles.
        self.sums = torch.zeros(4, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        self.images = self.classes = 0

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor, loss: Tensor, penalty: Tensor | float = 0.0) -> None:
        """Add a batch: logits (N, classes), labels (N,), mean task loss and penalty.

        Of labels as probabilities (N, classes), which mixed images have, the larger one is the right answer.
        """
        if labels.dim() > 1:
            labels = labels.argmax(1)
        count, self.classes = len(labels), logits.shape[1]
        ranked = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
        if not isinstance(penalty, Tensor):
            penalty = loss.new_full((), penalty)
        batch = torch.stack([loss * count, penalty * count, ranked[:, 0].sum(), ranked.sum()])
        self.sums += batch.to(self.sums.dtype)
        self.images += count

    def state_dict(self) -> dict[str, Any]:
        """Return the sums and the number of images and classes."""
        return {"sums": self.sums, "images": self.images, "classes": self.classes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set them to what `state_dict` returned."""
        self.sums.copy_(state["sums"])
        self.images, self.classes = state["images"], state["classes"]

    def read(self) -> tuple[Metrics, float]:
        """Return (metrics, mean penalty); waits for the device."""
        loss, penalty, top1, top5 = (self.sums / max(self.images, 1)).tolist()
        return Metrics(loss, 100 * top1, 100 * top5, self.images), penalty


def without_tf32() -> AbstractContextManager[None]:
    """Return a context in which convolutions on CUDA keep all bits of float32; nothing else changes."""
    now = torch.backends.cudnn
    kept = {"enabled": now.enabled, "benchmark": now.benchmark, "deterministic": now.deterministic}
    return now.flags(**kept, allow_tf32=False)


@torch.inference_mode()
def measure_accuracy(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    hold: Callable[[], AbstractContextManager[None]] = nullcontext,
    watch: Callable[[Tensor], object] | None = None,
) -> Metrics:
    """Return loss (cross-entropy) and accuracy of `model` in evaluation mode over `batches`, computed in float32.

    Args:
        model: images to logits.
        batches: images and labels.
        hold: entered around all batches, for work on the weights that they share.
        watch: is given the logits of each batch.
    """
    was_training = model.training
    model.eval()
    tally = None
    # Compiled graphs are for training: fused operations round otherwise.
    with without_tf32(), torch.compiler.set_stance("force_eager"), hold():
        for images, labels in batches:
            tally = tally or Tally(images.device)
            logits = model(images)
            if watch is not None:
                watch(logits)
            exact = logits if logits.device.type == "mps" else logits.double()  # whatever the size of a batch
            tally.add(logits, labels, F.cross_entropy(exact, labels))
    model.train(was_training)
    if tally is None:
        raise ValueError("no images to evaluate on")
    return tally.read()[0]
