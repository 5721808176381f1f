"""How the mean of a small grid under logistic noise follows a value and the noise, by the edges of its bins."""

import torch
from torch import Tensor

from qexp.quantizers.numerics import Scalar


def mean_slopes(u: Tensor, count: int, width: Scalar) -> tuple[Tensor, Tensor]:
    """Return the derivatives of the mean point by the value and by log sigma, both of the shape of `u`.

    With c = S(edge - value), the mean of the points k is ((k_high c_last + |k_low| c_first) - sum of the inner c) /
    (c_last - c_first), summed by parts; an edge t away from the value adds phi(t) and t phi(t), phi = S'.

    Args:
        u: value minus the middle of the grid, in units of sigma.
        count: how many points.
        width: distance of neighbouring points, in the same units.
    """
    v, highest = u.abs(), (count - 1) / 2  # on the upper side, where no difference of two c is one of large numbers
    mean, slope, spread = (torch.zeros_like(v) for _ in range(3))
    ends = []
    for j in range(count + 1):
        t = (j - count / 2) * width - v
        c = t.sigmoid()
        phi = torch.addcmul(c, c, c, value=-1)
        if j in (0, count):
            ends.append((c, phi, t.mul_(phi)))
        else:
            mean.sub_(c)
            slope.add_(phi)
            spread.addcmul_(t, phi)
    (first, phi_first, t_first), (last, phi_last, t_last) = ends
    mass = last.sub(first).reciprocal_()
    mean.add_(first.add_(last), alpha=highest).mul_(mass)
    above, below = highest - mean, mean.add_(highest)
    slope.addcmul_(above, phi_last, value=-1).addcmul_(below, phi_first, value=-1).mul_(mass)
    spread.addcmul_(above, t_last, value=-1).addcmul_(below, t_first, value=-1).mul_(mass)
    return slope, spread.mul_(u.sign())
