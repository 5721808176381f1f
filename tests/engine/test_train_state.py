"""The state of a training comes back as it was."""

import copy
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qexp.engine.checkpointer import Checkpointer
from support.fitting import Fixed
from support.steps import take
from support.trained import equal, training


@given(steps=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_a_state_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, steps: int, seed: int) -> None:
    """Written, read, and put into another network with other generators: the same state again."""
    folder = tmp_path_factory.mktemp("round")
    begun = training(seed)
    for images, labels in (Fixed().batches * 2)[:steps]:
        begun.count(take(begun.step, images, labels), labels, 100)
    Checkpointer(folder, identity={"seed": seed}).save(begun)
    state = copy.deepcopy((begun.model.state_dict(), begun.state_dict()))
    other = training(seed + 1)
    np.random.rand(3), random.random()
    Checkpointer(folder, identity={"seed": seed}).restore(other, lambda done: None)
    found = (other.model.state_dict(), other.state_dict())
    for one in (state[1], found[1]):
        one.pop("seconds")
    assert equal(state, found)
