"""Whether the weights of a network have the codes that its checkpoint records."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from qexp import quantizers
from qexp.utils.text import differing_codes


def codes_as_data(model: nn.Module, recorded: Mapping[str, Tensor] | None) -> dict[str, Any]:
    """Return `codes`, their digest, and `codes_that_differ`, by layer; None where none are recorded."""
    codes = quantizers.weight_codes(model)
    differing = None if recorded is None else quantizers.codes_that_differ(codes, recorded)
    return {"codes": quantizers.codes_digest(codes), "codes_that_differ": differing}


def code_warning(model: nn.Module, recorded: Mapping[str, Tensor] | None, source: object) -> str | None:
    """Return a line that says which codes are not as recorded, None where all are, or none are recorded."""
    found = codes_as_data(model, recorded)["codes_that_differ"]
    return f"warning: {differing_codes(found, source)}" if found else None
