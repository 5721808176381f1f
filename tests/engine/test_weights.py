"""State dicts: fit whole or are refused by name, and hold tensors only."""

import pytest
import torch
from torch import nn

from qexp.engine import weights
from qexp.utils.errors import UsageError


def test_loading_names_what_does_not_fit():
    """Missing and unexpected keys and other shapes, in one line."""
    state = nn.Linear(4, 3).state_dict() | {"extra": torch.zeros(1)}
    del state["bias"]
    state["weight"] = torch.zeros(3, 5)
    with pytest.raises(
        UsageError, match=r"missing: bias; unexpected: extra; other shapes: weight \(3, 5\) instead of \(3, 4\)"
    ):
        weights.load_into(nn.Linear(4, 3), state, "x.pt")


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize("content", [Evil(), b"not a checkpoint", {"model": 3}])
def test_only_tensors_are_loaded(tmp_path, content):
    """A pickle that would run code, garbage and other data are refused in one line."""
    path = tmp_path / "x.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UsageError, match="x.pt") as caught:
        weights.load_state(path)
    assert "\n" not in str(caught.value)
