"""Vectors of ten methods from an independent literal implementation, float64 (golden/family_public.npz).

Not recorded from published code: the printed formulas, or the reading that a method's card tells, differentiated by
autograd. Noise is an input. Fields: x (or w, a) and go = dL/dy, y, g<name> = dL/d<name>, summed for scalars; `kind`
0: k = -2^(b-1) .. 2^(b-1)-1, 1: 0 .. 2^b-1, 2: -(2^(b-1)-1) .. 2^(b-1)-1; matrices are flat, row by row.
"""

from functools import cache
from typing import Any

import numpy as np

from support.methods import GOLDEN


@cache
def _cases() -> dict[str, list[dict[str, Any]]]:
    archive, fields = np.load(GOLDEN / "family_public.npz"), {}
    for line in archive["layout"]:
        method, name, lengths = str(line).split()
        values = archive[f"{method}.{name}"]
        parts = list(values) if lengths == "-" else np.split(values, np.cumsum(archive[lengths])[:-1])
        fields.setdefault(method, {})[name] = parts
    return {
        method: [dict(zip(parts, case, strict=True)) for case in zip(*parts.values(), strict=True)]
        for method, parts in fields.items()
    }


def family(method: str) -> list[dict[str, Any]]:
    """Return the cases of a method; a field with one number per case is a number, any other a flat array.

    Args:
        method: rq, rqlocal, srq, dropbits, lsqplus, dorefa, pact, qil, bitpruning, dqu3, dqp3 or inq.
    """
    return _cases()[method]
