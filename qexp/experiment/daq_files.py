"""Checkpoints in the layout of the DAQ authors' code: checked tensor by tensor, and translated into our names.

The ResNet-20 files of the authors (Kim, Lee and Ham, Distance-aware Quantization, ICCV 2021, arXiv 2108.06983) hold
the network under `state_dict`. Their stages are called `layer1.block_0.0` instead of `layer1.0`, and each quantized
convolution is followed by its scalars:

    uW lW beta uA init         weights and activations are quantized
    uW lW beta uA init lA      only weights are; uA and lA are placeholders
    (none)                     the float network

`init` is a flag that is 0 after the first training batch. Every file has a batch normalisation `bn1`, which the
authors' network never applies. No file tells its bits.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from qexp.engine import weights
from qexp.quantizers.base import FLOAT_BITS
from qexp.utils.errors import UsageError
from qexp.utils.text import few

# A tensor of a quantized layer of ours -> its name behind the authors' layer.
SCALARS = {
    "weight_quantizer.lower": "lW",
    "weight_quantizer.upper": "uW",
    "input_quantizer.upper": "uA",
    "output_scale": "beta",
}
SIGNED = "input_quantizer.signed"  # ours alone: their activations always begin at 0
NORM = {"weight": 1, "bias": 1, "running_mean": 1, "running_var": 1, "num_batches_tracked": 0}  # dimensions


@dataclass(frozen=True)
class DaqFile:
    """A file of the DAQ authors' code, and what its keys tell."""

    path: Path
    tensors: Mapping[str, Tensor]
    has_weight_ranges: bool
    has_activation_ranges: bool

    @property
    def overrides(self) -> tuple[str, ...]:
        """What has to differ from conf/eval_daq.yaml for this file."""
        if not self.has_weight_ranges:
            return "quantizer=fp", f"bits={FLOAT_BITS}"
        return () if self.has_activation_ranges else (f"activation_bits={FLOAT_BITS}",)

    def check_bits(self, weight_bits: int, activation_bits: int) -> None:
        """Raise UsageError where bits are given for what the file leaves float, or the other way round."""
        for key, bits, has_ranges in (
            ("weight_bits", weight_bits, self.has_weight_ranges),
            ("activation_bits", activation_bits, self.has_activation_ranges),
        ):
            if has_ranges == (bits == FLOAT_BITS):
                fact, advice = ("holds", "must be 1 to 8") if has_ranges else ("holds no", f"must be {FLOAT_BITS}")
                side = key.removesuffix("_bits")
                raise UsageError(f"{key}={bits}: {advice}, because {self.path} {fact} {side} ranges")


@dataclass(frozen=True)
class Translation:
    """The state of our network that a file stands for.

    Attributes:
        state: in our names.
        unused: tensors of the file that the network does not need: their number by their name or its end.
    """

    state: dict[str, Tensor]
    unused: dict[str, int]


def read_daq(path: Path) -> DaqFile:
    """Read a file; its tensors are not yet compared with a network.

    Raises:
        UsageError: no such file, unsafe content, or no tensors under `state_dict`.
    """
    content = weights.load_file(path)
    if path.suffix == weights.SAFETENSORS:  # such a file has no place for anything besides the tensors
        content = {"state_dict": content}
    if not isinstance(content, dict) or "state_dict" not in content:
        found = few(sorted(map(str, content))) if isinstance(content, dict) else type(content).__name__
        raise UsageError(f"{path}: format=daq needs a dictionary with the key state_dict; found {found or 'nothing'}")
    tensors = content["state_dict"]
    if not isinstance(tensors, dict) or not tensors:
        raise UsageError(f"{path}: its state_dict holds no tensors")
    others = [str(key) for key, value in tensors.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others:
        raise UsageError(f"{path}: its state_dict holds what is no tensor with a name: {few(sorted(others))}")
    last_parts = {key.rpartition(".")[2] for key in tensors}
    has_weight_ranges = not last_parts.isdisjoint({*SCALARS.values(), "init", "lA"})
    return DaqFile(path, tensors, has_weight_ranges, has_weight_ranges and "lA" not in last_parts)


def authors_name(key: str) -> str:
    """Return what the authors call a tensor of our `resnet20_daq`, quantized or not."""
    name = re.sub(r"^(layer\d)\.(\d)\.", r"\1.block_\2.0.", key)
    for ours, theirs in SCALARS.items():
        if name.endswith(f".{ours}"):
            return name.removesuffix(ours) + theirs
    return name


def translate(file: DaqFile, own: Mapping[str, Tensor]) -> Translation:
    """Compare a file with the network it is for, and translate it.

    Args:
        file: as read.
        own: the state dict of our network; only its keys and shapes are used.

    Raises:
        UsageError: missing or unexpected keys, other shapes, or layers that were never trained.
    """
    names = {key: authors_name(key) for key in own if not key.endswith(SIGNED)}
    unused = _unused(file, names.values(), own["conv1.weight"].shape[:1])
    expected = {name: own[key].shape for key, name in names.items()}
    for shapes in unused.values():
        expected |= shapes
    if problems := weights.key_differences(expected, file.tensors):
        raise UsageError(f"{file.path}: not the layout of the DAQ authors' ResNet-20; {problems}")
    if untrained := [name for name in unused["init"] if file.tensors[name] != 0]:
        raise UsageError(f"{file.path}: saved before its first training batch; not 0: {few(sorted(untrained))}")
    state = {key: file.tensors[name] for key, name in names.items()}
    state |= {key: torch.zeros(()) for key in own if key.endswith(SIGNED)}
    return Translation(state, {kind: len(shapes) for kind, shapes in unused.items() if shapes})


def _unused(file: DaqFile, names: Iterable[str], channels: torch.Size) -> dict[str, dict[str, torch.Size]]:
    """Return the shapes of what the layout has and our network has not, by kind; `channels` are those of `bn1`."""
    layers = [name.removesuffix("beta") for name in names if name.endswith(".beta")]
    ends = ("init",) if file.has_activation_ranges else ("init", "uA", "lA")
    return {
        "bn1": {f"bn1.{part}": channels[:dimensions] for part, dimensions in NORM.items()},
        **{end: {f"{layer}{end}": torch.Size() for layer in layers} for end in ends},
    }
