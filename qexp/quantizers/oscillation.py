"""How codes move: which change, and which turn back; how many of a network do, from epoch to epoch and step to step.

A weight oscillates whose code goes up and down again: Nagel et al., "Overcoming Oscillations in Quantization-Aware
Training", ICML 2022 (arXiv 2203.11086), section 2.2 and equation 8.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qexp.quantizers.codes import steady_codes
from qexp.quantizers.thresholds import crowds, nearest_thresholds

WATCH = "steps."  # in a state, of all layers; no layer ends its name with a dot
WATCHED_STEPS = 10  # at the end of an epoch; one costs about a tenth of a step of a small network, less of others


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
    """The weights of all layers, one after the other, over some steps; counts are of steps, at most 255.

    Attributes:
        codes: of the latest step, uint8.
        is_up: whether the latest change was one up, bool.
        has_changed: whether there was one, bool.
        changed: how often a code changed, uint8.
        turned_back: how often it changed against its latest change, uint8.
    """

    codes: Tensor
    is_up: Tensor
    has_changed: Tensor
    changed: Tensor
    turned_back: Tensor

    @classmethod
    def begun(cls, codes: Tensor) -> "_Watch":
        no, zero = torch.zeros_like(codes, dtype=torch.bool), torch.zeros_like(codes)
        return cls(codes, is_up=no, has_changed=no, changed=zero, turned_back=zero)

    def after(self, codes: Tensor) -> "_Watch":
        """Return it one step later: `moves` in fewer passes, since this is done in every step of some."""
        is_changed, is_up = codes.ne(self.codes), codes.gt(self.codes)
        is_back = is_changed & self.has_changed & is_up.ne(self.is_up)
        counts = self.changed + is_changed, self.turned_back + is_back
        return _Watch(codes, torch.where(is_changed, is_up, self.is_up), self.has_changed | is_changed, *counts)


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
        self._watch: _Watch | None = None  # over the last steps of the epoch under way
        self._steps = 0  # that it is over
        self.layers: Mapping[str, float] = {}

    @torch.no_grad()
    def watch(self, left: int) -> None:
        """See the codes after a step of an epoch with `left` more; its last `WATCHED_STEPS` steps are compared.

        In an epoch of no more steps than that all but the first are.
        """
        if left > WATCHED_STEPS or not (found := steady_codes(self.model)):
            return
        codes = torch.cat([own.flatten() for own in found.values()])
        if self._watch is None:
            self._watch, self._steps = _Watch.begun(codes), 0
        else:
            self._watch, self._steps = self._watch.after(codes), self._steps + 1

    @torch.no_grad()
    def measure(self) -> Mapping[str, float] | None:
        """Return what percentage `changed` and `turned_back` since the last call; None at first, or without codes.

        After steps that were watched, `changed_per_step` and `turned_back_per_step` are the mean percentages of these:
        the second is what Nagel et al. average as the frequency of oscillation. A change counts as turning back where
        both it and the one that it undoes were watched. Beside them the crowd at the thresholds: how many weights are
        `within_1e-6` and `within_1e-5` steps of one.
        """
        found, is_first = steady_codes(self.model), not self._codes
        if not found:
            return None
        counts = torch.stack([self._moved(name, codes) for name, codes in found.items()])
        sizes = [codes.numel() for codes in found.values()]
        steps, watched = self._watched(sizes)
        if is_first:
            return None
        divisors = {"changed": 1, "turned_back": 1, "changed_per_step": steps, "turned_back_per_step": steps}
        moved: list[list[int]] = torch.cat([counts, watched], 1).tolist()
        shares = {what: [own[at] for own in moved] for at, what in enumerate(divisors) if at < 2 or steps}
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

    def _watched(self, sizes: Sequence[int]) -> tuple[int, Tensor]:
        """Return over how many steps, and for each layer how often weights changed and turned back; begin anew."""
        watch, steps, self._watch = self._watch, self._steps, None
        if watch is None:
            return 0, torch.zeros(len(sizes), 2, dtype=torch.int64, device=next(self.model.parameters()).device)
        counts = (watch.changed, watch.turned_back)
        return steps, torch.stack([torch.stack([own.sum() for own in one.split(list(sizes))]) for one in counts], 1)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return layer -> its codes and directions; where steps are watched, what is known of these as well."""
        own = {name: {"codes": codes, "direction": self._directions[name]} for name, codes in self._codes.items()}
        if self._watch is not None:
            own[WATCH] = {**self._watch._asdict(), "steps": torch.tensor(self._steps)}
        return own

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Set them to what `state_dict` returned."""
        device = next(self.model.parameters()).device
        layers = {name: own for name, own in state.items() if name != WATCH}
        self._codes = {name: own["codes"].to(device) for name, own in layers.items()}
        self._directions = {name: own["direction"].to(device) for name, own in layers.items()}
        self._watch = None
        if watch := state.get(WATCH):
            self._watch = _Watch(*(watch[key].to(device) for key in _Watch._fields))
            self._steps = int(watch["steps"])
