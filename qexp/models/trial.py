"""Try a network without memory for it: can it be built, and does it take the images it is to be trained on?"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_CANNOT = (ValueError, TypeError, RuntimeError, MemoryError, OverflowError)  # what torch and Python raise of sizes


class DoesNotFit(ValueError):
    """A network that cannot be built, or does not take its images; the text is one line that says why."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that the parameters of a network take, and the largest of the tensors that it makes of one image."""

    weights: int
    image: int


def footprint(build: Callable[[], nn.Module], images: int, channels: int, image_size: int) -> Footprint:
    """Return the footprint of a network in training.

    Args:
        build: makes the network.
        images: how many there are in a batch.
        channels: of the images.
        image_size: in pixels.

    Raises:
        DoesNotFit: it cannot be built, or does not train on such a batch.
    """
    sizes = [channels * image_size**2]

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() // images)

    try:
        with torch.device("meta"):
            model = build().train()
            for module in model.modules():
                module.register_forward_hook(note)
            model(torch.empty(images, channels, image_size, image_size))
    except _CANNOT as error:
        raise DoesNotFit(next(iter(str(error).splitlines()), type(error).__name__)) from error
    return Footprint(4 * sum(parameter.numel() for parameter in model.parameters()), 4 * max(sizes))


def machine_memory() -> float:
    """Return the bytes of memory of this machine; infinity where it does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")
