"""What the sections of a configuration name: a class or function of qexp's or the user's own, and its options.

Nothing heavy is imported for a part that does not need it: torchvision, which data sets need, takes as long as torch.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from qexp import quantizers
from qexp.config import schema
from qexp.config.schema import Invalid, Problem
from qexp.config.sections import PLACES, Section
from qexp.config.trust import is_own

_OF_DATA = ["classes", "channels", "image_size"]  # the first parameters of every model


def resolve(section: Section, key: str) -> tuple[Callable, dict[str, Any]]:
    """Return the class or function that a section names, and its checked options.

    Raises:
        Invalid: no such thing in the part of qexp that is for it, or in a package of the user's own that is trusted;
            or options that do not fit it.
    """
    if is_own(section.target):
        from qexp.experiment.own_parts import own_part

        own = own_part(key, section.target)
        return own, schema.parse(own, section.options, key)
    module, _, attribute = section.target.rpartition(".")
    try:
        if not section.target.startswith(PLACES[key]):
            raise ImportError("it lies elsewhere")
        target = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Invalid([Problem(f"{key}._target_", f"cannot be imported ({error})", section.target)]) from error
    if not _is_a(key, target) or not target.__module__.startswith(PLACES[key]):
        raise Invalid([Problem(f"{key}._target_", f"must name a {key} in {PLACES[key][:-1]}", section.target)])
    return target, schema.parse(target, section.options, key)


def _is_a(key: str, target: Any) -> bool:
    """Whether `target` can stand for a dataset, a model or a quantizer."""
    if key == "model":
        return inspect.isfunction(target) and list(inspect.signature(target).parameters)[:3] == _OF_DATA
    kind: type = quantizers.Method
    if key == "dataset":
        from qexp.data.datasets import Source

        kind = Source
    return isinstance(target, type) and issubclass(target, kind) and not inspect.isabstract(target)
