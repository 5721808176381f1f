"""The error of mixed weights against the temperature that mixes them: Figure 2 of the DQA paper (arXiv 2103.13322).

Attention is fixed, a = softmax(alpha / T), without the normalization of alpha that DQA trains with. The error is the
mean of |w - sum_k a_k Q_k(w)|. At high T it is that of the plain average of the grids, at low T that of the lowest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qexp.figures.chart import Band, Chart, Curve, Dots, Mark, Panel
from qexp.quantizers.grids import make_mix

SAMPLES = 200_000
SEEDS = range(8)
HIGHEST, LOWEST, COUNT = 100.0, 0.03, 41  # temperatures


@dataclass(frozen=True)
class FixedMix:
    """Grids mixed by a fixed alpha.

    Attributes:
        label: of its curve.
        entries: the grids, lowest bit-width first, as a method's option `mix` names them.
        alpha: one number for each.
        computed: T -> the error as it was computed independently of qexp.
    """

    label: str
    entries: tuple[str, ...]
    alpha: tuple[float, ...]
    computed: dict[float, float]


# The paper prints no numbers for its figure. These come from a computation of its setting that shares no code with
# qexp: 200,000 standard normal samples of an unknown seed, min-max grids, no normalization of alpha.
BR_MIX = FixedMix(
    "BR: 2 bits and float, alpha 3/4, 1/4",
    ("minmax@2", "fp"),
    (3 / 4, 1 / 4),
    {100.0: 0.430, 10.0: 0.440, 1.0: 0.534, 0.5: 0.627, 0.2: 0.793, 0.1: 0.852, 0.03: 0.858},
)
DQA_MIX = FixedMix(
    "DQA: 2, 4 and 8 bits, alpha 4/7, 2/7, 1/7",
    ("minmax@2", "minmax@4", "minmax@8"),
    (4 / 7, 2 / 7, 1 / 7),
    {100.0: 0.298, 10.0: 0.304, 1.0: 0.367, 0.5: 0.441, 0.2: 0.638, 0.1: 0.802, 0.03: 0.858},
)


def temperatures() -> list[float]:
    """Return the temperatures of the curves, falling, evenly spaced on a logarithmic axis."""
    return [HIGHEST * (LOWEST / HIGHEST) ** (step / (COUNT - 1)) for step in range(COUNT)]


def mixing_errors(mix: FixedMix, weights: Tensor, at: Sequence[float]) -> list[float]:
    """Return mean |w - q(T)| at each temperature.

    Args:
        mix: grids and alpha.
        weights: (N,), which also give the ranges of the grids.
        at: temperatures.
    """
    members = make_mix(mix.entries, of_weights=True, sawb="search")
    grids = [member.grid.scaled(member.range_estimator(weights)).to_levels(weights) for member in members]
    apart = torch.stack(grids) - weights  # the mixing weights add up to 1
    shares = torch.softmax(torch.tensor(mix.alpha) / torch.tensor(list(at))[:, None], -1)
    return [float((share @ apart).abs().mean(dtype=torch.float64)) for share in shares]


def mixing_error_chart() -> Chart:
    """Return Figure 2 of the DQA paper."""
    at, marks = temperatures(), list[Mark]()
    drawn = [torch.randn(SAMPLES, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
    for mix in (BR_MIX, DQA_MIX):
        found = torch.tensor([mixing_errors(mix, weights, at) for weights in drawn], dtype=torch.float64)
        marks += [
            Band(mix.label, at, found.amin(0).tolist(), found.amax(0).tolist()),
            Curve(mix.label, at, found.mean(0).tolist()),
        ]
    for name, mix in (("BR", BR_MIX), ("DQA", DQA_MIX)):
        label = f"{name}, computed independently of qexp"
        marks.append(Dots(label, list(mix.computed), list(mix.computed.values()), is_hollow=True))
    panel = Panel("", "temperature T", "mean |w - q(T)|", marks, x_scale="log", y_limits=(0.0, 1.0))
    caption = [
        f"{SAMPLES:,} standard normal samples, min-max grids, a = softmax(alpha / T): the mean of seeds {SEEDS[0]} to "
        f"{SEEDS[-1]}, and the band from the lowest to the highest. The range, and with it a whole curve, scales with "
        "the two most extreme samples.",
        "The paper prints no numbers for its Figure 2, and names neither weights nor grids. Hollow: not its values, "
        "but those of a computation that shares no code with qexp (as many samples, one unknown seed).",
        "Alpha of DQA, printed [4/7, 2/4, 1/7], is read as [4/7, 2/7, 1/7], which adds up to 1.",
    ]
    return Chart("Error of mixed weights (DQA paper, Figure 2)", [panel], caption=caption)
