"""How codes move: which change, and which turn back; how many of a network do, from epoch to epoch and step to step.

A weight oscillates whose code goes up and down again: Nagel et al., "Overcoming Oscillations in Quantization-Aware
Training", ICML 2022 (arXiv 2203.11086), section 2.2 and equation 8.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qexp.quantizers.codes import weight_codes
from qexp.quantizers.thresholds import crowds, nearest_thresholds

WATCH = "watch_"  # how the keys of a state begin that are of steps
WATCHED_STEPS = 20  # at the end of an epoch; the codes of a network cost about a fiftieth of a step


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


class _Watch(NamedTuple):
    """A layer over some steps: codes and directions of the last one, and (changed, turned back, steps), summed."""

    codes: Tensor
    direction: Tensor
    counts: Tensor

    def after(self, codes: Tensor) -> "_Watch":
        moved = moves(codes, self.codes, self.direction)
        now = torch.stack([moved.changed.sum(), moved.turned_back.sum(), torch.ones_like(self.counts[2])])
        return _Watch(codes, moved.direction, self.counts + now)


class OscillationMeter:
    """Compares the codes of all weights of a model from epoch to epoch, and from step to step at the end of each.

    Args:
        model: with its quantizers; a float net has no codes, and nothing is measured.

    Attributes:
        layers: `layer/weight/changed` and so on -> percent of its weights, as measured the last time, under the names
            that `measure` has for the network; empty where nothing was.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self._codes: dict[str, Tensor] = {}  # layer -> codes of the last time
        self._directions: dict[str, Tensor] = {}
        self._watches: dict[str, _Watch] = {}  # layer -> the last steps of the epoch under way
        self.layers: Mapping[str, float] = {}

    @torch.no_grad()
    def watch(self, left: int) -> None:
        """See the codes after a step of an epoch with `left` more; its last `WATCHED_STEPS` steps are compared.

        In an epoch of no more steps than that all but the first are.
        """
        if left > WATCHED_STEPS:
            return
        for name, codes in weight_codes(self.model).items():
            begun = self._watches.get(name)
            fresh = torch.zeros_like(codes, dtype=torch.int8), codes.new_zeros(3, dtype=torch.int64)
            self._watches[name] = begun.after(codes) if begun else _Watch(codes, *fresh)

    @torch.no_grad()
    def measure(self) -> Mapping[str, float] | None:
        """Return what percentage `changed` and `turned_back` since the last call; None at first, or without codes.

        After steps that were watched, `changed_per_step` and `turned_back_per_step` are the mean percentages of these:
        the second is what Nagel et al. average as the frequency of oscillation. A change counts as turning back where
        both it and the one that it undoes were watched. Beside them the crowd at the thresholds: how many weights are
        `within_1e-6` and `within_1e-5` steps of one.
        """
        found, is_first = weight_codes(self.model), not self._codes
        if not found:
            return None
        counts = [self._moved(name, codes) for name, codes in found.items()]
        steps, watched = self._watched()
        if is_first:
            return None
        moved: list[list[int]] = torch.stack(counts).tolist()
        sizes = [codes.numel() for codes in found.values()]
        shares = {"changed": [one[0] for one in moved], "turned_back": [one[1] for one in moved]}
        divisors = dict.fromkeys(shares, 1)
        if steps:
            shares |= {f"{name}_per_step": [one[i] for one in watched] for i, name in enumerate(tuple(shares))}
            divisors |= dict.fromkeys(("changed_per_step", "turned_back_per_step"), steps)
        self.layers = {
            f"{layer}/weight/{what}": 100 * own[number] / (size * divisors[what])
            for number, (layer, size) in enumerate(zip(found, sizes, strict=True))
            for what, own in shares.items()
        }
        of_all = {what: 100 * sum(own) / (sum(sizes) * divisors[what]) for what, own in shares.items()}
        return {**of_all, **crowds(list(nearest_thresholds(self.model).values()))}

    def _moved(self, name: str, codes: Tensor) -> Tensor:
        """Take the codes of a layer for those of now; return how many weights (changed, turned back)."""
        before = self._codes.get(name, codes)
        direction = self._directions.get(name)
        moved = moves(codes, before, torch.zeros_like(codes, dtype=torch.int8) if direction is None else direction)
        self._codes[name], self._directions[name] = codes, moved.direction
        return torch.stack([moved.changed.sum(), moved.turned_back.sum()])

    def _watched(self) -> tuple[int, list[list[int]]]:
        """Return (steps, sums of each layer), and begin anew."""
        watches, self._watches = list(self._watches.values()), {}
        sums: list[list[int]] = torch.stack([one.counts for one in watches]).tolist() if watches else []
        return (sums[0][2] if sums else 0), sums

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return layer -> its codes and directions, and where steps are watched what is known of these."""
        own = {name: {"codes": codes, "direction": self._directions[name]} for name, codes in self._codes.items()}
        for name, watch in self._watches.items():
            own.setdefault(name, {}).update({f"{WATCH}{key}": value for key, value in watch._asdict().items()})
        return own

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Set them to what `state_dict` returned."""
        device = next(self.model.parameters()).device
        self._codes = {name: own["codes"].to(device) for name, own in state.items() if "codes" in own}
        self._directions = {name: own["direction"].to(device) for name, own in state.items() if "direction" in own}
        keys = [f"{WATCH}{key}" for key in _Watch._fields]
        watched = {name: own for name, own in state.items() if keys[0] in own}
        self._watches = {name: _Watch(*(own[key].to(device) for key in keys)) for name, own in watched.items()}
