"""Sources of images as their YAML files describe them."""

from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import OmegaConf

from qexp.config.schema import parse
from qexp.data.datasets import Source

CONF = Path(__file__).parents[2] / "conf" / "dataset"


def source(name: str, **changes: Any) -> Source:
    """Build a source from its YAML file."""
    options: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    target = get_class(options.pop("_target_"))
    assert options.pop("name") == name == target.name
    return target(**parse(target, {**options, **changes}))
