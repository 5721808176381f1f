"""Weights put at known distances from the thresholds of their quantizer."""

import torch
from torch import Tensor

from qexp.quantizers import Quantizer
from support import methods

PLANTED = {0.0: 7, 3e-7: 8, 5e-6: 9}  # distance in steps -> how many weights
FAR = 0.02  # all others are further away


def plant(quantizer: Quantizer, weight: Tensor) -> Tensor:
    """Return the weight, in double precision, with its first values at the distances of PLANTED and no other near.

    What decides the thresholds is a function of all weights, which are therefore moved again until all is at rest.
    """
    weight = weight.double().flatten()
    count = sum(PLANTED.values())
    sides = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(count)[:count]
    aims = torch.tensor([d for d, n in PLANTED.items() for _ in range(n)], dtype=torch.float64) * sides
    for _ in range(60):
        before, bins = weight.clone(), quantizer.bins(weight)
        middles = (bins.thresholds[1:] + bins.thresholds[:-1]) / 2
        nearest = bins.thresholds[torch.bucketize(weight, middles)]
        offset = (weight - nearest) / bins.step
        is_near = offset.abs() < 2 * FAR
        is_near[:count] = False
        weight = torch.where(is_near, nearest + 3 * FAR * bins.step, weight)
        which = torch.arange(count) % len(bins.thresholds)
        weight[:count] = bins.thresholds[which] + aims * bins.step
        if torch.equal(weight, before):
            break
    return weight


def planted(name: str, bits: int, *, shape: tuple[int, ...] = (16, 8, 3, 3)) -> tuple[Quantizer, Tensor]:
    """Return a weight quantizer of a method in evaluation mode, and a weight with the values of PLANTED."""
    quantizer = methods.build(name, "weight", bits)
    weight = methods.sample("weight", *shape, seed=1).double()
    quantizer.double().calibrate(weight)
    quantizer.eval()
    return quantizer, plant(quantizer, weight).reshape(shape)
