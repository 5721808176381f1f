"""Try a network without memory for it: can it be built, and does it take the images it is to be trained on?"""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

from qexp.utils.errors import UsageError

_RAISED = (ValueError, TypeError, RuntimeError, MemoryError, OverflowError)  # of sizes, by torch and Python


class DoesNotFit(UsageError):
    """A network that cannot be built, does not take its images, or fits no memory; the text says so in one line."""


def piece_sizes(images: int, batch_size: int, accumulate: int) -> tuple[int, int]:
    """Return the smallest and the largest number of images that a network sees at once in training.

    Args:
        images: how many there are; a last batch of a single one is left out.
        batch_size: images per batch.
        accumulate: parts that a batch is cut into.
    """
    sizes = {batch_size} | ({rest} if (rest := images % batch_size) > 1 else set())
    pieces = [size // max(1, min(accumulate, size // 2)) for size in sizes]
    return min(pieces), max(pieces)


def try_batches(build: Callable[[], nn.Module], sizes: tuple[int, int], channels: int, image_size: int) -> None:
    """Raise DoesNotFit if a network cannot be trained on batches of these sizes.

    Args:
        build: makes the network.
        sizes: numbers of images in the smallest and in the largest batch.
        channels: of the images.
        image_size: in pixels.
    """
    smallest, largest = sizes
    per_image = [channels * image_size**2]

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            per_image.append(output.numel() // smallest)

    with torch.device("meta"):
        try:
            model = build().train()
            for module in model.modules():
                module.register_forward_hook(note)
        except _RAISED as error:
            raise DoesNotFit(f"cannot be built ({_first_line(error)})") from error
        try:
            model(torch.empty(smallest, channels, image_size, image_size))
        except _RAISED as error:
            batch = f"{smallest} image{'' if smallest == 1 else 's'} of {image_size}x{image_size} pixels"
            advice = "; take a larger recipe.batch_size" if smallest == 1 else ""
            raise DoesNotFit(f"cannot train on a batch of {batch} ({_first_line(error)}){advice}") from error
    check_memory(4 * sum(parameter.numel() for parameter in model.parameters()), "its weights")
    check_memory(4 * largest * max(per_image), f"a batch of {largest} images")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def check_memory(needed: float, what: str) -> None:
    """Raise DoesNotFit if `what` is sure to take more memory than this machine has."""
    if needed > (has := machine_memory()):
        raise DoesNotFit(f"{what} would take {needed / 1e9:,.0f} GB of memory, and this machine has {has / 1e9:,.0f}")


def machine_memory() -> float:
    """Return the bytes of memory of this machine; infinity where it does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")
