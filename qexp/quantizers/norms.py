"""Statistics of batch norm, estimated again for the network as it is quantized (Nagel et al., ICML 2022)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def _norms(model: nn.Module) -> list[nn.modules.batchnorm._NormBase]:
    """Return the normalizations that keep running statistics."""
    found = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    return [norm for norm in found if norm.running_mean is not None]


def has_running_statistics(model: nn.Module) -> bool:
    """Whether there is anything to estimate."""
    return bool(_norms(model))


@contextmanager
def kept_norms(model: nn.Module) -> Iterator[None]:
    """Put running statistics back, at the end of the block, to what they were before it."""
    saved = [(norm, {name: buffer.clone() for name, buffer in norm.named_buffers()}) for norm in _norms(model)]
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
    norms = _norms(model)
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
