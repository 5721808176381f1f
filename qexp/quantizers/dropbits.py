"""DropBits on SRQ's weights, and bit-widths that it learns (arXiv 1911.12990; CPQ with Bit-Drop, 2109.02100).

A reading, not verified by the authors' code: neither the method sections nor any code of the two papers could be had.

While training, levels of bits (or pairs of points) of a layer's grid are dropped at random, by masks that all weights
of the layer share: hard concrete gates Z, drawn once per step. The most probable point under Z_i pi_i / sum_j Z_j pi_j
is taken; the gradient is SRQ's, of these probabilities. Level l = 3 .. b owns the points 2^(l-2) <= |k| <= 2^(l-1)-1,
those that l bits have and l-1 bits lack; -1, 0 and 1 are always kept. Evaluation uses all points.

Learned bit-widths: a penalty on P(Z_l != 0) lets levels go. The width is 2 and one more for each level kept, up to the
first that is not; it is what evaluation uses, and training too once the masks are frozen. Inputs are SRQ's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import torch
from torch import Tensor, nn

from qexp.quantizers.base import LayerInfo, Method, Quantizer
from qexp.quantizers.dropping import Sharing, drawn_masks, dropped, kept_probability, owners
from qexp.quantizers.numerics import Scalar, scalar
from qexp.quantizers.srq import Backward, SRQQuantizer
from qexp.utils.types import Fraction, NonNegative, Progress, Range

Keep = Annotated[float, Range(above=0, high=0.99)]  # logits end at log 100


class DropBitsQuantizer(SRQQuantizer):
    """Weights whose points are dropped at random while training; evaluated with all of them. The masks are constant.

    Args:
        bits: at least 3; of 2 bits, nothing can be dropped.
        sharing: what has a mask of its own, a level of bits or a pair of points.
        keep: sigmoid of the logits at the beginning.
        backward, mask_backward: which probabilities have a gradient, for all else and for the masks.
    """

    is_random = True
    logits: Tensor
    owner: Tensor

    def __init__(self, bits: int, *, sharing: Sharing, keep: float, backward: Backward, mask_backward: Backward):
        super().__init__(bits, of_inputs=False, backward=backward)
        self.owner_numbers, self.mask_backward = owners(bits, sharing), mask_backward
        self.register_buffer("owner", torch.tensor(self.owner_numbers), persistent=False)
        self._keep_logits(torch.full((1 + max(self.owner_numbers),), math.log(keep / (1 - keep))))

    def _keep_logits(self, logits: Tensor) -> None:
        self.register_buffer("logits", logits, persistent=False)

    @property
    def is_dropping(self) -> bool:
        """Whether masks are drawn."""
        return self.training

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_dropping:
            return super().forward(x)
        logits = self.mask_logits()
        masks = drawn_masks(logits, self.noise.uniform(len(logits), logits))
        return dropped(
            *(x, self.alpha, self.sigma, masks, self.owner),
            owner_numbers=self.owner_numbers,
            backward=self.backward,
            mask_backward=self.mask_backward,
        )

    def mask_logits(self) -> Tensor:
        """Return the logits that masks are drawn from."""
        return self.logits


class LearnedMasks(DropBitsQuantizer):
    """DropBits whose logits are learned, until they are frozen.

    Args:
        until: fraction of the training after which the logits are constant.
    """

    roles = SRQQuantizer.roles | {"logits": "mask"}

    def __init__(self, bits: int, *, until: float, **options: Any):
        super().__init__(bits, **options)
        self.until, self.is_frozen = until, False

    def _keep_logits(self, logits: Tensor) -> None:
        self.logits = nn.Parameter(logits)

    def anneal(self, progress: Progress) -> None:
        self.is_frozen = progress.step > self.until * progress.steps

    def mask_logits(self) -> Tensor:
        return self.logits.detach() if self.is_frozen else self.logits

    def stats(self) -> dict[str, Tensor]:
        return super().stats() | {f"logit_{mask}": logit for mask, logit in enumerate(self.logits.detach())}


class LearnedBits(LearnedMasks):
    """Weights with a bit-width that is learned: 2, and one more for every level kept up to the first that is not.

    Args:
        cost: what P(Z != 0) of a level adds to the loss.
    """

    costs: Tensor
    points: Tensor  # (bits - 2,), how many of positive k each level has

    def __init__(self, bits: int, *, cost: float, **options: Any):
        super().__init__(bits, **options)
        self.register_buffer("costs", torch.full_like(self.logits.detach(), cost), persistent=False)
        self.register_buffer("points", 2.0 ** torch.arange(1, bits - 1), persistent=False)

    def _kept(self) -> Tensor:
        """Return for each level whether it and all below it are kept, as 1 or 0: the noise-free gate is above 1/2."""
        return (self.logits.detach() > 0).to(self.points.dtype).cumprod(0)

    @property
    def bits(self) -> int:
        """The bit-width of now; waits for the device."""
        return 2 + int(self._kept().sum())

    @property
    def k_high(self) -> Scalar:
        return scalar((self._kept() * self.points).sum()) + 1

    @property
    def k_low(self) -> Scalar:
        return -self.k_high

    @property
    def is_dropping(self) -> bool:
        return self.training and not self.is_frozen

    def penalty(self) -> Tensor | None:
        return self.penalties([self])

    @classmethod
    def penalties(cls, quantizers: Sequence[Quantizer]) -> Tensor | None:
        # All at once: an operation on three values costs as much as one on a thousand.
        members = [own for own in cast(Sequence[LearnedBits], quantizers) if not own.is_frozen]
        if not members:
            return None
        kept = kept_probability(torch.cat([own.logits for own in members]))
        return (kept * torch.cat([own.costs for own in members])).sum()

    def stats(self) -> dict[str, Tensor]:
        return super().stats() | {"bits": self._kept().sum() + 2}


@dataclass(frozen=True, kw_only=True)
class DropBits(Method):
    """SRQ whose weights lose points at random, or bits for good; a reading, not verified by the authors' code.

    Attributes:
        backward: which probabilities of weights get a gradient, that of the chosen point or all.
        activation_backward: the same for inputs.
        sharing: what has a mask of its own, each level of bits or each pair of points.
        keep: sigmoid of the logits of the masks at the beginning.
        learn_masks: whether these logits are learned.
        learn_bits: whether they are, with a penalty, and decide on the bit-width of the layer.
        penalty: lambda, the factor of P(Z != 0); only with learn_bits.
        per: what the sum over layers is divided by: their number, or the share of each in the weights.
        masks_until: fraction of the training after which logits, and bit-widths, are constant.
        mask_backward: which probabilities have a gradient for the masks.
    """

    weight_bits = range(2, 9)

    backward: Backward
    activation_backward: Backward
    sharing: Sharing
    keep: Keep
    learn_masks: bool
    learn_bits: bool
    penalty: NonNegative
    per: Literal["layer", "weight"]
    masks_until: Fraction
    mask_backward: Backward

    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> SRQQuantizer:
        self._check_options()
        if bits == 2:
            return SRQQuantizer(bits, of_inputs=False, backward=self.backward)
        options: dict[str, Any] = {
            "sharing": self.sharing,
            "keep": self.keep,
            "backward": self.backward,
            "mask_backward": self.mask_backward,
        }
        if self.learn_bits:
            share = 1 / layer.layers if self.per == "layer" else layer.layer_weights / layer.total_weights
            return LearnedBits(bits, cost=self.penalty * share, until=self.masks_until, **options)
        if self.learn_masks:
            return LearnedMasks(bits, until=self.masks_until, **options)
        return DropBitsQuantizer(bits, **options)

    def _check_options(self) -> None:
        if self.learn_bits and self.sharing == "points":
            raise ValueError("learn_bits=true needs sharing=bits: a bit-width is a number of levels kept")
        if self.learn_bits and self.keep <= 0.5:
            raise ValueError(
                f"learn_bits=true needs keep above 0.5, not {self.keep:g}: at 0.5 a level counts as dropped"
            )

    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> SRQQuantizer:
        return SRQQuantizer(bits, of_inputs=True, backward=self.activation_backward)
