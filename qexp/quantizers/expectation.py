"""How the mean of a small grid under logistic noise follows a value and the noise, by the edges of its bins."""

import torch
from torch import Tensor

from qexp.quantizers.numerics import Scalar


def mean_slopes(u: Tensor, points: Scalar, width: Scalar, most: int) -> tuple[Tensor, Tensor]:
    """Return the derivatives of the mean point by the value and by log sigma, both of the shape of `u`.

    With c = S(edge - value), the mean of the points k is ((k_high c_last + |k_low| c_first) - sum of the inner c) /
    (c_last - c_first), summed by parts; an edge t away from the value adds phi(t) and t phi(t), phi = S'.

    Args:
        u: value minus the middle of the grid, in units of sigma.
        points: how many there are.
        width: distance of neighbouring points, in the same units.
        most: how many points there may be at most: a number, where `points` may be a tensor.
    """
    v = u.abs()  # on the upper side, where no difference of two c is one of large numbers
    highest = (points - 1) / 2
    first, phi_first, t_first = _edge(-points / 2 * width - v)
    last, phi_last, t_last = _edge(points / 2 * width - v)
    mean, slope, spread = first.add(last).mul_(highest), torch.zeros_like(v), torch.zeros_like(v)
    for j in range(1, most):
        if isinstance(points, Tensor) or j < points:
            c, phi, t_phi = _edge((j - points / 2) * width - v)
            if isinstance(points, Tensor):  # whether there is such an edge
                c, phi, t_phi = (own.mul_(points > j) for own in (c, phi, t_phi))
            mean.sub_(c)
            slope.add_(phi)
            spread.add_(t_phi)
    mass = last.sub_(first).reciprocal_()
    mean.mul_(mass)
    above, below = highest - mean, mean.add_(highest)
    slope.addcmul_(above, phi_last, value=-1).addcmul_(below, phi_first, value=-1).mul_(mass)
    spread.addcmul_(above, t_last, value=-1).addcmul_(below, t_first, value=-1).mul_(mass)
    return slope, spread.mul_(u.sign())


def _edge(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return S, S' and t S' of an edge that lies t above the values; the last one in place of `t`."""
    c = t.sigmoid()
    phi = torch.addcmul(c, c, c, value=-1)
    return c, phi, t.mul_(phi)
