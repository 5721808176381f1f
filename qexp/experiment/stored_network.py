"""The network of a run from its checkpoint alone: no data set is read, and nothing is evaluated."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from yaml import YAMLError

from qexp.config.compose import composing
from qexp.config.config import Config, recorded_config
from qexp.config.identity import RUNTIME, with_younger_options
from qexp.config.schema import Invalid
from qexp.config.yaml_files import load_yaml
from qexp.engine import weights
from qexp.experiment.build import assemble, build_covered
from qexp.experiment.own_code import check_trust
from qexp.quantizers import Coverage, present_coverage
from qexp.quantizers.reach import layers_of
from qexp.quantizers.sizes import layer_sizes
from qexp.utils.errors import UsageError
from qexp.utils.text import one_line


@dataclass(frozen=True)
class StoredNetwork:
    """A network as a checkpoint has it.

    Attributes:
        config: of its run.
        model: in evaluation mode, on the CPU.
        coverage: what of it is quantized, with the bits that its layers have now.
    """

    config: Config
    model: nn.Module
    coverage: Coverage


def stored_network(path: Path, command: str, checkpoint: str = "last") -> StoredNetwork:
    """Return the network of a run.

    Args:
        path: the run directory.
        command: that asks for it, for a message where code of the user's own is not trusted.
        checkpoint: `last` or `best`.

    Raises:
        UsageError: no such checkpoint, a damaged one, or a configuration that cannot be built.
    """
    config, file = stored_config(path, command), path / f"{checkpoint}.pt"
    state = weights.load_network(file).state
    try:
        model, coverage = build_covered(config, assemble(config), state, source=str(file))
    except Invalid as error:
        raise UsageError(f"{path}: {'; '.join(map(str, error.problems))}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    return StoredNetwork(config, model.eval(), present_coverage(model, coverage))


def stored_config(path: Path, command: str) -> Config:
    """Return the configuration that a run left; options that are younger than it have their usual values.

    Args:
        path: the run directory.
        command: as for `stored_network`.

    Raises:
        UsageError: it cannot be read, is none, or has parts of packages that are not trusted.
    """
    try:
        tree = with_younger_options(load_yaml(path / "config.yaml"))
        with composing() as composer:
            usual: Mapping[str, Any] = composer.job(()).tree
        config = recorded_config({**{key: usual[key] for key in RUNTIME}, **tree})
    except Invalid as error:
        raise UsageError(f"{path}: {'; '.join(map(str, error.problems))}") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, YAMLError) as error:
        raise UsageError(
            f"{path}: is not the record of a run ({one_line(str(error).partition(chr(10))[0])})"
        ) from error
    check_trust(config, path, command)
    return config


def multiplications(config: Config) -> dict[str, int]:
    """Return layer -> multiply-accumulates for one image, of all convolutions and linear layers of a network.

    Args:
        config: of a run.

    Raises:
        UsageError: it cannot be built.
    """
    try:
        parts = assemble(config)
        with torch.device("meta"):  # shapes are all that counts
            model = parts.build_model()
            sample = torch.zeros(1, parts.source.channels, parts.source.image_size, parts.source.image_size)
            sizes = layer_sizes(model, layers_of(model), sample)
    except Invalid as error:
        raise UsageError("; ".join(map(str, error.problems))) from error
    except ValueError as error:
        raise UsageError(f"model={config.model.name}: {error}") from error
    return {name: size.multiplications for name, size in sizes.items()}
