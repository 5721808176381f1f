"""The classification networks of torchvision and timm, for the images and classes of a data set.

A network is a word that is looked up in its library's list; no other form of a name is taken, so that nothing is
fetched and nothing of a stranger's is imported. Initial weights are the library's random ones; those that it publishes
are in library_weights.py.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models

from qexp.utils.errors import UsageError
from qexp.utils.text import close_words

INSTALL = "timm is not installed (pip install 'qexp[timm]')"
SHRINKS = "; most networks of such a library make images 32 times smaller: larger images may help"
_OF_WEIGHTS_ONLY = ("googlenet", "inception_v3")  # which take images otherwise where they have published weights


def torchvision_network(
    classes: int, channels: int, image_size: int, *, network: str, pretrained: str | None = None
) -> nn.Module:
    """Build a network of torchvision, with random weights.

    Args:
        classes: number of outputs.
        channels: of the images; where they are not 3, the first convolution is made for them.
        image_size: height and width in pixels, for those networks that have to know it.
        network: its name in `torchvision.models`.
        pretrained: the weights that it begins with, which are loaded later.

    Raises:
        UsageError: no such network.
    """
    check_network_name("torchvision", network)
    options: dict[str, Any] = {}
    if network in _OF_WEIGHTS_ONLY:  # heads for training alone are left out, as torchvision does with weights
        options = {"aux_logits": False, "init_weights": True, "transform_input": pretrained is not None}
    elif network.startswith("vit_"):
        options = {"image_size": image_size}
    elif network.startswith("maxvit"):
        options = {"input_size": (image_size, image_size)}
    model = _built(lambda: models.get_model(network, weights=None, num_classes=classes, **options))
    if channels != 3:
        _set_channels(model, channels)
    return model


def timm_network(
    classes: int, channels: int, image_size: int, *, network: str, pretrained: str | None = None
) -> nn.Module:
    """Build a network of timm, with random weights; arguments and errors as for `torchvision_network`."""
    check_network_name("timm", network)
    timm = import_timm()
    published = timm.get_pretrained_cfg(network)
    options = {"img_size": image_size} if published is not None and published.fixed_input_size else {}
    make: Callable[[], nn.Module] = lambda: timm.create_model(  # noqa: E731
        network, pretrained=False, num_classes=classes, in_chans=channels, **options
    )
    return _built(make)


def network_names(library: str) -> list[str]:
    """Return the names of a library's classification networks; raise UsageError without it."""
    if library == "torchvision":
        return list(models.list_models(module=models))
    return list(import_timm().list_models())


def check_network_name(library: str, network: str) -> None:
    """Raise UsageError for a name that is not in a library's list."""
    known = network_names(library)
    if network in known:
        return
    plain, dot, tag = network.partition(".")
    if dot and plain in known:
        hint = f"; model.network={plain} model.pretrained={tag} names weights of it"
    else:
        hint = close_words(network, known)
        hint += f"; qexp models {library} lists {'the' if hint else 'all'} {len(known):,}"
    raise UsageError(f"model.network={network}: {library} has no such classification network{hint}")


def import_timm() -> Any:
    """Return the package timm; raise UsageError where it is not installed."""
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        if error.name not in (None, "timm"):
            raise UsageError(f"model=timm: timm cannot be imported ({error})") from error
        raise UsageError(f"model=timm: {INSTALL}") from error


class _NoMemory(TorchFunctionMode):
    """Makes the tensors of layers without memory, and others as usual: RegNets work out their widths with tensors."""

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.empty and (kwargs or {}).get("device") is None:
            kwargs = {**(kwargs or {}), "device": "meta"}
        return func(*args, **(kwargs or {}))


def _built(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a network; under `torch.device("meta")` one without memory."""
    if not torch.empty(0).is_meta:
        return make()
    with torch.device("cpu"), _NoMemory():
        return make().to("meta")


def _set_channels(model: nn.Module, channels: int) -> None:
    """Put a convolution for images of so many channels in the place of the first one, with random weights."""
    name, first = next((name, one) for name, one in model.named_modules() if isinstance(one, nn.Conv2d))
    assert first.in_channels == 3, "every network of torchvision begins with such a convolution"  # noqa: PT018
    kept = ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    options = {key: getattr(first, key) for key in kept}
    made = nn.Conv2d(channels, bias=first.bias is not None, **options)
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, made)
