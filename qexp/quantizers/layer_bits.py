"""The bit-widths of single layers: what `keep_float` and `layer_bits` say of which layer."""

import fnmatch
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qexp.quantizers.base import FLOAT_BITS, Method

Side = Literal["weight", "input"]
WIDTHS = tuple(map(str, (*range(1, 9), FLOAT_BITS)))
SIDES: tuple[Side, ...] = ("weight", "input")


@dataclass
class Choice:
    """What a layer is to have.

    Attributes:
        bits: of its weight and its input, 32 for float.
        entries: the options that decided, for each of the two sides; empty where none did.
    """

    bits: tuple[int, int]
    entries: tuple[str, str] = ("", "")

    def set_side(self, side: Side, bits: int, entry: str) -> None:
        """Let an entry decide on one side."""
        first = side == "weight"
        self.bits = (bits, self.bits[1]) if first else (self.bits[0], bits)
        self.entries = (entry, self.entries[1]) if first else (self.entries[0], entry)


def choose_bits(
    names: Sequence[str],
    bits: tuple[int, int],
    keep_float: Sequence[str],
    layer_bits: Sequence[str],
    fixed: Collection[str] = (),
) -> dict[str, Choice]:
    """Return for each layer what its two sides are to have.

    Args:
        names: of the layers, in their order.
        bits: of weights and inputs of a layer that no entry names.
        keep_float: `first`, `last`, a name or a pattern such as `layer1.*`; followed by `:weight` or `:input` for that
            side only.
        layer_bits: the same, followed by `:BITS`, such as `layer1.*:4` or `last:input:8`; the last entry that fits a
            side decides.
        fixed: names of layers that cannot be quantized, which no entry of layer_bits may name alone but as float.

    Raises:
        ValueError: an entry that fits no layer, says no bits, or contradicts keep_float.
    """
    found = {name: Choice(bits) for name in names}
    for entry in keep_float:
        for name, side in _sides("keep_float", entry, entry, names):
            found[name].set_side(side, FLOAT_BITS, f"keep_float {entry}")
    for entry in layer_bits:
        target, _, text = entry.rpartition(":")
        if not target or text not in WIDTHS:
            forms = "NAME:BITS, NAME:weight:BITS or NAME:input:BITS"
            raise ValueError(f"layer_bits entry '{entry}' is not {forms} with 1 to 8 bits, or 32 for float")
        sides = list(_sides("layer_bits", entry, target, names))
        if int(text) != FLOAT_BITS and all(name in fixed for name, _ in sides):
            raise ValueError(f"layer_bits entry '{entry}' names only layers that cannot be quantized: {sides[0][0]}")
        for name, side in sides:
            before = found[name].entries[SIDES.index(side)]
            if before.startswith("keep_float"):
                if int(text) != FLOAT_BITS:
                    which = f"{name or 'the model'}'s {side}, which {before} leaves float"
                    raise ValueError(f"layer_bits entry '{entry}' names {which}; take it out of keep_float")
                continue  # float it is, and for that reason
            found[name].set_side(side, int(text), f"layer_bits {entry}")
    return found


def check_choices(method: Method, bits: tuple[int, int], choices: Mapping[str, Choice]) -> None:
    """Raise ValueError if a method lacks the usual bits, or those of a layer, with the entries that ask for these."""
    method.check(*bits)
    known = {bits}
    for choice in choices.values():
        if choice.bits not in known:
            known.add(choice.bits)
            try:
                method.check(*choice.bits)
            except ValueError as error:
                raise ValueError(f"{', '.join(dict.fromkeys(filter(None, choice.entries)))}: {error}") from error


def _sides(option: str, entry: str, text: str, names: Sequence[str]) -> Iterator[tuple[str, Side]]:
    """Yield (name, side) for all that an entry fits."""
    pattern, _, side = text.partition(":")
    if side and side not in SIDES:
        raise ValueError(f"{option} entry '{entry}': a layer has the sides weight and input")
    places = {"first": names[:1], "last": names[-1:]}
    found = places.get(pattern) or fnmatch.filter(names, pattern)
    if not found:
        some = ", ".join(names if len(names) <= 6 else [*names[:4], "...", names[-1]])
        raise ValueError(f"{option} entry '{entry}' fits no layer; layers: {some}")
    for name in found:
        for own in SIDES:
            if side in ("", own):
                yield name, own
