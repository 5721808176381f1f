"""Statistics of batch norm, estimated again for the network as it is quantized (Nagel et al., ICML 2022)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase


def _batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms that keep running statistics; instance norm has no plain average (momentum of None)."""
    return [one for one in model.modules() if isinstance(one, _BatchNorm) and one.running_mean is not None]


def has_running_statistics(model: nn.Module) -> bool:
    """Whether there is anything to estimate."""
    return bool(_batch_norms(model))


@contextmanager
def kept_norms(model: nn.Module) -> Iterator[None]:
    """Put running statistics back, at the end of the block, to what they were before it."""
    norms = [one for one in model.modules() if isinstance(one, _NormBase)]
    saved = [(norm, {name: buffer.clone() for name, buffer in norm.named_buffers()}) for norm in norms]
    try:
        yield
    finally:
        with torch.no_grad():
            for norm, buffers in saved:
                for name, buffer in norm.named_buffers():
                    buffer.copy_(buffers[name])


@torch.no_grad()
def reestimate_norms(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set all running statistics to the plain average of those of `batches`, in place.

    Everything else is as in evaluation: quantizers are hard, nothing is dropped; afterwards all is in evaluation mode.

    Args:
        model: images to logits.
        batches: training images (B, C, H, W).
    """
    norms = _batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    model.eval()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # of torch's: a cumulative average
            norm.train()
        for images in batches:
            model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
