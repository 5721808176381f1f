"""Finds every method by itself: one YAML file in conf/quantizer is one method."""

import copy
from pathlib import Path

import torch
import yaml
from omegaconf import OmegaConf

from qexp.config.config import Section
from qexp.config.places import conf_dir
from qexp.experiment.named_parts import resolve
from qexp.quantizers import LayerInfo, Method, Quantizer

GOLDEN = Path(__file__).parents[1] / "golden"


def method(name: str, **changes: object) -> Method:
    """The method of conf/quantizer/<name>.yaml, with some options changed; `dqa grid=sawb` changes one by its name."""
    name, *words = name.split()
    changes = {key: yaml.safe_load(value) for key, value in (word.split("=") for word in words)} | changes
    raw = OmegaConf.to_container(OmegaConf.load(conf_dir() / "quantizer" / f"{name}.yaml"))
    target = raw.pop("_target_")
    options = {key: value for key, value in raw.items() if key != "name" and not key.startswith("default_")}
    make, options = resolve(Section(name, target, options | changes), "quantizer")
    return make(**options)


NAMES = sorted(path.stem for path in (conf_dir() / "quantizer").glob("*.yaml"))


def all_sites() -> list[tuple[str, str, int]]:
    """(method, side, bits) for everything that any method declares."""
    sites = []
    for name in NAMES:
        sites += [(name, "weight", bits) for bits in method(name).weight_bits]
        sites += [(name, "activation", bits) for bits in method(name).activation_bits]
    return sites + VARIANTS


# Grids other than the default one, at some bit-widths; the mixes are those of the DQA paper's tables.
VARIANTS = [
    *[(f"{name} grid=sawb", "weight", bits) for name in ("ste", "br", "dqa") for bits in (2, 4)],
    *[(f"{name} grid=twn", "weight", 2) for name in ("ste", "br", "dqa")],
    *[(f"{name} activation_grid=pact", "activation", bits) for name in ("ste", "br", "dqa") for bits in (1, 2, 4)],
    ("ste grid=bwn", "weight", 1),
    ("ste grid=sawb sawb=formula", "weight", 2),
    ("dqa mix=[bwn@1,twn@2,fp]", "weight", 1),
    ("br mix=[minmax@2,fp]", "weight", 2),
    ("br mix=[minmax@2,fp]", "activation", 2),
    ("br mix=[sawb@2,fp] activation_mix=[pact@2,fp]", "activation", 2),
    *[("rq straight_through=true", side, bits) for side in ("weight", "activation") for bits in (1, 2, 4)],
    *[("rq neighbours=null temperature_end=0.5", side, bits) for side in ("weight", "activation") for bits in (2, 4)],
    *[("srq backward=all", "weight", bits) for bits in (2, 5)],
    *[("srq activation_backward=mode", "activation", bits) for bits in (1, 2, 5)],
    ("srq grid=full", "weight", 2),
    ("dropbits sharing=points backward=all", "weight", 3),
    *[("dropbits learn_bits=true", "weight", bits) for bits in (3, 4, 8)],
    ("dropbits learn_bits=true mask_backward=mode", "weight", 4),
]


# Ranges by output channel: what `sample` draws must have the shape that they are built for.
BY_CHANNEL = [
    *[(f"{name} granularity=channel", "weight", bits) for name in ("ste", "br", "dqa", "daq") for bits in (1, 2, 3, 8)],
    *[(f"{name} grid=twn granularity=channel", "weight", 2) for name in ("ste", "br", "dqa")],
    ("ste grid=bwn granularity=channel", "weight", 1),
    ("dqa mix=[bwn@1,twn@2,fp] granularity=channel", "weight", 1),
]


def usual_bits(name: str, side: str = "weight") -> int:
    """A bit-width that a method declares, 2 if that is one of them."""
    declared = list(getattr(method(name), f"{side}_bits"))
    return 2 if 2 in declared else declared[0]


SHAPE = (8, 4, 3, 3)


def build(name: str, side: str, bits: int, *, shape: tuple[int, ...] = SHAPE, **changes: object) -> Quantizer:
    """A new quantizer of a method, for a weight of this shape whose output channels come first."""
    layer = LayerInfo(channel_shape=(shape[0], *[1] * (len(shape) - 1)))
    return getattr(method(name, **changes), side)(bits, layer)


def sample(side: str, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Weights are normal; layer inputs are normal values after a ReLU."""
    values = torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return values * 0.1 if side == "weight" else values.relu()


def frozen(quantizer: Quantizer) -> Quantizer:
    """A copy in evaluation mode."""
    return copy.deepcopy(quantizer).eval()
