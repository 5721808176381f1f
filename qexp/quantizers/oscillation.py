"""How codes move: which change, and which turn back; and how many of a network do from epoch to epoch.

A weight oscillates whose code goes up and down again: Nagel et al., "Overcoming Oscillations in Quantization-Aware
Training", ICML 2022 (arXiv 2203.11086), section 2.2 and equation 8.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qexp.quantizers.codes import weight_codes
from qexp.quantizers.thresholds import crowds, nearest_thresholds


class Moves(NamedTuple):
    """How the codes of a layer moved, each of the shape of its weight.

    Attributes:
        changed: whether a code is another one than before.
        turned_back: whether it changed in the direction opposite to its previous change, however long ago that was.
        direction: of the latest change, int8: 1 up, -1 down, 0 where there was none yet.
    """

    changed: Tensor
    turned_back: Tensor
    direction: Tensor


def moves(codes: Tensor, before: Tensor, direction: Tensor) -> Moves:
    """Return how codes moved.

    Args:
        codes: now, uint8.
        before: the same before.
        direction: of the latest change until then, int8.
    """
    now = codes.gt(before).to(torch.int8) - codes.lt(before).to(torch.int8)
    changed = now.ne(0)
    return Moves(changed, (now * direction).lt(0), torch.where(changed, now, direction))


class OscillationMeter:
    """Compares the codes of all weights of a model with those it saw the last time.

    Args:
        model: with its quantizers; a float net has no codes, and nothing is measured.

    Attributes:
        layers: `layer/weight/changed` and `layer/weight/turned_back` -> percent of its weights, as measured the last
            time; empty where nothing was.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self._codes: dict[str, Tensor] = {}  # layer -> codes of the last time
        self._directions: dict[str, Tensor] = {}
        self.layers: Mapping[str, float] = {}

    @torch.no_grad()
    def measure(self) -> Mapping[str, float] | None:
        """Return what percentage `changed` and `turned_back` since the last call; None at first, or without codes.

        Beside them the crowd at the thresholds: how many weights are `within_1e-6` and `within_1e-5` steps of one.
        """
        found, is_first = weight_codes(self.model), not self._codes
        if not found:
            return None
        counts = []
        for name, codes in found.items():
            before = self._codes.get(name, codes)
            direction = self._directions.get(name)
            moved = moves(codes, before, torch.zeros_like(codes, dtype=torch.int8) if direction is None else direction)
            self._codes[name], self._directions[name] = codes, moved.direction
            counts.append(torch.stack([moved.changed.sum(), moved.turned_back.sum()]))
        if is_first:
            return None
        moved_codes: list[list[int]] = torch.stack(counts).tolist()
        self.layers = {
            f"{name}/weight/{what}": 100 * count / found[name].numel()
            for name, own in zip(found, moved_codes, strict=True)
            for what, count in zip(("changed", "turned_back"), own, strict=True)
        }
        changed, turned_back = map(sum, zip(*moved_codes, strict=True))
        weights = sum(codes.numel() for codes in found.values())
        crowd = crowds(list(nearest_thresholds(self.model).values()))
        return {"changed": 100 * changed / weights, "turned_back": 100 * turned_back / weights, **crowd}

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return layer -> its codes and directions."""
        return {name: {"codes": codes, "direction": self._directions[name]} for name, codes in self._codes.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Set them to what `state_dict` returned."""
        device = next(self.model.parameters()).device
        self._codes = {name: own["codes"].to(device) for name, own in state.items()}
        self._directions = {name: own["direction"].to(device) for name, own in state.items()}
