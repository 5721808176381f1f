"""How the mean of a small grid under logistic noise follows a value and the noise, by the edges of its bins."""

from collections.abc import Iterator

import torch
from torch import Tensor

from qexp.quantizers.numerics import Scalar, add_product_


def mean_slopes(u: Tensor, points: Scalar, width: Scalar, most: int) -> tuple[Tensor, Tensor]:
    """Return the derivatives of the mean point by the value and by log sigma, both of the shape of `u`.

    With c = S(edge - value), the mean of the points k is ((k_high c_last + |k_low| c_first) - sum of the inner c) /
    (c_last - c_first), summed by parts; an edge t away from the value adds phi(t) and t phi(t), phi = S' = c - c^2.

    Args:
        u: value minus the middle of the grid, in units of sigma.
        points: how many there are.
        width: distance of neighbouring points, in the same units.
        most: how many points there may be at most: a number, where `points` may be a tensor.
    """
    v = u.abs()  # on the upper side, where no difference of two c is one of large numbers
    highest, end = (points - 1) / 2, points / 2 * width
    last, first = (end - v).sigmoid_(), (-end - v).sigmoid_()
    mean, mass = (last + first).mul_(highest), last - first
    slope, spread = torch.zeros_like(v), torch.zeros_like(v)
    for edge, share in _inner_edges(points, width, most):
        c = (edge - v).sigmoid_()
        add_product_(mean, c, -share)
        phi = c.addcmul_(c, c, value=-1)
        add_product_(slope, phi, share)
        add_product_(spread, phi, share * edge)
    mean.div_(mass)
    above = last.addcmul_(last, last, value=-1).mul_(mean - highest)
    below = first.addcmul_(first, first, value=-1).mul_(mean + highest)
    slope.add_(above).sub_(below).div_(mass)
    add_product_(spread, above.add_(below), end)
    return slope, spread.div_(mass).addcmul_(v, slope, value=-1).mul_(u.sign())


def _inner_edges(points: Scalar, width: Scalar, most: int) -> Iterator[tuple[Scalar, Scalar]]:
    """Yield the edges between bins, from the middle of the grid, each with 1; with 0 where there may be fewer bins."""
    for j in range(1, most):
        share = (points - j).clamp(0, 1) if isinstance(points, Tensor) else float(j < points)
        if isinstance(share, Tensor) or share:
            yield (j - points / 2) * width, share
