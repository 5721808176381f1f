"""The codes of a network's weights: what it is when hard, as data that can be kept and compared."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from qexp.quantizers.base import Quantizer
from qexp.quantizers.convert import quantized_layers


@torch.no_grad()
def weight_codes(model: nn.Module) -> dict[str, Tensor]:
    """Return layer name -> uint8 codes of its quantized weight, of its shape, on its device."""
    return {
        name: layer.weight_quantizer.codes(layer.weight)[0]
        for name, layer in quantized_layers(model)
        if layer.weight_quantizer is not None
    }


def shift_of_codes(quantizer: Quantizer, levels: Tensor) -> int:
    """Return what to add to codes of these levels, so that a learned bit-width that changes does not change them.

    Grids of all widths have one middle, and the shift is 0 for the widest, which a quantizer was made with.
    """
    if type(quantizer).bits is Quantizer.bits:
        return 0
    return (2**quantizer.most_bits - 1) // 2 - (levels.shape[-1] - 1) // 2


@torch.no_grad()
def steady_codes(model: nn.Module) -> dict[str, Tensor]:
    """Return what `weight_codes` does, shifted where a layer learns its bits: comparable from step to step."""
    layers = quantized_layers(model)
    return {
        name: steady_codes_of(layer.weight_quantizer, layer.weight)
        for name, layer in layers
        if layer.weight_quantizer is not None
    }


def steady_codes_of(quantizer: Quantizer, weight: Tensor) -> Tensor:
    """Return the `steady_codes` of one weight."""
    codes, levels = quantizer.codes(weight)
    shift = shift_of_codes(quantizer, levels)
    return codes + shift if shift else codes


def codes_digest(codes: Mapping[str, Tensor]) -> str | None:
    """Return 16 hexadecimal digits that stand for all codes of a network, None where it has none."""
    if not codes:
        return None
    found = hashlib.sha256()
    for name in sorted(codes):
        found.update(f"{name} {tuple(codes[name].shape)} ".encode())
        found.update(codes[name].cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def packed_codes(model: nn.Module) -> dict[str, Tensor]:
    """Return the packed codes of a network, see `pack_codes`."""
    return pack_codes(weight_codes(model))


def pack_codes(codes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return layer name -> bytes (uint8, one dimension) that hold 8, 4, 2 or 1 codes each, and the first their number.

    The first byte of a layer tells the bits of a code in it; codes follow from the lowest bits up.
    """
    return {name: _packed(own.flatten().cpu()) for name, own in codes.items()}


def _packed(codes: Tensor) -> Tensor:
    largest = int(codes.max()) if codes.numel() else 0
    bits = next(bits for bits in (1, 2, 4, 8) if largest < 2**bits)
    per_byte = 8 // bits
    padded = torch.zeros(-(-len(codes) // per_byte) * per_byte, dtype=torch.uint8)
    padded[: len(codes)] = codes
    columns = padded.view(-1, per_byte)
    whole = sum(columns[:, place] << (bits * place) for place in range(per_byte))
    return torch.cat([torch.tensor([bits], dtype=torch.uint8), torch.as_tensor(whole, dtype=torch.uint8)])


def codes_that_differ(codes: Mapping[str, Tensor], packed: Mapping[str, Tensor]) -> dict[str, int]:
    """Return layer name -> how many of its codes differ from packed ones; layers that agree are left out.

    A layer that only one of the two has, or that has another size, differs in all its codes.
    """
    found = {}
    for name in sorted({*codes, *packed}):
        own = codes.get(name, torch.zeros(0, dtype=torch.uint8)).flatten().cpu()
        kept = _unpacked(packed[name], len(own)) if name in packed else None
        count = len(own) if kept is None else int((own != kept).sum())
        if count or name not in codes:
            found[name] = count
    return found


def _unpacked(packed: Tensor, count: int) -> Tensor | None:
    """Return `count` codes, None where the bytes cannot be of so many."""
    bits = int(packed[0]) if packed.dtype == torch.uint8 and packed.dim() == 1 and len(packed) else 0
    if bits not in (1, 2, 4, 8) or len(packed) != 1 - (-count // (8 // bits)):
        return None
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
    return ((packed[1:, None] >> shifts) & (2**bits - 1)).flatten()[:count]
